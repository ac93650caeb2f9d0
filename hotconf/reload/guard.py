"""The guard: no value vanishes by accident.

An emptied file, or one cut short at a place where it is still valid, passes every validation when fields have defaults.
So a source that held values must go on holding some, and a reload may not lose more than a share of all leaves at once.
An operator who means it forces the reload.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import hotconf.values.keypath as keypath
from hotconf.values.layer import Origin
from hotconf.values.merge import SCALARS, are_scalars, leaves, merge, origin_in
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import Layer, SourceReading

FEWEST = 10
"""Leaves below which the share is not looked at: of three values, losing two is an edit."""

_NAMED = 5
_FORCE = "if that is meant, force the reload"
_GONE = f"is gone or empty, and held values; {_FORCE}"


def guard(running: Sequence[SourceReading], candidate: Sequence[SourceReading], share: float) -> list[Fault]:
    """Return the faults of losing what a candidate loses. Readings come in the order of the sources."""
    pairs = list(zip(running, candidate, strict=True))
    gone = sorted(name for held, now in pairs for name in held.files - now.files)
    if gone:
        return [Fault("", _GONE, Origin("file", name)) for name in gone]
    emptied: list[Fault] = []
    for held, now in pairs:
        still = _parts(now)
        for key, layers in _parts(held).items():
            if key in still and _holds(layers) and not _holds(still[key]):
                lost = [path for layer in layers for path, _ in leaves(layer.values)]
                message = f"holds no values any more, and held {len(lost)}: {_names(lost)}; {_FORCE}"
                emptied.append(Fault("", message, origin_in((still[key] or layers)[-1], ())))
    if emptied:
        return emptied
    # What an optional source takes with it when it goes is no accident.
    staying = [held for held, now in pairs if held.guarded or _holds(now.layers)]
    before = merge([layer for reading in staying for layer in reading.layers]).values
    after = merge([layer for _, now in pairs for layer in now.layers]).values
    lost = list(_lost(before, after, ()))
    total = sum(1 for _ in leaves(before)) if lost else 0
    if total < FEWEST or len(lost) <= share * total:
        return []
    return [Fault("", f"{len(lost)} of {total} values would vanish: {_names(lost)}; {_FORCE}")]


@dataclass(frozen=True, slots=True)
class Expected:
    """What ran before this process started: its values, and the names of the guarded sources that held any."""

    values: Mapping[str, Any] = field(repr=False)
    held: frozenset[str]


def guard_start(expected: Expected, candidate: Sequence[SourceReading], share: float) -> list[Fault]:
    """Return the faults of losing, at a start, what ran before. A source that the program no longer names is none."""
    layers = [layer for reading in candidate for layer in reading.layers]
    names, held = {layer.source for layer in layers}, held_by(candidate)
    places = {layer.source: origin_in(layer, ()) for layer in layers}
    emptied = sorted((expected.held & names) - held)
    if emptied:
        message = f"holds no values, and held some before this process started; {_FORCE}"
        return [Fault("", message, places[name]) for name in emptied]
    lost = list(_lost(expected.values, merge(layers).values, ()))
    total = sum(1 for _ in leaves(expected.values)) if lost else 0
    if total < FEWEST or len(lost) <= share * total:
        return []
    return [Fault("", f"{len(lost)} of the {total} values of before the start would vanish: {_names(lost)}; {_FORCE}")]


def held_by(readings: Sequence[SourceReading]) -> frozenset[str]:
    """Return the names of the guarded sources that hold values."""
    parts = (layers for reading in readings for layers in _parts(reading).values())
    return frozenset(layer.source for layers in parts if _holds(layers) for layer in layers if _holds([layer]))


def _parts(reading: SourceReading) -> dict[Any, Sequence[Layer]]:
    """Return what must go on holding something: the layers of a source together, or each by itself."""
    found: dict[Any, Sequence[Layer]] = {(): reading.layers} if reading.guarded else {}
    counts = Counter[Any]()
    for layer in reading.layers:
        key = layer.source, layer.nested.path if layer.nested is not None else None
        counts[key] += 1
        if layer.guarded:
            found[*key, counts[key]] = (layer,)
    return found


def _holds(layers: Sequence[Layer]) -> bool:
    # A file that was cut off below the header of a table holds the table and nothing else.
    return any(leaf != {} for layer in layers for _, leaf in leaves(layer.values))


def _lost(before: Any, after: Any, path: KeyPath) -> Iterator[KeyPath]:
    """Yield the leaves that are no longer there. A key whose value became a scalar has lost what was below it."""
    if before is after or not isinstance(before, (Mapping, list)):
        return
    if isinstance(before, list):
        before, after = dict(enumerate(before)), dict(enumerate(after)) if isinstance(after, list) else {}
    elif not isinstance(after, Mapping):
        after = {}
    if before.keys() <= after.keys() and are_scalars(before.values()):
        return  # nearly every section, at one look
    for key, value in before.items():
        if key not in after:
            yield from (found for found, _ in leaves(value, (*path, key)))
        elif type(value) not in SCALARS:
            yield from _lost(value, after[key], (*path, key))


def _names(paths: Sequence[KeyPath]) -> str:
    shown = ", ".join(keypath.render(path) for path in paths[:_NAMED])
    return shown if len(paths) <= _NAMED else f"{shown} and {len(paths) - _NAMED} more"
