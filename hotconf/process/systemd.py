"""systemd's notification protocol, `Type=notify-reload`: who is ready, who reloads, who stops, who is still alive.

Without NOTIFY_SOCKET nothing is sent. Sending never blocks and never fails the caller: a supervisor that does not
listen is no reason to stop.
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


class Notifier:
    """Tells systemd. `watchdog`, in seconds, is how often it wants to hear that we are alive; None: never.

    Its socket stays open from the first message to `close`: who has run out of descriptors is still alive.
    """

    def __init__(self, address: str | None, watchdog: float | None = None) -> None:
        self._address = address
        self.watchdog = watchdog
        self._link: socket.socket | None = None
        self._phase: Literal["ready", "reloading", "stopping"] = "ready"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Notifier:
        """Build one from NOTIFY_SOCKET and WATCHDOG_USEC, as systemd sets them for the main process."""
        found = os.environ if environ is None else environ
        address = found.get("NOTIFY_SOCKET") or None
        meant_for = found.get("WATCHDOG_PID")
        microseconds = found.get("WATCHDOG_USEC", "")
        alive = microseconds.isdecimal() and int(microseconds) > 0 and meant_for in (None, "", str(os.getpid()))
        return cls(address, int(microseconds) / 1_000_000 if alive and address else None)

    def ready(self, status: str) -> None:
        """Say that the service is ready, or ready again after a reload, with the verdict as status.

        While it drains, only the verdict is said.
        """
        ready = "" if self._phase == "stopping" else "READY=1\n"
        self._phase = self._phase if self._phase == "stopping" else "ready"
        self._send(f"{ready}STATUS={_one_line(status)}")

    def reloading(self) -> None:
        """Say that a reload has begun. Always followed by `ready`, also when it is refused."""
        if self._phase == "stopping":
            return
        self._phase = "reloading"
        # The time stamp tells systemd which of its reload requests this answers; both belong in one datagram.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        """Say that the service drains. A reload under way is told to be over first: no verdict may come of it."""
        if self._phase == "reloading":
            self.ready(f"{status} came in the middle of a reload")
        self._phase = "stopping"
        self._send(f"STOPPING=1\nSTATUS={_one_line(status)}")

    def reload_began(self, _triggers: Sequence[str]) -> None:
        """Pass on, as an observer, that a reload has begun."""
        self.reloading()

    def reload_ended(self, report: Report) -> None:
        """Pass on, as an observer, what came of it."""
        self.ready(str(report))

    async def keep_alive(self) -> None:
        """Tell the watchdog that the event loop turns, twice as often as it asks. Returns at once without one."""
        while self.watchdog:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self.watchdog / 2)

    def close(self) -> None:
        """Close the socket. A later message opens another."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        # An abstract address begins with a NUL, which the environment writes as @.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            self._link = self._link or socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            # Not connected: that would bind it to the very socket that a supervisor may replace.
            self._link.sendto(message.encode("utf-8"), address)
        except OSError as error:
            log.debug("systemd was not told: %s", error)


def _one_line(text: str) -> str:
    return " ".join(text.split())
