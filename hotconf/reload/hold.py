"""The hold: a rollback stands while the sources go on saying what was rolled away from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hotconf.values.layer import Layer, SourceReading


@dataclass(slots=True, eq=False)
class Hold:
    """What was rolled away from, with canonical keys, and must not come back by itself; None where nothing is held."""

    away: Sequence[SourceReading] | None = None

    def repels(self, readings: Iterable[SourceReading]) -> bool:
        """Whether the sources go on saying what was rolled away from. Looks at them only where something is held."""
        return self.away is not None and _same_content(self.away, list(readings))

    def settle(self, away: Sequence[SourceReading] | None, readings: Sequence[SourceReading]) -> None:
        """Hold what was gone away from, unless it is what is in force now; None ends it."""
        self.away = None if away is None or _same_content(away, readings) else away

    def amend(self, overlay: SourceReading) -> None:
        """Go by what the overlay reads as from now on: we have written it ourselves. It is the last of the sources."""
        if self.away is not None:
            self.away = [*self.away[:-1], overlay]


def _same_content(before: Sequence[SourceReading], after: Sequence[SourceReading]) -> bool:
    """Whether the sources say the same as before, byte for byte where they can tell."""
    pairs = [[layer for reading in readings for layer in reading.layers] for readings in (before, after)]
    return len(pairs[0]) == len(pairs[1]) and all(map(_same_layer, *pairs))


def _same_layer(before: Layer, after: Layer) -> bool:
    if before is after:
        return True
    known = before.revision or after.revision
    same = before.revision == after.revision if known else before.values == after.values
    return before.source == after.source and same
