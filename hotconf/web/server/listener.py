"""Listening sockets: how they are bound, accept, and are closed without resetting a client in their queue."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import logging
import os
import socket
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = logging.getLogger(__name__)

_RETRY_INTERVAL = 0.02
_ACCEPT_PAUSE = 0.2
_ACCEPT_BATCH = 64
_PORT_ATTEMPTS = 8
_HIGHEST_PORT = 65_535

# Linux's number, which the socket module does not have, and a program of classic BPF over the TCP header: code, jump if
# true, jump if false, operand.
_SO_ATTACH_FILTER = 26
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte of flags
    (0x45, 0, 1, 0x02),  # SYN set?
    (0x06, 0, 0, 0),  # return 0: drop
    (0x06, 0, 0, 0xFFFFFFFF),  # return all: keep
)

_NO_SUCH_ADDRESS = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


class Listener:
    """One bound socket. `accepted` gets each connection's socket and peer address, and must not wait.

    Running out of descriptors or memory pauses it: the socket stays readable, so that the loop would spin.
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
        """Listen and accept. Another process may have been faster to listen: OSError."""
        with _naming(self.place):
            self._sock.listen(backlog)
        self._resume()

    async def empty(self, *, until: float) -> None:
        """Accept to the last connection that waits, and close. Starved, it tries until the time `until`."""
        self._pause()
        self._unlink()
        while not self._accept_all() and self._loop.time() < until:  # noqa: ASYNC110 - a freed descriptor is no event
            await asyncio.sleep(_RETRY_INTERVAL)
        # Now that the queue is short, the moment in which newcomers are dropped is, too.
        _drop_newcomers(self._sock)
        self._accept_all()
        self.close()

    def _accept_all(self) -> bool:
        """Accept until none waits. False: `_starved` before that."""
        while self._accept_one():
            pass
        return not self._starved

    def close(self) -> None:
        """Close the socket and remove its file. Again: nothing."""
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

    def _accept_one(self) -> bool:
        """Accept one connection. False: none waits, or, `_starved` being set, it could not be taken."""
        try:
            sock, peer = self._sock.accept()
        except BlockingIOError:
            self._starved = False
            return False
        except ConnectionAbortedError:
            return True
        except OSError as error:
            self._starve(error)
            return False
        self._starved = False
        self._accepted(sock, peer)
        return True

    def _starve(self, error: OSError) -> None:
        if not self._starved:
            log.warning("%s: cannot accept connections for now: %s", self.place, error.strerror)
        self._starved = True

    def _unlink(self) -> None:
        # A successor may have put its own socket at this path by now.
        if self._file is not None and _identity(self._sock) == self._file:
            Path(self._sock.getsockname()).unlink(missing_ok=True)


def _drop_newcomers(sock: socket.socket) -> None:
    """Have the kernel drop every SYN for a listening TCP socket, so that none connects between last accept and close.

    Such a client asks again after a second and is refused. Without this it would connect, send, and be reset.
    Handshakes under way still complete. Where the kernel has no such filter the gap of some microseconds stays.
    """
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in _DROP_SYN))
    program = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(instructions))
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _identity(sock: socket.socket) -> tuple[int, int] | None:
    """Return device and inode of the file at a unix socket's path; None without one."""
    if sock.family != socket.AF_UNIX:
        return None
    try:
        found = os.lstat(sock.getsockname())
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def place_of(address: str | tuple[Any, ...]) -> str:
    """Return the text of a socket address: `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/app.sock`."""
    if isinstance(address, str):
        return f"unix:{address}"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(peer: object) -> str | None:
    """Return the IP address of a socket's peer; None at the other end of a unix socket."""
    return str(peer[0]) if isinstance(peer, tuple) else None


@contextlib.contextmanager
def _naming(place: str) -> Any:
    """Give an OSError a text that names the address, and keep its class and number."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise type(error)(error.errno or errno.EINVAL, f"cannot listen on {place}: {reason}") from error


async def bind_tcp(host: str, port: int, *, reuse_port: bool) -> list[socket.socket]:
    """Bind, without listening, every address of `host`, all at the same port. An empty host: all interfaces."""
    loop = asyncio.get_running_loop()
    with _naming(place_of((host, port))):
        if not 0 <= port <= _HIGHEST_PORT:  # getaddrinfo would take what is left of it in 16 bits
            raise OSError(errno.EINVAL, f"a port is a number from 0 to {_HIGHEST_PORT}")
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        targets = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
        attempts = _PORT_ATTEMPTS if port == 0 else 1
        while True:
            try:
                return _bind_every(targets, reuse_port=reuse_port)
            except OSError as error:
                # The port that the kernel chose for the first address may be taken at the second.
                attempts -= 1
                if not attempts or error.errno != errno.EADDRINUSE:
                    raise


def _bind_every(
    targets: Iterable[tuple[socket.AddressFamily, tuple[Any, ...]]], *, reuse_port: bool
) -> list[socket.socket]:
    absent: OSError | None = None
    with contextlib.ExitStack() as undo:
        bound: list[socket.socket] = []
        for family, (host, port, *rest) in targets:
            chosen = port or (bound[0].getsockname()[1] if bound else 0)
            try:
                sock = _bind_one(family, (host, chosen, *rest), reuse_port=reuse_port)
            except OSError as error:
                # A host name such as localhost has an IPv6 address also where the machine has no IPv6.
                if error.errno not in _NO_SUCH_ADDRESS:
                    raise
                absent = error
                continue
            bound.append(undo.enter_context(sock))
        if not bound and absent is not None:
            raise absent
        undo.pop_all()
        return bound


def _bind_one(family: socket.AddressFamily, address: tuple[Any, ...], *, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def bind_unix(path: Path) -> socket.socket:
    """Bind, without listening: until then nobody can connect, and the mode is set in time."""
    with _naming(place_of(str(path))):
        _remove_stale(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.bind(str(path))
            path.chmod(0o600)
        except BaseException:
            sock.close()
            raise
        return sock


def _remove_stale(path: Path) -> None:
    """Remove a socket file on which nobody listens. Anything else stays, so that bind says the address is in use."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                try:
                    probe.connect(str(path))
                except ConnectionRefusedError:
                    path.unlink()
