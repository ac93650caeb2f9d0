"""Staging: a small file is replaced as a whole, in two steps, and survives a crash or a power cut at every point.

The first step does all that can well fail: it writes the new content beside the file and waits until the disk has it.
The second is a rename. Everything here blocks, on a slow disk for long: call it from a thread.
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
"""Seconds after which a staged file is what a crash has left: nobody prepares a reload for so long."""

_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
"""What file systems answer that have no such thing as the sync of a folder."""


@dataclass(frozen=True, slots=True, eq=False)
class Staged:
    """The next content of a file, safe on disk and not yet in its place. Ended by `publish` or by `discard`."""

    path: Path
    temporary: Path

    def publish(self) -> None:
        """Put the content in the place of the file. Whoever opens it sees all of the old or all of the new.

        Raises OSError, which names the file. Then the old content is in place, except where the disk failed to confirm
        the rename: that one may or may not outlive a power cut.
        """
        with _naming(self.path):
            try:
                self.temporary.replace(self.path)
            except OSError:
                self.discard()
                raise
            _sync_folder(self.path.parent)

    def discard(self) -> None:
        """Remove what was staged. May be called at any time, also twice and after `publish`; raises nothing."""
        with suppress(OSError):
            self.temporary.unlink()


def stage(path: str | os.PathLike[str], data: bytes, *, mode: int = 0o600) -> Staged:
    """Write the next content of a file beside it, with these permissions, and wait until the disk has it.

    What a link points to is replaced, not the link. Raises OSError, which names the file, and leaves nothing behind; so
    it does where a device or the like is in the place of the file.
    """
    target = Path(os.path.realpath(path))
    staged = Staged(target, target.with_name(f".{target.name}.{secrets.token_hex(4)}{_SUFFIX}"))
    with _naming(target):
        _refuse_special(target)
        try:
            written = _write(staged.temporary, data, mode)
        except BaseException:
            staged.discard()
            raise
    _sweep(target, before=written - _ABANDONED)
    return staged


def _refuse_special(target: Path) -> None:
    """Raise OSError for what is there and no file: a rename would do away with /dev/null for the whole machine."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder refuses by itself
        raise OSError(errno.EINVAL, "is not a regular file")


def _write(path: Path, data: bytes, mode: int) -> float:
    """Write a new file, and return the time of that as the file system's own clock has it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, mode)  # not by opening it: the umask would have a say
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def _sweep(target: Path, *, before: float) -> None:
    """Remove what earlier crashes have left of this file. A failure harms nobody: the next one tries again."""
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            is_ours = entry.name.startswith(f".{target.name}.") and entry.name.endswith(_SUFFIX)
            if is_ours and entry.stat(follow_symlinks=False).st_mtime < before:
                Path(entry.path).unlink()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have every OSError name the file that was to be replaced, and not what stood in for it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
