"""What a verb that serves writes meanwhile: the log, and single lines. No reader that stalls holds the service up."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import os
import queue
import threading
from typing import Any

_BACKLOG = 1000
"""Lines of the log that wait for stderr."""


class JsonLines(logging.Formatter):
    """Formats a record as a line of JSON. Its member `hotconf` is the report that the record is about, if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry: dict[str, Any] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if report := getattr(record, "hotconf", None):
            entry["hotconf"] = report
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


class LogWriter(logging.Handler):
    """Writes log lines to stderr in a thread of its own, so that a reader that stalls does not stall the process.

    At most a thousand lines wait. Further ones are dropped, and the next line tells how many.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.Queue[str | threading.Event] = queue.Queue(_BACKLOG)
        self._dropped = 0
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Put the record's line into the queue."""
        from hotconf.formats import escaped

        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="hotconf-log", daemon=True)
            self._thread.start()
        try:
            line = escaped(self.format(record))
        except Exception:  # noqa: BLE001 - a wrong argument of a log call; logging prints it where that is wanted
            self.handleError(record)
            return
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def flush(self) -> None:
        """Wait until the lines so far are written, for a second at most."""
        written = threading.Event()
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(written)
            if self._thread is not None:
                written.wait(1.0)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            dropped, self._dropped = self._dropped, 0
            note = f"({dropped} lines of the log were dropped: stderr was not read)\n" if dropped else ""
            _write(2, f"{note}{line}\n")


def log_to_stderr(style: str = "text") -> None:
    """Send hotconf's log to stderr, as text or as lines of JSON."""
    handler = LogWriter()
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s")
    handler.setFormatter(JsonLines() if style == "json" else text)
    logger = logging.getLogger("hotconf")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def say(text: str) -> None:
    """Print to stdout at once. A closed or stalled reader of it is no reason to stop serving."""
    writer = threading.Thread(target=_write, args=(1, f"{text}\n"), daemon=True)
    writer.start()
    writer.join(1.0)


def _write(descriptor: int, text: str) -> None:
    # Not through sys.stdout or sys.stderr: their lock would be held while the write blocks, and the exit flushes them.
    data = text.encode("utf-8", "backslashreplace")
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(descriptor, data) :]
