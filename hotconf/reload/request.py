"""Requests: what one reload is for, and what it does beyond reading the sources."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hotconf.errors import ReentrantReload
from hotconf.values.times import check_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from hotconf.reload.guard import Expected
    from hotconf.reload.snapshot import Snapshot
    from hotconf.values.layer import Layer, Readings


@dataclass(frozen=True, slots=True)
class Rollback:
    """Go back to a generation, None for the one before the running one."""

    generation: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """Merge a patch (RFC 7396) into the overlay.

    `expect` is asked about the snapshot in force when it is the patch's turn. With `confirm`, in seconds, the patch is
    taken back by itself unless it is confirmed in time.

    Raises:
        TypeError: the values are no mapping.
        ValueError: `confirm` is no finite time.
    """

    values: Mapping[str, Any] = field(repr=False)
    confirm: float | None = None
    expect: Callable[[Snapshot[Any]], bool] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.values, Mapping):
            raise TypeError(f"a patch is a mapping, by the names of settings, and no {type(self.values).__name__}")
        if self.confirm is not None:
            check_seconds("confirm", self.confirm)


@dataclass(frozen=True, slots=True)
class Confirm:
    """Write the patch that waits for it into the overlay's file."""


@dataclass(frozen=True, slots=True)
class Revert:
    """Take back the patch that was not confirmed in time."""


@dataclass(frozen=True, slots=True, eq=False)
class StartFromLastGood:
    """Start from the layers of the last known good, since the sources are broken. `note` says so in the report."""

    readings: Readings = field(repr=False)
    note: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with what is running, in a new engine: resources are built again, nothing is read."""


@dataclass(frozen=True, slots=True, eq=False)
class Rehearse:
    """Read the sources within a context, in which one of them says what it may say next. Only for a dry run."""

    within: AbstractContextManager[None]


@dataclass(frozen=True, slots=True, eq=False)
class BeginOverride:
    """Lay a layer above all sources."""

    layer: Layer = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class EndOverride:
    """Take the layer of a `BeginOverride` away."""

    layer: Layer = field(repr=False)


OverlayOperation: TypeAlias = Patch | Confirm | Revert
Operation: TypeAlias = Rehearse | Rollback | StartFromLastGood | Resume | BeginOverride | EndOverride | OverlayOperation

Phase: TypeAlias = Literal["load", "start", "live"]


@dataclass(frozen=True, slots=True)
class ReloadRequest:
    """What one reload is for. `triggers` are what asked for it, in the order in which they came.

    In phase "load" no subscriber takes part. In "start" every subscriber does, whatever changed, since none has seen
    any settings yet. In "live" those take part whose part changed. A dry run stops before the swap.

    `raises` is true where the caller raises a rejection, which is then not logged as well. `inline` is true where the
    caller runs the reload on the engine's loop and cannot await. `expected` is what ran before the process started.
    """

    triggers: tuple[str, ...]
    force: bool = False
    operation: Operation | None = None
    dry_run: bool = False
    phase: Phase = "live"
    raises: bool = False
    inline: bool = False
    expected: Expected | None = None

    def joined(self, other: ReloadRequest) -> ReloadRequest | None:
        """Return one request for two reloads that only read the sources; None where each needs one of its own."""
        if any(request.operation is not None or request.dry_run for request in (self, other)):
            return None
        triggers = tuple(dict.fromkeys((*self.triggers, *other.triggers)))
        return ReloadRequest(triggers, force=self.force or other.force, raises=self.raises and other.raises)


@dataclass(slots=True, eq=False)
class _UnderWay:
    """One reload under way. A task that it began knows it, also after its end."""

    owner: object
    over: bool = False


_under_way: contextvars.ContextVar[_UnderWay | None] = contextvars.ContextVar("hotconf_reload", default=None)


@contextlib.contextmanager
def under_way(owner: object) -> Iterator[None]:
    """Count every call and task that begins within as a part of a reload of `owner`, until the reload is over."""
    entered = _UnderWay(owner)
    token = _under_way.set(entered)
    try:
        yield
    finally:
        entered.over = True
        _under_way.reset(token)


def refuse_reentry(owner: object) -> None:
    """Raise ReentrantReload where the caller is a part of a reload of `owner`, which would wait for itself."""
    entered = _under_way.get()
    if entered is not None and not entered.over and entered.owner is owner:
        raise ReentrantReload
