"""The overlay: a TOML file that PATCH writes. It is the strongest source."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hotconf.formats as formats
import hotconf.values.keypath as keypath
from hotconf.errors import FormatError, Rejected
from hotconf.formats import Located
from hotconf.schema.diff import differences
from hotconf.schema.keys import with_canonical_keys
from hotconf.sources.atomic_write import Staged, stage
from hotconf.sources.patch import merge_patch
from hotconf.sources.reader import MAX_WAIT, SETTLE, SIZE_LIMIT, FileReader, ReadLimits, content_revision, once_written
from hotconf.values.keypath import KeyPath
from hotconf.values.layer import Layer, Origin
from hotconf.values.merge import ABSENT, leaves, lookup, origin_in
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_UNWRITABLE = "TOML cannot hold this value"
_NULL = "TOML has no null: it takes a value back as the value of a key, and can stand nowhere else"


@dataclass(frozen=True, slots=True, eq=False)
class StagedOverlay:
    """The next overlay, on disk beside the one in force. `layer` is what it will read as, its places included.

    Its methods block: call them from a thread.
    """

    layer: Layer
    _next: Staged
    _previous: Staged | None

    def publish(self) -> None:
        """Put it into force; what it replaces stays as `<path>.previous`. Raises OSError, and then the old one stands.

        Only where the disk fails to confirm the rename, the new one may be in place all the same.
        """
        try:
            if self._previous is not None:
                self._previous.publish()
            self._next.publish()
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what was staged; what was published stays. May be called at any time; raises nothing."""
        self._next.discard()
        if self._previous is not None:
            self._previous.discard()


class Overlay:
    """Reads and writes the overlay of a settings class. A file that is absent is empty; a broken one rejects a reload.

    Raises:
        ValueError: the name does not end in `.toml`.
    """

    kind = "overlay"
    required = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: type,
        *,
        size_limit: int = SIZE_LIMIT,
        settle: float = SETTLE,
        max_wait: float = MAX_WAIT,
    ) -> None:
        self.name = os.fspath(path)
        self.path = Path(path).absolute()
        if self.path.suffix != ".toml":
            raise ValueError(f"the overlay {self.name!r} must be a .toml file")
        self._model = model
        self._limits = ReadLimits(size_limit, settle, max_wait)
        self._reader = FileReader(self.path, self.name, self._limits, kind="overlay")
        self._absent = Layer(self.name, {}, {(): Origin("overlay", self.name)}, "absent")

    def __repr__(self) -> str:
        return f"Overlay({self.name!r})"

    @property
    def protection(self) -> str | None:
        """What guards against a half-written file: "lease" or "settle"; None before the first read."""
        return self._reader.protection

    def paths(self) -> Iterable[Path]:
        """Return the one path to watch."""
        return (self.path,)

    async def read(self) -> Layer:
        """Return what the file holds, with canonical keys: the base of the next patch. Raises SourceError."""
        return await once_written(self.read_blocking, self._limits.max_wait)

    def read_blocking(self) -> Layer:
        """Do what `read` does, in the thread of the caller. Raises StillWritten too."""
        try:
            return with_canonical_keys(self._model, self._reader.layer())
        except FileNotFoundError:
            return self._absent

    async def until_quiet(self) -> None:
        """Return when a file that was refused as still being written may be read again."""
        await self._reader.until_quiet()

    def patched(self, layer: Layer, patch: Mapping[str, Any]) -> Layer:
        """Return what a merge patch makes of a layer of `read`, as long as no file has it.

        Its places are those of the layer for values that the patch leaves alone, and the word "unconfirmed" for others.

        Raises:
            Rejected: the overlay must not hold a value, or TOML cannot.
        """
        values = self.merged(layer, patch)
        self._encoded(values)
        revision = content_revision(f"{layer.revision} {values!r}".encode())
        return Layer(self.name, values, _Patched(f"{self.name} (unconfirmed)", values, layer), revision)

    def merged(self, layer: Layer, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that a merge patch makes of a layer of `read`; see `hotconf.sources.patch`.

        Raises:
            Rejected: the overlay must not hold a value.
        """
        return merge_patch(self._model, layer.values, patch)

    def stage(self, values: Mapping[str, Any]) -> StagedOverlay:
        """Write the next overlay beside the file. Blocks: call it from a thread.

        The text was parsed again and is equal, types included. The file keeps its permissions; a new one is for its
        owner only.

        Raises:
            Rejected: TOML cannot hold a value.
            OSError: the disk cannot hold it.
        """
        data = self._encoded(values)
        places = Located(self.name, "toml", data, kind="overlay")
        layer = Layer(self.name, values, places, revision=content_revision(data))
        try:
            mode = stat.S_IMODE(self.path.stat().st_mode)
            before = self.path.read_bytes()
        except FileNotFoundError:
            return StagedOverlay(layer, stage(self.path, data), None)
        previous = stage(f"{self.path}.previous", before, mode=mode, follow=False)
        try:
            return StagedOverlay(layer, stage(self.path, data, mode=mode), previous)
        except BaseException:
            previous.discard()
            raise

    def _encoded(self, values: Mapping[str, Any]) -> bytes:
        data = _toml(values)
        if data is None:
            raise Rejected(_unwritable(values))
        if len(data) > self._limits.size_limit:
            raise Rejected([Fault("", f"the overlay would be larger than {self._limits.size_limit} bytes")])
        return data

    def confirmed(self, layer: Layer) -> Layer:
        """Return a layer of `patched` without the word "unconfirmed": one that a rollback brings back, say."""
        if not isinstance(layer.origins, _Patched):
            return layer
        return replace(layer, origins=_Patched(self.name, layer.values, layer.origins.below))


class _Patched(Mapping[KeyPath, Origin]):
    """The places of values after a patch: the places before it, as far as the values are the same."""

    def __init__(self, name: str, values: Mapping[str, Any], below: Layer) -> None:
        self.below = below
        self._origin = Origin("overlay", name)
        self._values = values

    def __getitem__(self, path: KeyPath) -> Origin:
        value, before = lookup(self._values, path), lookup(self.below.values, path)
        if value is ABSENT:
            raise KeyError(path)
        is_old = path and before is not ABSENT and not differences(before, value)
        return origin_in(self.below, path) if is_old else self._origin

    def __iter__(self) -> Iterator[KeyPath]:
        return (path for path, _ in leaves(self._values))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _toml(values: Mapping[str, Any]) -> bytes | None:
    """Return the values as TOML that was read back and is equal, None where there is no such text."""
    try:
        data = formats.dump("toml", values).encode()
        return data if not differences(dict(values), formats.parse("toml", data)) else None
    except (FormatError, UnicodeEncodeError):
        return None


def _unwritable(values: Mapping[str, Any]) -> list[Fault]:
    """Return a fault for each value that stands in the way, and for each key."""
    faults: dict[KeyPath, str] = {}
    for path, leaf in leaves(values):
        if leaf is None or _toml({"value": leaf}) is None:
            faults[path] = _NULL if leaf is None else _UNWRITABLE
        for depth, key in enumerate(path, 1):
            if isinstance(key, str) and _toml({key: 0}) is None:
                faults[path[:depth]] = "TOML cannot hold this key"
    found = [Fault(keypath.render(path), reason) for path, reason in faults.items()]
    return found or [Fault("", "nested too deeply")]
