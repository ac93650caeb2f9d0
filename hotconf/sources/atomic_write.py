"""Atomic writes: a small file is replaced as a whole, in two steps, and survives a crash or a power cut at every point.

`stage` does all that is likely to fail: it writes the new content beside the file and waits until the disk has it.
`publish` renames. Both block, on a slow disk for long: call them from a thread.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUFFIX = ".staged"

_ABANDONED = 3600.0
"""Seconds after which a staged file is a remnant of a crash: no reload takes that long."""

_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
"""Errors of file systems on which folders cannot be synchronised."""


@dataclass(frozen=True, slots=True, eq=False)
class Staged:
    """The next content of a file, safe on disk and not yet in its place. Ended by `publish` or by `discard`."""

    path: Path
    temporary: Path

    def publish(self) -> None:
        """Put the content in the place of the file. A reader sees all of the old content or all of the new.

        Raises:
            OSError: Names the file. The old content is in place, except where the disk failed to confirm the rename:
                then a power cut may bring it back or not.
        """
        with _naming(self.path):
            try:
                self.temporary.replace(self.path)
            except OSError:
                self.discard()
                raise
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            except OSError as error:
                if error.errno not in _NO_FOLDER_SYNC:
                    raise
            finally:
                os.close(folder)

    def discard(self) -> None:
        """Remove what was staged. May be called at any time, also twice and after `publish`; raises nothing."""
        with suppress(OSError):
            self.temporary.unlink()


def stage(path: str | os.PathLike[str], data: bytes, *, mode: int = 0o600, follow: bool = True) -> Staged:
    """Write the next content of a file beside it and wait until the disk has it.

    Args:
        path: The file. Where it is a link, the file behind it is replaced.
        data: The next content.
        mode: Its permissions, whatever the umask.
        follow: False replaces a link itself.

    Raises:
        OSError: Names the file; nothing is left behind. Also where a device or the like is in the place of the file: a
            rename would remove /dev/null for the whole machine. And where it is a link that another user has put into
            a folder that others may write.
    """
    target = Path(os.path.realpath(Path(path).parent), Path(path).name)
    while follow and target.is_symlink():
        _check_link(target)
        target = Path(os.path.realpath(target.parent / target.readlink().parent), target.readlink().name)
    staged = Staged(target, target.with_name(f".{target.name}.{secrets.token_hex(4)}{_SUFFIX}"))
    with _naming(target):
        with suppress(FileNotFoundError):
            present = target.stat().st_mode
            if not (stat.S_ISREG(present) or stat.S_ISDIR(present)):  # over a folder the rename fails by itself
                raise OSError(errno.EINVAL, "is not a regular file")
        try:
            written = _write(staged.temporary, data, mode)
        except BaseException:
            staged.discard()
            raise
    # Remove what earlier crashes have left of this file. After a failure the next call tries again.
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            is_staged = entry.name.startswith(f".{target.name}.") and entry.name.endswith(_SUFFIX)
            if is_staged and entry.stat(follow_symlinks=False).st_mtime < written - _ABANDONED:
                Path(entry.path).unlink()
    return staged


def _check_link(path: Path) -> None:
    """Refuse a planted link. The kernel guards what opens a file (fs.protected_symlinks), but not what reads a link."""
    folder = path.parent.stat()
    shared = folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if shared and path.lstat().st_uid not in (os.geteuid(), folder.st_uid):
        raise OSError(errno.EACCES, "is a link of another user, in a folder that others may write", os.fspath(path))


def _write(path: Path, data: bytes, mode: int) -> float:
    """Write a new file, and return the time of that by the file system's own clock."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, mode)  # not in os.open(), where the umask takes bits away
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have every OSError name the file that was to be replaced, and not the staged one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
