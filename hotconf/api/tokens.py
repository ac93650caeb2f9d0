"""Bearer tokens, as text or in files. A file is followed: its new token is in force with the next request."""

from __future__ import annotations

import hmac
import logging
import time
from pathlib import Path

log = logging.getLogger(__name__)

_SIZE_LIMIT = 64 * 1024
_SETTLED_AFTER = 0.1
"""Seconds. Two writes within one tick of the kernel's clock, at most 0.01 s, leave the same times on a file."""

_CHECK_INTERVAL = 0.5
"""Seconds between two looks at the file for clients that wait: thousands of them ask."""


class Tokens:
    """The bearer tokens of one kind: a text, or the lines of a file, of which each is a token.

    A file with two lines has an old and a new token in force side by side. A file that changes is read again when a
    token is checked. One that then holds no token, or cannot be read, changes nothing: the last tokens stay in force,
    and the log says why. A pipe is read once.

    Args:
        text: The token.
        file: The path of a file, in place of a text.
        name: The name of a token that is a text. One of a file has the name of the file.

    Raises:
        ValueError: The text is empty, or the file holds no token or cannot be read.
    """

    def __init__(self, text: str | None = None, *, file: str | Path | None = None, name: str = "bearer") -> None:
        self._path = None if file is None else Path(file)
        self.name = name if self._path is None else self._path.name
        if text == "":
            raise ValueError("a token is not empty")
        is_pipe = self._path is not None and self._path.is_fifo()
        self._tokens: tuple[str, ...] = () if text is None else (text,)
        if self._path is not None:
            self._tokens = _read(self._path, is_pipe=is_pipe)
        self._followed = None if is_pipe else self._path
        self._revision = 0
        self._fault = ""
        self._signature: tuple[int, ...] | None = None
        self._seen_at = self._checked_at = 0.0
        self._is_settled = False

    def __bool__(self) -> bool:
        """Return whether there is a token."""
        return bool(self._tokens)

    @property
    def first(self) -> str | None:
        """The token for a client to send; None where there is none."""
        self._follow()
        return self._tokens[0] if self._tokens else None

    @property
    def revision(self) -> int:
        """How often the tokens have changed, as of half a second ago."""
        if time.monotonic() > self._checked_at + _CHECK_INTERVAL:
            self._follow()
        return self._revision

    def accept(self, sent: bytes) -> bool:
        """Return whether a client sent a token in force. The time that this takes tells nothing about a token."""
        self._follow()
        return sum(hmac.compare_digest(sent, token.encode()) for token in self._tokens) > 0

    def _follow(self) -> None:
        if self._followed is None:
            return
        signature, now = _signature(self._followed), time.monotonic()
        self._checked_at = now
        if signature != self._signature:
            self._signature, self._seen_at, self._is_settled = signature, now, False
        if self._is_settled:
            return
        # Only a read that begins later than the clock's tick has what was written last with these times.
        self._is_settled = now > self._seen_at + _SETTLED_AFTER
        try:
            tokens = _read(self._followed)
        except ValueError as error:
            if str(error) != self._fault:
                log.warning("%s; the last token stays in force", error)
            self._fault = str(error)
            return
        self._fault = ""
        if tokens != self._tokens:
            self._tokens = tokens
            self._revision += 1
            log.info("%s has changed; tokens in force: %d", self._followed, len(tokens))


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(path: Path, *, is_pipe: bool = False) -> tuple[str, ...]:
    try:
        if not is_pipe and not path.is_file() and path.exists():  # to open a pipe could block the event loop
            raise ValueError(f"{path} is not a regular file: it must hold a token")
        with path.open("rb") as file:
            raw = file.read(_SIZE_LIMIT + 1)
        lines = raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text: it must hold a token") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}: it must hold a token") from None
    tokens = tuple(token for line in lines if (token := line.strip()))
    if not tokens:
        raise ValueError(f"{path} is empty: it must hold a token")
    if len(raw) > _SIZE_LIMIT or not all(token.isprintable() for token in tokens):
        raise ValueError(f"{path} holds what no client can send: it must hold a token")
    return tokens
