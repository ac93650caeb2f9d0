"""Rows of the table, and how samples become a row."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Samples: TypeAlias = "Mapping[str, Sequence[float]]"
"""Measured values by name. Values with the same index were measured one after another."""


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on the figure itself, in the row's unit, or on its ratio to the peer."""

    of: Literal["value", "ratio"]
    bound: float
    at_least: bool = False

    def met(self, *, value: float, ratio: float | None) -> bool:
        """Whether the bound is kept."""
        figure = value if self.of == "value" else ratio
        if figure is None:
            return False
        return figure >= self.bound if self.at_least else figure <= self.bound

    def text(self, unit: str) -> str:
        """Return the bound as the table shows it."""
        return f"{'≥' if self.at_least else '≤'} {self.bound:g} {'times' if self.of == 'ratio' else unit}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `ratio` is hotconf / peer. A row without target only compares.

    A row that could not be measured has no `hotconf`, and its `note` says why.
    """

    work: str
    peer: str
    unit: str
    peer_value: float | None = None
    hotconf: float | None = None
    ratio: float | None = None
    target: Target | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target, or without a figure."""
        if self.target is None or self.hotconf is None:
            return None
        return self.target.met(value=self.hotconf, ratio=self.ratio)

    def as_dict(self) -> dict[str, Any]:
        """Return the row as results.json has it."""
        shown = asdict(self)
        shown["target"] = self.target.text(self.unit) if self.target else None
        return {**shown, "met": self.met}


def compared(work: str, samples: Samples, peer: str, *, unit: str, target: Target | None = None, note: str = "") -> Row:
    """Return the row that compares the samples called "hotconf" with those of a peer.

    The ratio is the median of the ratios of neighbours: what slowed both of a pair down cancels out.
    """
    ours, theirs = samples["hotconf"], samples[peer]
    ratio = median(a / b for a, b in zip(ours, theirs, strict=True)) if all(theirs) else None
    return Row(
        work=work,
        peer=peer,
        unit=unit,
        peer_value=median(theirs),
        hotconf=median(ours),
        ratio=ratio,
        target=target,
        note=note,
    )


def skipped(work: str, peer: str, why: str) -> Row:
    """Return the row of a measurement that this machine cannot make."""
    return Row(work=work, peer=peer, unit="", note=f"skipped: {why}")


def in_turns(work: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call each function once a round, and return the results. A first round is discarded.

    Every round begins with another one, so that no function is always the first.
    """
    samples: dict[str, list[float]] = {name: [] for name in work}
    for function in work.values():
        function()
    for order in itertools.islice(rotations(list(work)), rounds):
        for name in order:
            samples[name].append(work[name]())
    return samples


def rotations(names: Sequence[str]) -> Iterable[Sequence[str]]:
    """Yield the names for ever, each round beginning with the next one."""
    for start in itertools.cycle(range(len(names))):
        yield [*names[start:], *names[:start]]
