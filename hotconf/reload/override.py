"""Overrides: settings that differ for a while, for tests. They nest, they are validated, and they leave no trace."""

from __future__ import annotations

import contextlib
import functools
import inspect
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hotconf.errors import ConfigError, Rejected
from hotconf.reload.request import Errand
from hotconf.reload.trip import Trip
from hotconf.schema.keys import with_canonical_keys
from hotconf.values.layer import Layer, Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from hotconf.reload.candidate import Rules
    from hotconf.reload.journal import Journal
    from hotconf.reload.pointer import Pointer

S = TypeVar("S")
F = TypeVar("F", bound="Callable[..., Any]")


class Overrides(Generic[S]):
    """The layers that lie above all sources just now, the last one on top. Laying one is no reload: nobody is asked."""

    def __init__(self, rules: Rules, pointer: Pointer[S], journal: Journal) -> None:
        self._rules = rules
        self._pointer = pointer
        self._journal = journal
        self.layers: tuple[Layer, ...] = ()

    def begin(self, layer: Layer) -> Callable[[], None]:
        """Lay a layer above all sources, at once, and return what takes it back. Raises ConfigError."""
        layer = with_canonical_keys(self._rules.model, layer)
        draft, snapshot = self._pointer.draft, self._pointer.snapshot
        self._lay((*self.layers, layer))
        laid = self._pointer.draft

        def restore() -> None:
            rest = tuple(entry for entry in self.layers if entry is not layer)
            self.layers = rest  # also where the rest does not validate: then the next good reload ends it
            now = self._pointer.snapshot
            untouched = self._pointer.draft is laid
            if untouched and snapshot is not None and now is not None and now.resources is snapshot.resources:
                self._pointer.publish(snapshot, draft)
            else:
                self._lay(rest)  # something was reloaded, or stopped, meanwhile

        return restore

    def renew(self, laid: tuple[Layer, ...]) -> None:
        """Lay them over what has just been swapped in, where one has begun or ended since `laid` were."""
        if self.layers is not laid:
            with contextlib.suppress(ConfigError):
                self._lay(self.layers)

    def _lay(self, layers: tuple[Layer, ...]) -> None:
        if self._pointer.draft is not None:
            try:
                draft = self._rules.overridden(self._pointer.draft, layers)
            except Rejected as rejection:
                raise self._refusal(rejection) from None
            self._pointer.override(draft)
        self.layers = layers

    def _refusal(self, rejection: Rejected) -> ConfigError:
        trip, generation = Trip(Errand(("override",)), self), self._pointer.generation
        details = {"stage": rejection.stage, "faults": rejection.faults}
        return ConfigError(self._journal.report(trip, "rejected", generation=generation, **details))


class Override(Generic[S]):
    """What `HotConf.override` returns: a context manager and a decorator, for sync and async functions.

    May be entered again after it was left, and is not for two threads at once.
    """

    def __init__(self, overrides: Overrides[S], values: Mapping[str, Any]) -> None:
        self._overrides = overrides
        self._values = values
        self._restore: list[Callable[[], None]] = []

    def __enter__(self) -> None:
        layer = Layer("override", self._values, {(): Origin("override", "override")})
        self._restore.append(self._overrides.begin(layer))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore.pop()()

    def __call__(self, function: F) -> F:
        """Return the function with this override around each call. Raises TypeError for what runs after the call."""
        if isinstance(function, type) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            kind = "class" if isinstance(function, type) else "generator"
            raise TypeError(f"a {kind} cannot be decorated with an override: write `with conf.override(...)` inside")
        again = functools.partial(Override, self._overrides, self._values)
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
