"""The walk: a path followed name by name, as the kernel does, and every folder met on the way."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_LINKS = 40  # the kernel's own limit


class Folder(NamedTuple):
    """A folder on the way, by device and inode.

    `required`: it holds a link or the end of the way, and must be watched. A mere parent may stay unwatched where it
    cannot be read.
    """

    place: tuple[int, int]
    required: bool


class Walk:
    """The names and folders met while following one path and, of a folder, its children."""

    def __init__(self, lookup: Callable[[str], os.stat_result | int]) -> None:
        self.names: set[str] = set()
        self.folders: dict[str, Folder] = {}
        self._lookup = lookup

    def follow(self, here: str, path: str) -> tuple[str, os.stat_result | int]:
        """Follow `path` from the folder `here`. Returns the place where the way ends, and what is there."""
        names = _names_of(path)
        links = 0
        while names:
            name = names.pop()
            if name == "..":
                here = os.path.dirname(here)  # noqa: PTH120
                continue
            place = os.path.join(here, name)  # noqa: PTH118
            found = self._look_up(here, place)
            if isinstance(found, int):
                return place, found
            if stat.S_ISLNK(found.st_mode):
                links += 1
                target = _read_link(place)
                if links > _MAX_LINKS or target is None:
                    return place, errno.ELOOP
                here = "/" if target.startswith("/") else here
                names += _names_of(target)
            elif names and not stat.S_ISDIR(found.st_mode):
                return place, errno.ENOTDIR
            else:
                here = place
        return here, self._lookup(here)

    def enter(self, folder: str, *, required: bool) -> None:
        """Note a folder, where it can be looked into."""
        found = self._lookup(folder)
        if isinstance(found, int):
            return
        known = self.folders.get(folder)
        required = required or (known is not None and known.required)
        self.folders[folder] = Folder((found.st_dev, found.st_ino), required)

    def _look_up(self, folder: str, place: str) -> os.stat_result | int:
        found = self._lookup(place)
        self.names.add(place)
        if found != errno.EACCES:  # a folder that cannot be entered is watched for from above
            plain = not isinstance(found, int) and stat.S_ISDIR(found.st_mode)
            self.enter(folder, required=not plain)
        return found


def _names_of(path: str) -> list[str]:
    """Return the names of a path, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _read_link(place: str) -> str | None:
    try:
        return os.readlink(place)  # noqa: PTH115
    except OSError:
        return None
