"""Layers: what one read of one source returned, and the exact place that each of its values came from."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hotconf.values.keypath import KeyPath

OriginKind: TypeAlias = Literal[
    "file", "env", "dotenv", "secrets", "init", "cli", "source", "remote", "overlay", "override", "default"
]


class Position(NamedTuple):
    """A place in a text. Line and column count from 1; the column counts characters, not bytes."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Origin:
    """The place that one value came from.

    `source` is what the operator can look up: a file's path as it was given, a variable's full name, a secret's file, a
    source's name. `line` and `column` count from 1 and point at the key or list item; None where a place has neither.
    """

    kind: OriginKind
    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        if self.kind == "env":
            return f"env {self.source}"
        places = (self.source, self.line, self.column)
        return ":".join(str(place) for place in places if place is not None)


DEFAULT = Origin("default", "default")


class Places(Mapping["KeyPath", Origin]):
    """Origins that are found when they are asked for, one by one: there is no list of them."""

    def __iter__(self) -> Iterator[KeyPath]:
        return iter(())

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True, slots=True, eq=False)
class Nested:
    """What makes a layer one of a settings class within the settings, which has sources of its own.

    Its constructor stands at `path`; None where that is not known. `above` is true for a source that is stronger than
    what the constructor is given. `record` is for making the settings again without asking the source.
    """

    path: KeyPath | None
    above: bool
    record: Any = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """The values of one source, as its reader found them. It does not change after it was made.

    `values` is a tree of mappings, lists and scalars. `origins` maps paths to their places, and may compute a place
    only when it is asked; a path that it does not hold gets the source's name as its place. `revision` is the source's
    own version of its content: equal revisions mean equal values. It is empty where a source has none. `guarded` is
    true for a layer that held values and may not lose them all at once, whatever other layers of the source hold.
    `odd_keys` is true where a mapping has a key that is no string, as a Key; a class decides what becomes of it.
    `nested` is set for a source of a settings class within the settings.
    """

    source: str
    values: Mapping[str, Any] = field(repr=False)  # not masked yet
    origins: Mapping[KeyPath, Origin] = field(default_factory=dict)
    revision: str = ""
    guarded: bool = False
    odd_keys: bool = False
    nested: Nested | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SourceReading:
    """What one source said when it was read: its layers, the weakest first.

    `guarded` is true for a source that held values and may not lose them all at once. An optional source and the
    environment are not guarded. `files` are those of several files that held something. `name` is the source's,
    `revision` the version of all its layers together; empty where it has none.
    """

    layers: tuple[Layer, ...]
    guarded: bool
    files: frozenset[str] = frozenset()
    name: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """What all sources of one configuration said, with canonical keys, in the order in which they are merged.

    `sources` are the read-only ones, the weakest first. `overlay` is what the overlay's file holds, None without an
    overlay; `patched` replaces it while a patch waits to be confirmed. `overrides` lie above everything, the last one
    on top. `from_last_good` is true where the layers are those of the last known good.
    """

    sources: tuple[SourceReading, ...]
    overlay: Layer | None = None
    patched: Layer | None = None
    overrides: tuple[Layer, ...] = ()
    from_last_good: bool = False

    def by_source(self) -> tuple[SourceReading, ...]:
        """Return one reading for each source, the overlay last. Overrides are none of them."""
        overlay = self.patched or self.overlay
        if overlay is None:
            return self.sources
        reading = SourceReading((overlay,), guarded=False, name=overlay.source, revision=overlay.revision)
        return (*self.sources, reading)

    @property
    def revisions(self) -> Mapping[str, str]:
        """The revision of each source that has one, by the source's name."""
        return {reading.name: reading.revision for reading in self.by_source() if reading.revision}

    def layers(self) -> tuple[Layer, ...]:
        """Return the layers of all sources, the weakest first, without overrides."""
        return tuple(layer for reading in self.by_source() for layer in reading.layers)

    def is_built_from_sources(self) -> bool:
        """Whether these are what sources hold by now, and hold after a restart too."""
        return self.patched is None and not self.overrides and not self.from_last_good

    def have_the_sources_of(self, other: Readings) -> bool:
        """Whether these have the very same layers as others: no source has changed. Overrides may differ."""
        ours, theirs = (
            (*(layer for reading in readings.sources for layer in reading.layers), readings.overlay, readings.patched)
            for readings in (self, other)
        )
        return len(ours) == len(theirs) and all(map(operator.is_, ours, theirs))

    def say_the_same_as(self, other: Readings) -> bool:
        """Whether sources and overlay file hold the same content: by revision where there is one, else by value."""
        before, after = (dataclasses.replace(readings, patched=None).layers() for readings in (self, other))
        return len(before) == len(after) and all(map(_same_content, before, after))


def _same_content(before: Layer, after: Layer) -> bool:
    if before is after:
        return True
    known = before.revision or after.revision
    same = before.revision == after.revision if known else before.values == after.values
    return before.source == after.source and same
