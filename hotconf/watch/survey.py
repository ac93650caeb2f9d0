"""The survey: what there is to be seen at each path at one time, and what an event or a difference concerns."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from hotconf.watch.walk import Folder, Walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set as AbstractSet
    from pathlib import Path

DIGEST_LIMIT = 4 * 2**20
"""Bytes. While polling, the content of larger files is not looked at: their size, times and inode must tell."""


class Stamp(NamedTuple):
    """What tells one state of a file from another. Times in nanoseconds; no digest where content was not read."""

    device: int
    inode: int
    mode: int
    size: int
    modified: int
    changed: int
    digest: bytes


State: TypeAlias = "Stamp | int | tuple[tuple[str, Stamp | int], ...]"
"""Of a file, its stamp; of a folder, its children's; the errno where there is nothing to be seen."""


class Children(NamedTuple):
    """Those of a folder whose names end in a suffix and are not hidden; without a suffix, all of them."""

    folder: str
    suffix: str

    def has(self, name: str) -> bool:
        """Whether a name of the folder's is one of them."""
        return not self.suffix or (name.endswith(self.suffix) and not name.startswith("."))

    def met_by(self, event: str) -> bool:
        """Whether an event is about one of them."""
        folder, name = os.path.split(event)
        return folder == self.folder and self.has(name)


@dataclass(frozen=True, slots=True)
class Trace:
    """How one path resolved, name by name.

    `names` are the names that were looked up, each as the real path of its folder plus the name: an event on one of
    them concerns the path. So does one on what is `inside`, where the path stands for what lies in a folder.
    """

    names: AbstractSet[str]
    folders: Mapping[str, Folder]
    end: str
    inside: Children | None
    state: State

    def met_by(self, events: AbstractSet[str]) -> bool:
        """Whether one of the events concerns the path."""
        inside = self.inside is not None and any(map(self.inside.met_by, events))
        return inside or not self.names.isdisjoint(events)


class Survey:
    """The traces of all paths at one time."""

    def __init__(self, traces: Mapping[Path, Trace]) -> None:
        self.traces = traces
        self.folders = _union(trace.folders for trace in traces.values())
        self.places = {name: folder.place for name, folder in self.folders.items()}
        self.ends = {trace.end for trace in traces.values()}
        self._names = frozenset[str]().union(*(trace.names for trace in traces.values()))
        self._inside = {trace.inside for trace in traces.values() if trace.inside is not None}

    @property
    def devices(self) -> set[int]:
        """The devices of every folder on the way and of the files."""
        files = (trace.state for trace in self.traces.values())
        return {device for device, _ in self.places.values()} | {
            state.device for state in files if isinstance(state, Stamp)
        }

    def relevant(self, events: AbstractSet[str]) -> AbstractSet[str]:
        """Return those events that concern any path, or a folder on its way."""
        return {
            event
            for event in events
            if event in self._names or event in self.folders or any(inside.met_by(event) for inside in self._inside)
        }


def _union(parts: Iterable[Mapping[str, Folder]]) -> dict[str, Folder]:
    folders: dict[str, Folder] = {}
    for part in parts:
        for name, folder in part.items():
            known = folders.get(name, folder)
            folders[name] = folder._replace(required=known.required or folder.required)
    return folders


def changed(before: Survey, after: Survey, events: AbstractSet[str]) -> set[Path]:
    """Return the paths whose state differs between two surveys, or that an event in between concerns."""
    return {path for path, trace in after.traces.items() if _trace_changed(before.traces.get(path), trace, events)}


def _trace_changed(before: Trace | None, after: Trace, events: AbstractSet[str]) -> bool:
    if before is None or before.state != after.state:
        return True
    # An event counts even where everything is as it was: what was there in between may have been read.
    return before.met_by(events)


class Lookup:
    """Resolves paths name by name, as the kernel does. Asks for each name once: one lookup serves one survey."""

    def __init__(self, *, hashing: bool) -> None:
        self._hashing = hashing
        self._known: dict[str, os.stat_result | int] = {}

    def trace(self, path: str) -> Trace:
        """Follow an absolute path and look at what is there. Raises nothing: what cannot be seen is a state too."""
        walk = Walk(self.stat)
        path, suffix = _split(path)
        end, found = walk.follow("/", path)
        folder = not isinstance(found, int) and stat.S_ISDIR(found.st_mode)
        inside = Children(end, suffix) if folder else None
        state = self._children(walk, inside) if inside is not None else self._stamp(end, found)
        return Trace(walk.names, walk.folders, end, inside, state)

    def stat(self, name: str) -> os.stat_result | int:
        """Return what a name stands for, links not followed, or the errno."""
        if name not in self._known:
            try:
                self._known[name] = os.lstat(name)
            except OSError as error:
                self._known[name] = error.errno or errno.EIO
        return self._known[name]

    def _children(self, walk: Walk, inside: Children) -> State:
        folder = inside.folder
        walk.enter(folder, required=True)
        try:
            names = sorted(filter(inside.has, os.listdir(folder)))  # noqa: PTH208 - names are all that is wanted
        except OSError as error:
            return error.errno or errno.EIO
        return tuple((name, self._child(walk, folder, name)) for name in names)

    def _child(self, walk: Walk, folder: str, name: str) -> Stamp | int:
        return self._stamp(*walk.follow(folder, name))

    def _stamp(self, end: str, found: os.stat_result | int) -> Stamp | int:
        if isinstance(found, int):
            return found
        if stat.S_ISDIR(found.st_mode):  # the times and size of a folder within a folder are its own affair
            return Stamp(found.st_dev, found.st_ino, found.st_mode, 0, 0, 0, b"")
        digest = _digest(end) if self._hashing and stat.S_ISREG(found.st_mode) else b""
        times = (found.st_mtime_ns, found.st_ctime_ns)
        return Stamp(found.st_dev, found.st_ino, found.st_mode, found.st_size, *times, digest)


def _split(path: str) -> tuple[str, str]:
    """Return a path and, where it is a pattern such as `folder/*.toml`, the suffix that it asks for."""
    folder, _, name = path.rpartition("/")
    return (folder, name[1:]) if name.startswith("*.") else (path, "")


def _digest(name: str) -> bytes:
    """Return the digest of a file's content; nothing where it cannot be read, is too large, or is no regular file."""
    try:
        # The file may have become a FIFO since it was looked at: opening one must not wait for its writer.
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > DIGEST_LIMIT:
                return b""
            return hashlib.blake2b(file.read(DIGEST_LIMIT)).digest()
    except OSError:
        return b""
