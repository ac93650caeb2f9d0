"""States: what is at each path at one time, and which folders lead to it."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Set as AbstractSet
    from pathlib import Path

DIGEST_LIMIT = 4 * 2**20
"""Bytes. While polling, the content of larger files is not compared, only their size, times and inode."""

_MAX_LINKS = 40  # the kernel's own limit


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
"""A file's stamp; a folder's children with their stamps; the errno where nothing can be seen."""


class Folder(NamedTuple):
    """A folder on the way, by device and inode.

    A `required` one holds a link or the end of the way, and must be watched. A mere parent may stay unwatched where it
    cannot be read.
    """

    place: tuple[int, int]
    required: bool


class Children(NamedTuple):
    """The children of a folder whose names end in a suffix and are not hidden; without a suffix, all of them."""

    folder: str
    suffix: str

    def has(self, name: str) -> bool:
        """Whether a name in the folder is one of them."""
        return not self.suffix or (name.endswith(self.suffix) and not name.startswith("."))

    def concerned_by(self, event: str) -> bool:
        """Whether an event is about one of them."""
        folder, name = os.path.split(event)
        return folder == self.folder and self.has(name)


@dataclass(slots=True)
class ResolvedPath:
    """How one path resolved, name by name.

    `names` are the names that were looked up, each as the real path of its folder plus the name: an event on one of
    them concerns the path. So does an event on one of the `children`, where the path stands for those of a folder.
    """

    names: set[str] = field(default_factory=set)
    folders: dict[str, Folder] = field(default_factory=dict)
    end: str = "/"
    children: Children | None = None
    state: State = errno.ENOENT

    def concerned_by(self, events: AbstractSet[str]) -> bool:
        """Whether one of the events concerns the path."""
        inside = self.children is not None and any(map(self.children.concerned_by, events))
        return inside or not self.names.isdisjoint(events)


class FileStates:
    """Every path as it resolved at one time, and what all of them need watched."""

    def __init__(self, paths: Mapping[Path, ResolvedPath]) -> None:
        self.paths = paths
        self.folders: dict[str, Folder] = {}
        for resolved in paths.values():
            for name, folder in resolved.folders.items():
                known = self.folders.get(name, folder)
                self.folders[name] = folder._replace(required=known.required or folder.required)
        self.places = {name: folder.place for name, folder in self.folders.items()}
        self.ends = {resolved.end for resolved in paths.values()}
        self._names = frozenset[str]().union(*(resolved.names for resolved in paths.values()))
        self._children = {resolved.children for resolved in paths.values() if resolved.children is not None}

    @property
    def devices(self) -> set[int]:
        """The devices of every folder on the way and of the files."""
        files = {resolved.state.device for resolved in self.paths.values() if isinstance(resolved.state, Stamp)}
        return files.union(device for device, _ in self.places.values())

    @property
    def watchable(self) -> frozenset[str]:
        """The folders to watch. A mere parent that cannot be read cannot be watched: only a look finds it replaced."""
        return frozenset(
            name
            for name, folder in self.folders.items()
            if folder.required or os.access(name, os.R_OK, effective_ids=True)
        )

    def relevant(self, events: AbstractSet[str]) -> AbstractSet[str]:
        """Return the events that concern any path, or a folder on its way."""
        return {
            event
            for event in events
            if event in self._names
            or event in self.folders
            or any(children.concerned_by(event) for children in self._children)
        }

    def changed_since(self, before: FileStates, events: AbstractSet[str]) -> set[Path]:
        """Return the paths whose state differs from an earlier one, or that an event in between concerns."""
        changed = set()
        for path, resolved in self.paths.items():
            known = before.paths.get(path)
            # An event counts even where the state is the same: a reader may have seen what was there in between.
            if known is None or known.state != resolved.state or known.concerned_by(events):
                changed.add(path)
        return changed


class PathResolver:
    """Resolves paths name by name, as the kernel does. One resolver serves one look: it asks for each name once."""

    def __init__(self, *, digests: bool) -> None:
        self._digests = digests
        self._known: dict[str, os.stat_result | int] = {}
        self._listed: dict[str, list[str] | int] = {}

    def resolve(self, path: str) -> ResolvedPath:
        """Follow an absolute path, or a pattern such as `folder/*.toml`, and look at what is there.

        Raises nothing: that something cannot be seen is a state too.
        """
        folder, _, name = path.rpartition("/")
        path, suffix = (folder, name[1:]) if name.startswith("*.") else (path, "")
        resolved = ResolvedPath()
        resolved.end, found = self._follow(resolved, "/", path)
        if isinstance(found, int) or not stat.S_ISDIR(found.st_mode):
            resolved.state = self._stamp(resolved.end, found)
            return resolved
        resolved.children = Children(resolved.end, suffix)
        self._enter(resolved, resolved.end, required=True)
        names = self._list(resolved.end)
        if isinstance(names, int):
            resolved.state = names
            return resolved
        found_there = []
        for name in filter(resolved.children.has, names):
            place = os.path.join(resolved.end, name)  # noqa: PTH118
            end, found = place, self._look_up(place)
            if isinstance(found, int) or stat.S_ISLNK(found.st_mode):
                end, found = self._follow(resolved, resolved.end, name)
            resolved.names.add(place)
            found_there.append((name, self._stamp(end, found)))
        resolved.state = tuple(found_there)
        return resolved

    def _follow(self, resolved: ResolvedPath, here: str, path: str) -> tuple[str, os.stat_result | int]:
        """Follow `path` from the folder `here`. Returns the place where the way ends, and what is there."""
        names = _reversed_names(path)
        links = 0
        while names:
            name = names.pop()
            if name == "..":
                here = os.path.dirname(here)  # noqa: PTH120
                continue
            place = os.path.join(here, name)  # noqa: PTH118
            found = self._look_up(place)
            resolved.names.add(place)
            if found != errno.EACCES:  # a folder that cannot be entered is watched from the folder above it
                is_folder = not isinstance(found, int) and stat.S_ISDIR(found.st_mode)
                self._enter(resolved, here, required=not is_folder)
            if isinstance(found, int):
                return place, found
            if stat.S_ISLNK(found.st_mode):
                links += 1
                try:
                    target = os.readlink(place)  # noqa: PTH115
                except OSError:
                    return place, errno.ELOOP
                if links > _MAX_LINKS:
                    return place, errno.ELOOP
                here = "/" if target.startswith("/") else here
                names += _reversed_names(target)
            elif names and not stat.S_ISDIR(found.st_mode):
                return place, errno.ENOTDIR
            else:
                here = place
        return here, self._look_up(here)

    def _look_up(self, name: str) -> os.stat_result | int:
        """Return what a name stands for, links not followed, or the errno."""
        if name not in self._known:
            try:
                self._known[name] = os.lstat(name)
            except OSError as error:
                self._known[name] = error.errno or errno.EIO
        return self._known[name]

    def _list(self, folder: str) -> list[str] | int:
        """Return the names in a folder, or the errno."""
        if folder not in self._listed:
            try:
                self._listed[folder] = sorted(os.listdir(folder))  # noqa: PTH208 - names alone
            except OSError as error:
                self._listed[folder] = error.errno or errno.EIO
        return self._listed[folder]

    def _enter(self, resolved: ResolvedPath, folder: str, *, required: bool) -> None:
        """Note a folder on the way, where it can be looked into."""
        found = self._look_up(folder)
        if not isinstance(found, int):
            known = resolved.folders.get(folder)
            required = required or (known is not None and known.required)
            resolved.folders[folder] = Folder((found.st_dev, found.st_ino), required)

    def _stamp(self, end: str, found: os.stat_result | int) -> Stamp | int:
        if isinstance(found, int):
            return found
        if stat.S_ISDIR(found.st_mode):  # the times and size of a folder within a folder concern no path
            return Stamp(found.st_dev, found.st_ino, found.st_mode, 0, 0, 0, b"")
        digest = _digest(end) if self._digests and stat.S_ISREG(found.st_mode) else b""
        times = (found.st_mtime_ns, found.st_ctime_ns)
        return Stamp(found.st_dev, found.st_ino, found.st_mode, found.st_size, *times, digest)


def _reversed_names(path: str) -> list[str]:
    """Return the names of a path, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _digest(name: str) -> bytes:
    """Return the digest of a file's content; nothing where it cannot be read, is too large, or is no regular file."""
    try:
        # The file may have become a FIFO since the look-up: opening one must not wait for its writer.
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > DIGEST_LIMIT:
                return b""
            return hashlib.blake2b(file.read(DIGEST_LIMIT)).digest()
    except OSError:
        return b""
