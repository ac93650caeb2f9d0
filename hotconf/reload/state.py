"""The state folder: what hotconf keeps on a host beyond the life of one process."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import secrets
from pathlib import Path

log = logging.getLogger("hotconf")

_KEY_SIZE = 32
_LEAST_KEY = 16


def state_folder() -> Path:
    """Return the first folder of `$STATE_DIRECTORY`, else `hotconf` in `$XDG_STATE_HOME` or in `~/.local/state`."""
    if given := os.environ.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(given)
    if home := os.environ.get("XDG_STATE_HOME"):
        return Path(home, "hotconf")
    return Path("~/.local/state/hotconf").expanduser()


@functools.lru_cache(maxsize=16)
def digest_key(path: Path | None = None) -> bytes:
    """Return the key of digests: the content of a file, which is made where it does not exist.

    Processes that read the same file have digests that can be compared. Where the file can be neither read nor made,
    the key is random and this process is alone with it; the log says so once.

    Args:
        path: The file; None names `digest.key` in the state folder.
    """
    try:
        path = path or state_folder() / "digest.key"
        with contextlib.suppress(FileExistsError):
            _create(path)
        key = path.read_bytes().strip()
        if len(key) >= _LEAST_KEY:
            return key
        reason = f"it holds fewer than {_LEAST_KEY} bytes"
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    log.warning(
        "the key of digests, %s, cannot be used: %s; digests of this process cannot be compared with those of others",
        path or "digest.key",
        reason,
    )
    return secrets.token_bytes(_KEY_SIZE)


def _create(path: Path) -> None:
    """Make a key file, whole from its first moment. Raises FileExistsError, and OSError where it cannot be made."""
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, secrets.token_hex(_KEY_SIZE).encode() + b"\n")
    finally:
        os.close(descriptor)
    try:
        os.link(made, path)  # of two processes that make it at once, one does
    finally:
        made.unlink()
