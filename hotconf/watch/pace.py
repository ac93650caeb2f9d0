"""The pace: the times of a watcher, and when a hint is due."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from pathlib import Path

STEP = 0.01
"""Seconds between two looks at the queue of events, while something is going on."""

SHORTEST = 0.002
"""Seconds between them at the least; also how long it must be quiet before a hint, however short the debounce."""


class Pace(NamedTuple):
    """The watcher's times, in seconds."""

    debounce: float
    max_wait: float
    poll: float


@dataclass(slots=True)
class PendingHint:
    """The paths of the next hint, and when it is due."""

    pace: Pace
    paths: set[Path] = field(default_factory=set)
    first: float = 0.0
    last: float = 0.0

    def note(self, paths: AbstractSet[Path]) -> None:
        """Add paths. The hint then waits for as long as the debounce says from now, within the longest wait."""
        if not paths:
            return
        self.last = monotonic()
        self.first = self.first if self.paths else self.last
        self.paths |= paths

    @property
    def due(self) -> float:
        """When the hint should be given (monotonic); infinity while it names no path."""
        if not self.paths:
            return float("inf")
        # Events are looked for once a step: that much of the wait is over when they are found.
        quiet = max(SHORTEST, self.pace.debounce - STEP)
        return min(self.last + quiet, self.first + self.pace.max_wait)

    def take(self) -> frozenset[Path]:
        """Return the paths and begin the next hint."""
        taken = frozenset(self.paths)
        self.paths.clear()
        return taken
