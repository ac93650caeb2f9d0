"""The mount table: which file systems may change without an event, a lease or a new time.

A file of its own, because the reader and the watcher both need it and the watcher needs nothing else of the reader.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_REMOTE = frozenset(
    "9p afs ceph cifs fuse lustre ncpfs nfs nfs4 prl_fs smb3 smbfs vboxsf virtiofs".split()  # noqa: SIM905 - a word list
)


@dataclass(frozen=True, slots=True)
class Mounts:
    """The mount table: the file system of each device, and where something is mounted."""

    types: Mapping[int, str]
    points: frozenset[str]

    @classmethod
    def read(cls) -> Mounts:
        """Read the table of this process. A system without one has no known mounts."""
        try:
            table = os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
        except OSError:
            table = ""
        # Not splitlines(): of all characters that end a line the kernel escapes only the line feed.
        mounts = [parse_mount(line) for line in table.split("\n") if line]
        return cls({device: kind for device, _, kind in mounts}, frozenset(point for _, point, _ in mounts))

    def remote(self, devices: Iterable[int]) -> str | None:
        """Return the first file system among `devices` that another machine may change; None where there is none."""
        kinds = (self.types.get(device, "") for device in devices)
        return next((kind for kind in kinds if kind in _REMOTE or kind.startswith("fuse.")), None)


def parse_mount(line: str) -> tuple[int, str, str]:
    """Return the device, place and type. The table writes blanks within a name as octal escapes."""
    fields = line.split(" ")
    major, _, minor = fields[2].partition(":")
    point = fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
    return os.makedev(int(major), int(minor)), point, fields[fields.index("-") + 1]
