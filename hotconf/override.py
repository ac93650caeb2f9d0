"""Overrides: settings that differ for a while, for tests. They nest, they are validated, and they leave no trace."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hotconf.layer import Layer
from hotconf.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from hotconf.reload import Reloader

S = TypeVar("S")
F = TypeVar("F", bound="Callable[..., Any]")


class Override(Generic[S]):
    """What `HotConf.override` returns: a context manager and a decorator, for sync and async functions.

    May be entered again after it was left, and is not for two threads at once.
    """

    def __init__(self, reloader: Reloader[S], values: Mapping[str, Any]) -> None:
        self._reloader = reloader
        self._values = values
        self._restore: list[Callable[[], None]] = []

    def __enter__(self) -> None:
        layer = Layer("override", self._values, {(): Origin("override", "override")})
        self._restore.append(self._reloader.override(layer))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore.pop()()

    def __call__(self, function: F) -> F:
        """Return the function with this override around each call."""
        again = functools.partial(Override, self._reloader, self._values)
        wrapped: Any
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapped(*args: Any, **kwargs: Any) -> Any:
                with again():
                    return await function(*args, **kwargs)

        else:

            @functools.wraps(function)
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                with again():
                    return function(*args, **kwargs)

        return wrapped  # type: ignore[no-any-return]
