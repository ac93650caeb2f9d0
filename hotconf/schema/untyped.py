"""Untyped settings: any file without a class of its own. Keys whose names say secret are masked."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from hotconf.schema.shape import folded

if TYPE_CHECKING:
    from collections.abc import Iterable

SECRET_WORDS = frozenset(
    {"password", "passwd", "passphrase", "secret", "token", "apikey", "privatekey", "credential"},
)
"""What makes a key's name say secret, wherever in it the word stands and however it is written: `DB-Passwords` too."""


class Untyped(BaseModel):
    """Settings with any keys at all. One that holds one of `__secret_words__` is masked with all that lies below it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    __secret_words__: ClassVar[frozenset[str]] = SECRET_WORDS


def untyped(secret_keys: Iterable[str] = ()) -> type[Untyped]:
    """Return a class for files without a class; `secret_keys` are further names to be masked."""
    words = frozenset(word for key in secret_keys if (word := folded(key)))
    return _with_words(words) if words else Untyped


@functools.lru_cache(maxsize=64)
def _with_words(words: frozenset[str]) -> type[Untyped]:
    # The same class for the same words: settings of two classes have nothing in common.
    return type("Untyped", (Untyped,), {"__secret_words__": SECRET_WORDS | words, "__module__": __name__})
