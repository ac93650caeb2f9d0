"""The audit log: what changed, when, and what asked for it. A file of JSON lines that is only appended to."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotconf.values.report import jsonable

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from hotconf.values.report import Report


log = logging.getLogger("hotconf")


class WriteStatus:
    """Whether one file can be written. `reason` says why it cannot, None where it can. A failure is logged once."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.reason: str | None = None

    def failed(self, reason: str) -> None:
        """Note why a write failed. Only a new reason is logged."""
        if reason != self.reason:
            log.warning("%s %s", self.what, reason)
        self.reason = reason

    def succeeded(self) -> None:
        """Note that a write succeeded."""
        if self.reason is not None:
            log.info("%s can be written again", self.what)
        self.reason = None


class AuditLog:
    """Observes reloads and takes note of requests, a line each; `pid` tells processes apart that share the file.

    The file is opened anew for each line, so it may be renamed away or truncated at any time, and several processes may
    write it. A line is one short write from whatever thread calls; it is not forced to the disk. `error` says why the
    last line could not be written, None where it could: that is logged once, and nothing else comes of it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = str(Path(path).absolute())  # the program may change its working directory
        self._status = WriteStatus(f"audit log {self.path}")
        self._cut = False

    @property
    def error(self) -> str | None:
        """Why the last line is missing, None where it is not."""
        return self._status.reason

    def reload_began(self, triggers: Sequence[str]) -> None:
        """Note nothing: what began also ends."""

    def reload_ended(self, report: Report) -> None:
        """Note what came of a reload: all that its report says, which holds no secrets."""
        entry = jsonable(report)
        self._append({"time": entry.pop("started_at"), "event": "reload", **entry})

    def asked(
        self, action: str, *, when: dt.datetime, peer: str, token: str | None = None, report: int | None = None
    ) -> None:
        """Note a request for a change: where it came from, the name of its token, and the report that answers it.

        None for `report` where no reload came of it.
        """
        asked = {"action": action, "peer": peer, "token": token, "report": report}
        self._append({"time": when.isoformat(), "event": "request", **asked})

    def _append(self, entry: dict[str, Any]) -> None:
        line = json.dumps({**entry, "pid": os.getpid()}).encode() + b"\n"
        rest = memoryview(b"\n" + line if self._cut else line)  # what was cut off spoils no other line
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        try:
            descriptor = os.open(self.path, flags, 0o600)
            try:
                while rest:  # once, nearly always: the halves of two processes' lines would mix
                    rest = rest[os.write(descriptor, rest) :]
                    self._cut = bool(rest)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._status.failed(f"cannot be written: {error.strerror or type(error).__name__}")
        else:
            self._status.succeeded()
