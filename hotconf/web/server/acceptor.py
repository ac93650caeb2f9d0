"""Arrivals: the way of a client from the listening socket to a connection of its own, or back out of the door."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from hotconf.web.server.connection import unread
from hotconf.web.server.limits import Seat
from hotconf.web.server.listener import host_of

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from hotconf.web.server.connection import Connection
    from hotconf.web.server.limits import Door

log = logging.getLogger(__name__)


class _Arrival(NamedTuple):
    """A connection that was accepted and has no transport yet: a TLS handshake is under way."""

    sock: socket.socket
    seat: Seat


class Arrivals:
    """Those of one server, on its event loop: as many as its door lets in.

    `connect` makes the connection that takes a transport over; what it raises ends the arrival. With TLS,
    `close_timeout` is for how many seconds a client may owe its goodbye.
    """

    def __init__(
        self,
        door: Door,
        connect: Callable[[Seat], Connection],
        *,
        ssl_context: ssl.SSLContext | None,
        close_timeout: float,
    ) -> None:
        self._door = door
        self._connect = connect
        self._ssl_context = ssl_context
        self._close_timeout = close_timeout
        self._under_way: dict[asyncio.Task[Any], _Arrival] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def accept(self, sock: socket.socket, peer: object) -> None:
        """Take an accepted socket over, or turn it away. Never waits."""
        host = host_of(peer)
        if reason := self._door.refusal(host):
            self._turn_away(sock, reason)
            return
        sock.setblocking(False)
        seat = Seat(self._door, host)
        task = asyncio.get_running_loop().create_task(self._adopt(sock, seat))
        self._under_way[task] = _Arrival(sock, seat)
        task.add_done_callback(self._arrived)

    def drop(self) -> None:
        """Close all that are under way."""
        for task in self._under_way:
            task.cancel()

    def drop_stalled(self) -> None:
        """Close those that owe the next word of their handshake."""
        # Without TLS a connection arrives by itself, within a turn or two, and its first request may be waiting.
        if self._ssl_context is not None:
            for task, arrival in self._under_way.items():
                if not unread(arrival.sock):
                    task.cancel()

    def _turn_away(self, sock: socket.socket, reason: str) -> None:
        self._door.count(reason)
        if reason == "connections" and self._ssl_context is None:
            self._door.turn_away(sock)
        else:
            sock.close()

    async def _adopt(self, sock: socket.socket, seat: Seat) -> None:
        loop = asyncio.get_running_loop()
        factory = functools.partial(self._connect, seat)
        if self._ssl_context is None:
            await loop.connect_accepted_socket(factory, sock)
            return
        patience = self._door.limits().handshake_timeout
        gives_up_at = loop.time() + patience
        try:
            await loop.connect_accepted_socket(
                factory,
                sock,
                ssl=self._ssl_context,
                ssl_handshake_timeout=patience,
                # The default is 30 s, in which a client that never answers the goodbye would hold a drain.
                ssl_shutdown_timeout=self._close_timeout,
            )
        except ConnectionAbortedError:
            if loop.time() >= gives_up_at:
                self._door.count("handshake_timeout")
            raise

    def _arrived(self, task: asyncio.Task[Any]) -> None:
        arrival = self._under_way.pop(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.debug("a connection failed before its first request: %r", error)
        if task.cancelled() or error is not None:
            arrival.sock.close()
            arrival.seat.leave()
