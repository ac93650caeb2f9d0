"""Sockets: how listening ones are bound, what their addresses are called, and how many bytes wait in one."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import select
import socket
import stat
import sys
import termios
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio.trsock import TransportSocket
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_PORT_ATTEMPTS = 8
_HIGHEST_PORT = 65_535
_NO_SUCH_ADDRESS = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


def place_of(address: str | tuple[Any, ...]) -> str:
    """Return the text of a socket address: `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/app.sock`."""
    if isinstance(address, str):
        return f"unix:{address}"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(peer: object) -> str | None:
    """Return the IP address of a socket's peer; None for the peer of a unix socket."""
    return str(peer[0]) if isinstance(peer, tuple) else None


def unread(sock: socket.socket | TransportSocket) -> int:
    """Return the number of bytes that arrived and were not read yet; 0 for a closed socket."""
    with contextlib.suppress(OSError, ValueError):
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)
    return 0


def unsent(transport: asyncio.WriteTransport | None) -> int:
    """Return the number of bytes that wait to be sent; 0 for a closed transport.

    asyncio's transport for TLS does not count what the one below it has. So there all counts that the client has not
    acknowledged, and is lost if it does not answer the close of TLS in time.
    """
    with contextlib.suppress(AttributeError):  # asyncio's transport for TLS raises it once it is closed
        if transport is not None:
            is_tls = transport.get_extra_info("sslcontext") is not None
            return undelivered(transport) if is_tls else transport.get_write_buffer_size()
    return 0


def undelivered(transport: asyncio.WriteTransport) -> int:
    """Return the number of bytes that the client has not acknowledged: those that wait here, and in the kernel."""
    waiting = transport.get_write_buffer_size()
    with contextlib.suppress(OSError, ValueError):
        sock = transport.get_extra_info("socket")
        waiting += int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    return waiting


def is_reset(sock: socket.socket | TransportSocket) -> bool:
    """Return whether the peer has reset the connection, or it is closed. Needs no reader, which would be told."""
    poll = select.poll()
    try:
        poll.register(sock.fileno(), 0)
    except ValueError:  # closed
        return True
    return bool(poll.poll(0))


@contextlib.contextmanager
def naming(place: str) -> Iterator[None]:
    """Add the address to the text of an OSError, and keep its class and number."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise type(error)(error.errno or errno.EINVAL, f"cannot listen on {place}: {reason}") from error


async def bind_tcp(host: str, port: int, *, reuse_port: bool) -> list[socket.socket]:
    """Bind, without listening, every address of `host`, all at the same port. An empty host means all interfaces."""
    with naming(place_of((host, port))):
        if not 0 <= port <= _HIGHEST_PORT:  # getaddrinfo would take the port modulo 2^16
            raise OSError(errno.EINVAL, f"a port is a number from 0 to {_HIGHEST_PORT}")
        lookup = asyncio.get_running_loop().getaddrinfo
        found = await lookup(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        targets = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
        attempts = _PORT_ATTEMPTS if port == 0 else 1
        while True:
            try:
                return _bind_every(targets, reuse_port=reuse_port)
            except OSError as error:
                # The port that the kernel chose for the first address may be in use at the second.
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
                bound.append(undo.enter_context(_bind(family, (host, chosen, *rest), reuse_port=reuse_port)))
            except OSError as error:
                # A host name such as localhost has an IPv6 address also where the machine has no IPv6.
                if error.errno not in _NO_SUCH_ADDRESS:
                    raise
                absent = error
        if not bound and absent is not None:
            raise absent
        undo.pop_all()
        return bound


def _bind(family: socket.AddressFamily, address: tuple[Any, ...] | str, *, reuse_port: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if family != socket.AF_UNIX:
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
    """Bind a socket file with mode 0600, without listening: no client can connect before the mode is set.

    A stale socket file, on which no process listens, is replaced.
    """
    with naming(place_of(str(path))), contextlib.ExitStack() as undo:
        _remove_stale(path)
        sock = undo.enter_context(_bind(socket.AF_UNIX, str(path)))
        path.chmod(0o600)
        undo.pop_all()
        return sock


def _remove_stale(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "the path exists and is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                try:
                    probe.connect(str(path))
                except ConnectionRefusedError:
                    path.unlink()
