"""systemd's notification protocol, `Type=notify-reload`: READY, RELOADING, STOPPING and WATCHDOG.

Without NOTIFY_SOCKET nothing is sent. Sending never blocks and never raises: a supervisor that does not listen is no
reason to stop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hotconf.values.report import Report

log = logging.getLogger("hotconf")

_LONGEST_NUMBER = 20  # digits of 2^64
_SHORTEST_INTERVAL = 0.05  # seconds between two signs of life


class Notifier:
    """Sends the state of a service to systemd.

    The socket stays open from the first message to `close`, so that a process without free descriptors can still say
    that it is alive.

    Args:
        address: The socket, as NOTIFY_SOCKET names it; None sends nothing.
        watchdog: Seconds within which systemd expects a sign of life; None: it expects none.
    """

    def __init__(self, address: str | None, watchdog: float | None = None) -> None:
        self._address = address
        self.watchdog = watchdog
        self._socket: socket.socket | None = None
        self._phase: Literal["ready", "reloading", "stopping"] = "ready"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Notifier:
        """Return one as NOTIFY_SOCKET and WATCHDOG_USEC describe it; systemd sets them for the main process."""
        environ = os.environ if environ is None else environ
        address = environ.get("NOTIFY_SOCKET") or None
        microseconds = environ.get("WATCHDOG_USEC", "")
        is_ours = environ.get("WATCHDOG_PID") in (None, "", str(os.getpid()))
        is_a_time = microseconds.isdecimal() and len(microseconds) <= _LONGEST_NUMBER and int(microseconds) > 0
        return cls(address, int(microseconds) / 1_000_000 if address and is_ours and is_a_time else None)

    def ready(self, status: str) -> None:
        """Report that the service is ready, at first or after a reload. During a drain only the status is sent."""
        ready = "" if self._phase == "stopping" else "READY=1\n"
        self._phase = self._phase if self._phase == "stopping" else "ready"
        self._send(f"{ready}STATUS={_one_line(status)}")

    def reloading(self) -> None:
        """Report that a reload has begun. `ready` must follow, also when the reload is rejected."""
        if self._phase == "stopping":
            return
        self._phase = "reloading"
        # The time tells systemd which of its reload requests this answers; both belong in one datagram.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        """Report that the service drains. A reload in flight is reported as over first: its end may never come."""
        if self._phase == "reloading":
            self.ready(f"{status} came in the middle of a reload")
        self._phase = "stopping"
        self._send(f"STOPPING=1\nSTATUS={_one_line(status)}")

    def reload_began(self, _triggers: Sequence[str]) -> None:
        """Report the begin of a reload. Part of the Observer protocol."""
        self.reloading()

    def reload_ended(self, report: Report) -> None:
        """Report the outcome of a reload. Part of the Observer protocol."""
        self.ready(str(report))

    async def keep_alive(self) -> None:
        """Send a sign of life from the event loop, twice as often as the watchdog expects it."""
        while self.watchdog:
            self._send("WATCHDOG=1")
            await asyncio.sleep(max(self.watchdog / 2, _SHORTEST_INTERVAL))

    def close(self) -> None:
        """Close the socket. A later message opens another one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        # An abstract address begins with a NUL, which the environment writes as @.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            self._socket = self._socket or socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            # Not connected: that would bind it to the very socket that a supervisor may replace.
            self._socket.sendto(message.encode("utf-8"), address)
        except OSError as error:
            log.debug("systemd was not notified: %s", error)


def _one_line(text: str) -> str:
    return " ".join(text.split())
