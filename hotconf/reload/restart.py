"""Deferral: what only a restart can apply keeps its running value, and everything else is applied.

Kept is the smallest part that can be kept whole:

- a field marked RestartRequired, or all of a section that is, wherever it lies: the key of a mapping is its identity;
- the whole of a list in which something marked changes: items have no identity, and one that moved would get the
  values of another;
- the whole of an optional section, an item of a mapping or a member of a union that holds a marked field and that
  appears, goes away or becomes another. A marked field has no running value there, but its running state is to be
  absent, and it would otherwise change by going and coming back.

A part whose value is the running one again is not kept: it has nothing to wait for any more.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import hotconf.values.keypath as keypath
from hotconf.errors import Rejected
from hotconf.reload.validate import validate
from hotconf.schema.diff import differences
from hotconf.schema.explain import Origins, input_paths
from hotconf.schema.fields import fields_of, holds_restart_required, shape_below, unwrapped
from hotconf.schema.redact import document_at, visible_path
from hotconf.schema.shape import Shape, shape_of
from hotconf.schema.tree import children, is_list
from hotconf.values.keypath import key_text
from hotconf.values.layer import Layer
from hotconf.values.merge import ABSENT, Merged, leaves, lookup
from hotconf.values.report import Fault, PendingRestart

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pydantic import BaseModel

    from hotconf.sources.construct import Constructor
    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import Origin

_MOST_LISTED = 50
"""Changes that are listed one by one within one part. A part with more of them is listed as a whole."""

_TOGETHER = "these change together only by restart"


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """Settings, and the merged values that they were built from."""

    merged: Merged = field(repr=False)
    settings: Any = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Deferral:
    """What may be applied: the candidate with its kept parts as they are running, and what waits for a restart.

    Its `merged` has for the values of kept parts the places that they had when they were applied.
    """

    merged: Merged = field(repr=False)
    settings: Any = field(repr=False)
    pending: tuple[PendingRestart, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A place with both its values, None where a side has nothing there."""

    path: KeyPath
    running: Any
    wanted: Any

    def inner(self, keys: Iterable[str | int]) -> Iterator[tuple[str | int, _Part]]:
        running, wanted = children(self.running), children(self.wanted)
        return ((key, _Part((*self.path, key), running.get(key), wanted.get(key))) for key in keys)


def defer(
    model: type[BaseModel],
    running: Built,
    candidate: Built,
    *,
    changed: Sequence[KeyPath],
    constructor: Constructor | None = None,
) -> Deferral:
    """Return a candidate in which all that only a restart can apply is as it is running.

    `changed` are the paths at which the two differ, as `compare` tells them. Where none of them has to wait it is the
    candidate itself; this costs nothing for a class without a mark, and elsewhere a look at each path. None of the
    arguments is changed.

    Raises:
        Rejected: The mix does not validate, or does not keep what it has to. Each fault names what had to be kept.
    """
    whole = Shape(models=(model,))
    kept = _kept_parts(whole, _Part((), running.settings, candidate.settings), changed)
    if not kept:
        return Deferral(candidate.merged, candidate.settings)
    places = [place for part in kept for place in input_paths(model, part.path)]
    pending = tuple(_pending(model, running, candidate, kept))
    values = _mixed(candidate.merged.values, running.merged.values, places)
    given = _mixed(candidate.merged.given, running.merged.values, places)
    try:
        # A fault points at the sources as they are now, since it is mended there.
        settings = validate(model, Merged(values, candidate.merged.layers, given), constructor)
    except Rejected as rejected:
        names = ", ".join(entry.path for entry in pending[:_MOST_LISTED])
        keeps = "keep their running values" if len(pending) > 1 else "keeps its running value"
        message = f"{names} {keeps}: {_TOGETHER}"
        faults = [dataclasses.replace(fault, message=f"{fault.message}; {message}") for fault in rejected.faults]
        raise Rejected(faults, "defer") from None
    # A validator may have made a kept value from something that changed.
    lost = _kept_parts(whole, _Part((), running.settings, settings), differences(running.settings, settings))
    if lost:
        message = f"only a restart can change it, and it cannot keep its running value beside the rest: {_TOGETHER}"
        origins = {entry.path: entry.origin for entry in pending}
        paths = [keypath.render(visible_path(model, part.path)) for part in lost]
        raise Rejected([Fault(path, message, origins.get(path)) for path in paths], "defer")
    layers = (*candidate.merged.layers, _layer(running.merged, candidate.merged, places))
    return Deferral(Merged(values, layers, given), settings, pending)


def refusals(pending: Sequence[PendingRestart]) -> list[Fault]:
    """Return a fault for each change that only a restart can apply, where such changes are refused."""
    return [
        Fault(
            entry.path,
            f"can only change with a restart (running {entry.running!r}, wanted {entry.wanted!r}): put it back, "
            "or restart",
            entry.origin,
        )
        for entry in pending
    ]


def _kept_parts(shape: Shape, part: _Part, changed: Sequence[KeyPath]) -> list[_Part]:
    """Return what has to be kept of a part, by the paths below it that changed."""
    if not changed or not holds_restart_required(shape):
        return []
    shape = _own_shape(shape, part.running)
    if shape.restart_required:
        return [part]
    if () in changed:
        changed = differences(part.running, part.wanted)  # the change of a secret field is told as a whole
    if () in changed:
        return [part] if _has_marked(shape, part.running) or _has_marked(shape, part.wanted) else []
    grouped = _by_key(changed)
    kept = [
        found
        for key, inner in part.inner(grouped)
        for found in _kept_parts(shape_below(shape, key), inner, grouped[key])
    ]
    return [part] if kept and is_list(part.running) else kept


def _by_key(paths: Iterable[KeyPath]) -> dict[str | int, list[KeyPath]]:
    grouped: dict[str | int, list[KeyPath]] = {}
    for path in paths:
        grouped.setdefault(path[0], []).append(path[1:])
    return grouped


def _own_shape(shape: Shape, value: Any) -> Shape:
    """Return what the class of a value says of it: of a union, only the member that is there."""
    kind: type = type(value)
    own = unwrapped(shape_of(kind) if fields_of(kind) else shape)
    return dataclasses.replace(own, restart_required=own.restart_required or shape.restart_required)


def _has_marked(shape: Shape, value: Any) -> bool:
    shape = _own_shape(shape, value)
    if shape.restart_required or not holds_restart_required(shape):
        return shape.restart_required
    return any(_has_marked(shape_below(shape, key), item) for key, item in children(value).items())


def _pending(
    model: type[BaseModel], running: Built, candidate: Built, kept: Iterable[_Part]
) -> Iterator[PendingRestart]:
    origins = Origins(model, candidate.merged, candidate.settings)
    for part in kept:
        changed = differences(part.running, part.wanted)
        # Paths for an operator: none leads into a list or a secret.
        outside = (tuple(itertools.takewhile(lambda key: not isinstance(key, int), path)) for path in changed)
        listed = dict.fromkeys(visible_path(model, (*part.path, *path)) for path in outside)
        for path in [part.path] if len(changed) > _MOST_LISTED else listed:
            before, after = (document_at(model, settings, path) for settings in (running.settings, candidate.settings))
            yield PendingRestart(keypath.render(path), before, after, origins.at(path))


def _mixed(values: Any, running: Any, places: Sequence[KeyPath]) -> Any:
    """Return raw values with some places as the running values have them. Copies only what leads there.

    A place that cannot be made, since something else stands in its way, stays as it was.
    """
    if () in places:
        return running
    if isinstance(values, Mapping):
        own_keys = _odd_keys(values) | _odd_keys(running)
        grouped = {own_keys.get(key, key): rest for key, rest in _by_key(places).items()}
        mixed = {**values, **{key: _kept(values, running, key, rest) for key, rest in grouped.items()}}
        return {key: item for key, item in mixed.items() if item is not ABSENT}
    if isinstance(values, list):
        for index, rest in _by_key(places).items():
            kept = _kept(values, running, index, rest)
            is_last = index in (len(values) - 1, len(values))
            if isinstance(index, int) and (is_last or (index < len(values) and kept is not ABSENT)):
                values = [*values[:index], *([kept] if kept is not ABSENT else []), *values[index + 1 :]]
    return values


def _odd_keys(values: Any) -> dict[str | int, Any]:
    """Return the keys of a mapping that are no strings, by the text that paths have for them."""
    return {key_text(key): key for key in values if not isinstance(key, str)} if isinstance(values, Mapping) else {}


def _kept(values: Any, running: Any, key: Any, places: Sequence[KeyPath]) -> Any:
    """Return what the mix has at a key, below which some places are kept; ABSENT for nothing."""
    inner, kept = lookup(values, (key,)), lookup(running, (key,))
    if () in places:
        return kept
    empty: Any = [] if isinstance(places[0][0], int) else {}
    mixed = _mixed(inner if inner is not ABSENT else empty, kept, places)
    # A section that nothing but the marked field made goes with it: it may have a default that says more.
    return kept if mixed == empty and kept is ABSENT else mixed


def _layer(running: Merged, candidate: Merged, places: Sequence[KeyPath]) -> Layer:
    """Return the kept values as a layer that stands above all others, with the origins that they have."""
    values: Mapping[str, Any] = _mixed({}, running.values, places)
    above = {place[:length] for place in places for length in range(1, len(place))}
    origins: dict[KeyPath, Origin] = {}
    # Looked up now: to ask for them later, the layers of every generation before would have to be held.
    for path in {leaf[:length] for leaf, _ in leaves(values) for length in range(1, len(leaf) + 1)}:
        origin = (candidate.origin(path) if path in above else None) or running.origin(path)
        if origin is not None:
            origins[path] = origin
    return Layer("running", values, origins)
