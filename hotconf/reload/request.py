"""Errands: what one reload is for, and what it does beyond reading the sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hotconf.values.times import check_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hotconf.reload.snapshot import Snapshot
    from hotconf.values.layer import Layer


@dataclass(frozen=True, slots=True)
class Rollback:
    """Go back to a generation, None for the one before the running one."""

    generation: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """Merge a patch (RFC 7396) into the overlay.

    `expect` is asked about the snapshot in force when the patch's turn has come. With `confirm`, in seconds, the patch
    is taken back by itself unless it is confirmed in time. Raises TypeError for values that are no mapping, ValueError
    for what is no time.
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
    """Make the patch that waits for it permanent."""


@dataclass(frozen=True, slots=True)
class Revert:
    """Take back the patch that was not confirmed in time."""


@dataclass(frozen=True, slots=True, eq=False)
class Recover:
    """Start from the last known good, since the sources are broken. `layers` are those to start from."""

    layers: Sequence[Layer] = field(repr=False)
    note: str


Edition: TypeAlias = Patch | Confirm | Revert
Operation: TypeAlias = Rollback | Recover | Edition

Phase: TypeAlias = Literal["load", "start", "live"]


@dataclass(frozen=True, slots=True)
class Errand:
    """What one reload is for. `triggers` are what asked for it, in the order they came.

    In phase "load" nobody is asked; in "start" every subscriber is, whatever changed, since they have not seen any
    settings yet; in "live" those whose part changed. A dry run turns back before the swap.
    """

    triggers: tuple[str, ...]
    force: bool = False
    operation: Operation | None = None
    dry_run: bool = False
    phase: Phase = "live"

    @property
    def shared(self) -> bool:
        """Whether one reload can answer several of these: it does nothing but read the sources."""
        return self.operation is None and not self.dry_run
