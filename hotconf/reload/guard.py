"""The guard: nothing vanishes by accident.

An emptied file, or one cut short at a place where it is still valid, passes every validation when fields have defaults.
So a source that held values must go on holding some, and a reload may not lose more than a share of all leaves at once.
Meant so, it is forced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import hotconf.values.keypath as keypath
from hotconf.values.merge import SCALARS, are_scalars, leaves, merge, origin_in
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import Layer, SourceReading

FEWEST = 10
"""Leaves below which the share is not looked at: of three values, losing two is an edit."""

_NAMED = 5


def guard(running: Sequence[SourceReading], candidate: Sequence[SourceReading], share: float) -> list[Fault]:
    """Return what speaks against losing what a candidate loses. Readings come in the order of the sources."""
    pairs = list(zip(running, candidate, strict=True))
    emptied = [_emptied(before, after) for before, after in pairs if _is_emptied(before, after)]
    return emptied or list(_shrunk(pairs, share))


def _is_emptied(before: SourceReading, after: SourceReading) -> bool:
    return before.guarded and _holds(before.layers) and not _holds(after.layers)


def _holds(layers: Sequence[Layer]) -> bool:
    # A file that was cut off below the header of a table holds the table and nothing else.
    return any(leaf != {} for layer in layers for _, leaf in leaves(layer.values))


def _emptied(before: SourceReading, after: SourceReading) -> Fault:
    lost = [path for layer in before.layers for path, _ in leaves(layer.values)]
    layers = after.layers or before.layers
    message = f"holds no values any more, and held {len(lost)}: {_names(lost)}; if that is meant, force the reload"
    return Fault("", message, origin_in(layers[-1], ()))


def _shrunk(pairs: Sequence[tuple[SourceReading, SourceReading]], share: float) -> Iterator[Fault]:
    # What an optional source takes with it when it goes is no accident.
    staying = [before for before, after in pairs if before.guarded or _holds(after.layers)]
    before = merge([layer for reading in staying for layer in reading.layers]).values
    after = merge([layer for _, reading in pairs for layer in reading.layers]).values
    lost = list(_lost(before, after, ()))
    if not lost:
        return
    total = sum(1 for _ in leaves(before))
    if total >= FEWEST and len(lost) > share * total:
        message = f"{len(lost)} of {total} values would vanish: {_names(lost)}; if that is meant, force the reload"
        yield Fault("", message)


def _lost(before: Any, after: Any, path: KeyPath) -> Iterator[KeyPath]:
    """Yield the leaves that are no longer there. Equal keys on both sides cost no more than comparing them."""
    if before is after:
        return
    if isinstance(before, Mapping):
        yield from _lost_keys(before, after if isinstance(after, Mapping) else {}, path)
    elif isinstance(before, list):
        kept = after if isinstance(after, list) else []
        yield from _lost_keys(dict(enumerate(before)), dict(enumerate(kept)), path)


def _lost_keys(before: Mapping[Any, Any], after: Mapping[Any, Any], path: KeyPath) -> Iterator[KeyPath]:
    for key, value in before.items():
        if key not in after:
            yield from (found for found, _ in leaves(value, (*path, key)))
        elif value is not after[key] and type(value) not in SCALARS and not _keeps_all(value, after[key]):
            yield from _lost(value, after[key], (*path, key))


def _keeps_all(before: Any, after: Any) -> bool:
    """Whether a section or list of atoms has lost nothing: nearly all have not, and this looks at all keys at once."""
    if type(before) is dict and type(after) is dict:
        return before.keys() <= after.keys() and are_scalars(before.values())
    return type(before) is list and type(after) is list and len(before) <= len(after) and are_scalars(before)


def _names(paths: Sequence[KeyPath]) -> str:
    shown = ", ".join(keypath.render(path) for path in paths[:_NAMED])
    return shown if len(paths) <= _NAMED else f"{shown} and {len(paths) - _NAMED} more"
