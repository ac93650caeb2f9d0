"""History: the generations that were in force, and what it takes to go back to one of them."""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hotconf.errors import UnknownGeneration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from hotconf.reload.snapshot import Snapshot
    from hotconf.values.layer import Readings
    from hotconf.values.report import Report

S = TypeVar("S")


@dataclass(frozen=True, slots=True, eq=False)
class Generation(Generic[S]):
    """One generation that was or is in force: what it held, what asked for it, and what it changed.

    `changed` are dotted paths; `note` says more, such as where a rollback went. Parts that did not change are the same
    objects in every generation. `readings` are what the sources had said.
    """

    snapshot: Snapshot[S]
    triggers: tuple[str, ...]
    changed: tuple[str, ...]
    note: str
    readings: Readings = field(repr=False)

    @property
    def generation(self) -> int:
        """Its number."""
        return self.snapshot.generation

    @property
    def loaded_at(self) -> datetime:
        """When it was swapped in, in UTC."""
        return self.snapshot.loaded_at

    @property
    def settings(self) -> S:
        """The settings themselves."""
        return self.snapshot.settings

    @property
    def digest(self) -> str:
        """A short keyed name for the values, secrets included."""
        return self.snapshot.digest

    @property
    def document(self) -> Any:
        """The whole as JSON shows it, secrets masked. Shared: never change it."""
        return self.snapshot.document


@dataclass(frozen=True, slots=True)
class HeldRollback:
    """A rollback that stays in force while the sources keep what was rolled back from. `generation` is in force."""

    generation: int
    reason: str = "the sources hold what was rolled away from: change them, or force the reload"

    def __str__(self) -> str:
        return f"generation {self.generation} was rolled back to and is held, since {self.reason}"


class History(Generic[S]):
    """The last generations, oldest first; the last one is running. Written by one thread, read from any."""

    def __init__(self, length: int) -> None:
        self._past: deque[Generation[S]] = deque(maxlen=length)

    def __iter__(self) -> Iterator[Generation[S]]:
        return iter(tuple(self._past))

    def add(self, snapshot: Snapshot[S], report: Report, readings: Readings) -> None:
        """Keep what has just been swapped in, without its resources, which close after their last lease."""
        kept = dataclasses.replace(snapshot, resources={})
        self._past.append(Generation(kept, report.triggers, report.changed, report.note, readings))

    def find(self, number: int | None) -> Generation[S]:
        """Return a generation, None for the one before the running one. Raises UnknownGeneration."""
        past = tuple(self._past)
        if number is None and len(past) > 1:
            return past[-2]
        for entry in past:
            if entry.generation == number:
                return entry
        raise UnknownGeneration(number)
