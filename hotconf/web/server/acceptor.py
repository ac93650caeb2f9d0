"""Accepting: from a listening socket to a connection, and a close that resets no client in the queue."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import logging
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotconf.web.server.limits import ConnectionSlot
from hotconf.web.server.sockets import host_of, naming, place_of, unread

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from hotconf.web.server.limits import ConnectionLimiter

log = logging.getLogger(__name__)

_RETRY_INTERVAL = 0.02
_ACCEPT_PAUSE = 0.2
_ACCEPT_BATCH = 64

# Linux's number, which the socket module does not have, and a program of classic BPF over the TCP header: code, jump if
# true, jump if false, operand.
_SO_ATTACH_FILTER = 26
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte of flags
    (0x45, 0, 1, 0x02),  # SYN set?
    (0x06, 0, 0, 0),  # return 0: drop
    (0x06, 0, 0, 0xFFFFFFFF),  # return all: keep
)


class Listener:
    """One bound socket. `accepted` gets the socket and the peer address of each connection, and must not wait.

    Without free descriptors or memory it pauses: the socket stays readable, and the event loop would spin.
    """

    def __init__(self, sock: socket.socket, *, accepted: Callable[[socket.socket, object], None]) -> None:
        self.place = place_of(sock.getsockname())
        self._sock = sock
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._file = _identity(sock)
        self._timer: asyncio.TimerHandle | None = None
        self._starved = False

    def start(self, backlog: int) -> None:
        """Listen and accept. Raises OSError if another process listens on the address by now."""
        with naming(self.place):
            self._sock.listen(backlog)
        self._resume()

    async def drain(self, *, until: float) -> None:
        """Accept every connection in the queue, and close. While it lacks descriptors it retries until `until`."""
        self._pause()
        self._unlink()
        while not self._accept_all() and self._loop.time() < until:  # noqa: ASYNC110 - a freed descriptor is no event
            await asyncio.sleep(_RETRY_INTERVAL)
        # Only now, because it lets no client connect: the queue is short, and so is the time until the close.
        _drop_newcomers(self._sock)
        self._accept_all()
        self.close()

    def close(self) -> None:
        """Close the socket and remove its file. A second call has no effect."""
        if self._sock.fileno() >= 0:
            self._pause()
            self._unlink()
            self._sock.close()

    def _resume(self) -> None:
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def _pause(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        if self._timer is not None:
            self._timer.cancel()

    def _accept(self) -> None:
        for _ in range(_ACCEPT_BATCH):
            if not self._accept_one():
                break
        if self._starved:
            self._pause()
            self._timer = self._loop.call_later(_ACCEPT_PAUSE, self._resume)

    def _accept_all(self) -> bool:
        """Accept until no connection waits. Return False if descriptors or memory ran out before."""
        while self._accept_one():
            pass
        return not self._starved

    def _accept_one(self) -> bool:
        """Accept one connection. Return False if none waits, or if it cannot be accepted and `_starved` is set."""
        try:
            sock, peer = self._sock.accept()
        except BlockingIOError:
            self._starved = False
            return False
        except ConnectionAbortedError:
            return True
        except OSError as error:
            if not self._starved:
                log.warning("%s: cannot accept connections for now: %s", self.place, error.strerror)
            self._starved = True
            return False
        self._starved = False
        self._accepted(sock, peer)
        return True

    def _unlink(self) -> None:
        # A successor may have bound its own socket at this path by now.
        if self._file is not None and _identity(self._sock) == self._file:
            Path(self._sock.getsockname()).unlink(missing_ok=True)


def _drop_newcomers(sock: socket.socket) -> None:
    """Have the kernel drop every SYN for a listening TCP socket, so that no client connects between accept and close.

    Such a client sends its SYN again after a second and is refused. Without this it would connect, send, and be reset.
    Handshakes under way still complete. A kernel without this filter leaves a gap of some microseconds.
    """
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in _DROP_SYN))
    program = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(instructions))
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _identity(sock: socket.socket) -> tuple[int, int] | None:
    """Return device and inode of the file at the path of a unix socket; None without one."""
    if sock.family != socket.AF_UNIX:
        return None
    try:
        found = os.lstat(sock.getsockname())
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class Acceptor:
    """Makes accepted sockets into connections, as many as the limiter allows. For one server, on its event loop.

    Args:
        limiter: Counts the connections.
        connect: Makes the protocol of a connection. What it raises ends that connection.
        ssl_context: Returns the context for the TLS of the next connection; None: without TLS.
        close_timeout: Seconds that a TLS client has to answer the close of the connection.
    """

    def __init__(
        self,
        limiter: ConnectionLimiter,
        connect: Callable[[ConnectionSlot], asyncio.Protocol],
        *,
        ssl_context: Callable[[], ssl.SSLContext] | None,
        close_timeout: float,
    ) -> None:
        self._limiter = limiter
        self._connect = connect
        self._ssl_context = ssl_context
        self._close_timeout = close_timeout
        self._connecting: dict[asyncio.Task[Any], tuple[socket.socket, ConnectionSlot]] = {}

    def __len__(self) -> int:
        """Return the number of accepted sockets without a transport: with TLS their handshake is under way."""
        return len(self._connecting)

    def accept(self, sock: socket.socket, peer: object) -> None:
        """Take an accepted socket over, or refuse its client. Never waits."""
        host = host_of(peer)
        if reason := self._limiter.exceeded(host, descriptor=sock.fileno()):
            self._limiter.count(reason)
            if reason == "connections" and self._ssl_context is None:
                self._limiter.reject(sock)
            else:
                sock.close()
            return
        sock.setblocking(False)
        slot = ConnectionSlot(self._limiter, host)
        task = asyncio.get_running_loop().create_task(self._make_connection(sock, slot))
        self._connecting[task] = sock, slot
        task.add_done_callback(self._connected)

    def close(self) -> None:
        """Close the sockets that have no transport yet."""
        for task in self._connecting:
            task.cancel()

    def close_stalled(self) -> None:
        """Close those whose client has to send the next message of its TLS handshake."""
        # Without TLS a connection is made within a turn or two of the loop, and its first request may be waiting.
        if self._ssl_context is not None:
            for task, (sock, _) in self._connecting.items():
                if not unread(sock):
                    task.cancel()

    async def _make_connection(self, sock: socket.socket, slot: ConnectionSlot) -> None:
        loop = asyncio.get_running_loop()
        factory = functools.partial(self._connect, slot)
        if self._ssl_context is None:
            await loop.connect_accepted_socket(factory, sock)
            return
        timeout = self._limiter.limits().handshake_timeout
        deadline = loop.time() + timeout
        try:
            await loop.connect_accepted_socket(
                factory,
                sock,
                ssl=self._ssl_context(),
                ssl_handshake_timeout=timeout,
                # The default is 30 s, for which a client that does not answer the close would hold a drain.
                ssl_shutdown_timeout=self._close_timeout,
            )
        except ConnectionAbortedError:
            if loop.time() >= deadline:
                self._limiter.count("handshake_timeout")
            raise

    def _connected(self, task: asyncio.Task[Any]) -> None:
        sock, slot = self._connecting.pop(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.debug("a connection failed before its first request: %r", error)
        if task.cancelled() or error is not None:
            sock.close()
            slot.release()
