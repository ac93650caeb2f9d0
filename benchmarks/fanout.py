"""One change to many streams of server-sent events, against plain writes of as many bytes to as many sockets.

All clients are sockets of this process, which notes when the last of them has the whole frame; the clock begins in the
server, with the swap. Both servers run beside each other and take turns. Memory is what the server's process grew by,
divided by the clients that came.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import select
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.processes import companion, resident
from benchmarks.rows import Row, Target, compared, in_turns
from benchmarks.services import Parts, toml_of
from benchmarks.topics import quiet
from hotconf import HotConf, Options
from hotconf.formats import parse
from hotconf.sources import Memory
from hotconf.web import Server, config_app

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

COUNTS = (1_000, 5_000)
KEYS = 100  # about 2 KB as JSON: each frame holds the new value
PLAIN = "transport.write() of the frame to each"

_ASK = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
_END = b"\n\n\r\n"  # of an event, and of the chunk that holds it
_PATIENCE = 60.0
_BUFFER = 1 << 16


class Crowd:
    """Clients of one server, which is controlled through a pipe."""

    def __init__(self, connection: Connection, count: int) -> None:
        self._connection = connection
        self._ready = select.epoll()
        port, before = self._told()
        self._sockets: dict[int, socket.socket] = {}
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.sendall(_ASK)
            self._ready.register(sock, select.EPOLLIN)
            self._sockets[sock.fileno()] = sock
        self._receive()
        self.kib_each = (self._ask("resident") - before) / count

    def change(self) -> float:
        """Return the milliseconds from the change until the last client has received it."""
        self._connection.send("change")
        done = self._receive()
        return (done - self._told()) * 1e3

    def close(self) -> None:
        """Close the connections."""
        for sock in self._sockets.values():
            sock.close()
        self._ready.close()

    def _receive(self) -> float:
        """Wait until each client has the end of an event, and return the time."""
        missing = set(self._sockets)
        while missing:
            events = self._ready.poll(_PATIENCE)
            if not events:
                raise TimeoutError("some clients got nothing")
            for descriptor, _ in events:
                data = self._sockets[descriptor].recv(_BUFFER)
                if data.endswith(_END):
                    missing.discard(descriptor)
                elif not data:
                    raise RuntimeError("a stream ended")
        return time.perf_counter()

    def _ask(self, word: str) -> Any:
        self._connection.send(word)
        return self._told()

    def _told(self) -> Any:
        if not self._connection.poll(_PATIENCE):
            raise TimeoutError("a server does not answer")
        return self._connection.recv()


def rows(*, quick: bool) -> list[Row]:
    """Return the rows of this topic."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return [row for count in (COUNTS[:1] if quick else COUNTS) for row in _rows(count, rounds=5 if quick else 15)]


def _rows(count: int, rounds: int) -> list[Row]:
    with contextlib.ExitStack() as stack:
        crowds = {
            name: stack.enter_context(contextlib.closing(Crowd(stack.enter_context(companion(serve, name))[1], count)))
            for name in ("hotconf", PLAIN)
        }
        samples = in_turns({name: partial(crowd.change) for name, crowd in crowds.items()}, rounds)
    return [
        compared(f"one change to {count:,} streams", samples, PLAIN, unit="ms", target=Target("ratio", 1.4)),
        Row(
            work=f"memory of the server for each of {count:,} streams",
            peer="an asyncio connection",
            unit="KiB",
            peer_value=crowds[PLAIN].kib_each,
            hotconf=crowds["hotconf"].kib_each,
            target=Target("value", 12),
        ),
    ]


# In their own processes


def serve(connection: Connection, name: str) -> None:
    """Serve on a free port until the connection is closed. The port is sent through the connection."""
    quiet()
    asyncio.run((_serve_hotconf if name == "hotconf" else _serve_plain)(connection))


async def _serve_hotconf(connection: Connection) -> None:
    memory = Memory(_values(0))
    conf = HotConf(Parts, sources=[memory], options=Options(watch=False))
    began = 0.0

    @conf.on_change  # called first
    def begin(_change: object) -> None:
        nonlocal began
        began = time.perf_counter()

    async def change(serial: int) -> float:
        memory.set(_values(serial))
        await conf.reload()
        return began

    async with conf.running(signals=()):
        server = Server(config_app(conf, heartbeat=3600), port=0, backlog=1024)
        await server.start()
        await _obey(connection, server.port, change)
        await server.stop()


async def _serve_plain(connection: Connection) -> None:
    transports: list[asyncio.Transport] = []

    class Plain(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport
            transports.append(transport)

        def data_received(self, _data: bytes) -> None:
            self.transport.write(_END)

    async def change(serial: int) -> float:
        frame = f"{serial:2600}".encode() + _END
        began = time.perf_counter()
        for transport in transports:
            transport.write(frame)
        return began

    server = await asyncio.get_running_loop().create_server(Plain, "127.0.0.1", 0, backlog=1024)
    await _obey(connection, server.sockets[0].getsockname()[1], change)


def _values(serial: int) -> dict[str, Any]:
    return parse("toml", toml_of(KEYS, serial).encode())


async def _obey(connection: Connection, port: int, change: Any) -> None:
    """Send the port and the memory in use, then obey commands until the connection is closed."""
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    connection.send((port, resident()))
    loop.add_reader(connection.fileno(), asked.set)
    serial = 0
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            await asked.wait()
            asked.clear()
            if not connection.poll():
                continue  # the event was set again while the last command was read
            word = connection.recv()
            serial += 1
            connection.send(await change(serial) if word == "change" else resident())
