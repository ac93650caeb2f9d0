"""Caches of what is known about classes and shapes.

A cache holds the classes that it knows. All are emptied when a configuration is gone, so that its class can be freed:
what another configuration still needs it finds out once more.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

_caches: list[Any] = []


def cached(function: F) -> F:
    """Cache what a function returns for its arguments, until `forget`."""
    cache = functools.lru_cache(maxsize=4096)(function)
    _caches.append(cache)
    return cast("F", cache)


def forget() -> None:
    """Empty every cache."""
    for cache in _caches:
        cache.cache_clear()
