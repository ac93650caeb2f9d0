"""`GET /config` of a document of 2 KB, against handlers that do nothing else.

Requests are counted by the server's processor time, which other work on the machine does not distort. Since one event
loop serves, that is what bounds its throughput.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from benchmarks.processes import companion, cpu_time
from benchmarks.rows import Row, Target, compared, in_turns
from benchmarks.services import Parts, toml_of
from benchmarks.topics import quiet
from hotconf import HotConf, Options
from hotconf.web import Server, config_app

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

KEYS = 100  # about 2 KB as JSON
BARE = "bare aiohttp handler, ready bytes"
DUMPED = "aiohttp handler, json_response(model_dump())"
UNIT = "requests/CPU s"

_CONNECTIONS = 16
_PATIENCE = 10.0
_BUFFER = 1 << 18


class Load:
    """Keep-alive connections that ask the same again and again: the least that a client can do, on bare sockets."""

    def __init__(self, pid: int, port: int, tag: str = "") -> None:
        self._pid = pid
        condition = f"If-None-Match: {tag}\r\n" if tag else ""
        self._request = f"GET /config HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{condition}\r\n".encode()
        self._sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(_CONNECTIONS)]
        self.first = self._ask_once()

    def throughput(self, seconds: float) -> float:
        """Return the requests answered in a second of the server's processor time."""
        answered, used = 0, cpu_time(self._pid)
        until = time.perf_counter() + seconds
        with select.epoll() as ready:
            missing = {sock.fileno(): (sock, len(self.first)) for sock in self._sockets}
            for sock in self._sockets:
                ready.register(sock, select.EPOLLIN)
                sock.sendall(self._request)
            while missing:
                for descriptor, _ in ready.poll(_PATIENCE):
                    sock, rest = missing[descriptor]
                    rest -= self._receive(sock, whole=rest == len(self.first))
                    if rest == 0:
                        answered += 1
                        if time.perf_counter() >= until:
                            del missing[descriptor]
                            continue
                        sock.sendall(self._request)
                        rest = len(self.first)
                    missing[descriptor] = sock, rest
        return answered / (cpu_time(self._pid) - used)

    def close(self) -> None:
        """Close the connections."""
        for sock in self._sockets:
            sock.close()

    def _receive(self, sock: socket.socket, *, whole: bool) -> int:
        data = sock.recv(_BUFFER)
        if not data or (whole and data[:12] != self.first[:12]):
            raise RuntimeError("not the answer that was to be measured")
        return len(data)

    def _ask_once(self) -> bytes:
        """Return one answer. All later ones are of its length: their headers differ in the time at most."""
        sock = self._sockets[0]
        sock.sendall(self._request)
        data = sock.recv(_BUFFER)
        head, _, body = data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields.get(b"content-length", b"0")) if b" 304 " not in head[:14] else 0
        while len(body) < length:
            body += sock.recv(_BUFFER)
        return head + b"\r\n\r\n" + body


def rows(*, quick: bool) -> list[Row]:
    """Return the rows of this topic."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = Path(folder) / "app.toml"
        path.write_text(toml_of(KEYS, 0), encoding="utf-8")
        processes = {name: stack.enter_context(companion(serve, name, path)) for name in ("hotconf", BARE, DUMPED)}
        ports = {name: _port(connection) for name, (_, connection) in processes.items()}
        loads = {
            name: stack.enter_context(contextlib.closing(Load(processes[name][0], port)))
            for name, port in ports.items()
        }
        tag = _header(loads["hotconf"].first, b"etag")
        unchanged = stack.enter_context(contextlib.closing(Load(processes["hotconf"][0], ports["hotconf"], tag)))
        rounds, seconds = (5, 0.2) if quick else (12, 0.6)
        samples = in_turns(
            {
                **{name: (lambda load=load: load.throughput(seconds)) for name, load in loads.items()},
                "304": lambda: unchanged.throughput(seconds),
            },
            rounds,
        )
        body = len(loads["hotconf"].first.partition(b"\r\n\r\n")[2])
    note = f"{body:,} bytes of body, {_CONNECTIONS} connections"
    target = Target("ratio", 0.95, at_least=True)
    return [
        compared("GET /config", samples, BARE, unit=UNIT, target=target, note=note),
        compared("GET /config", samples, DUMPED, unit=UNIT),
        compared(
            "GET /config, answered 304",
            {**samples, "hotconf": samples["304"]},
            BARE,
            unit=UNIT,
            target=Target("ratio", 1.1, at_least=True),
        ),
    ]


def _port(connection: Connection) -> int:
    if not connection.poll(_PATIENCE):
        raise TimeoutError("a server did not start")
    port: int = connection.recv()
    return port


def _header(answer: bytes, name: bytes) -> str:
    lines = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return next(line.split(b": ", 1)[1] for line in lines if line.lower().startswith(name + b":")).decode()


# In processes of their own


def serve(connection: Connection, name: str, path: Path) -> None:
    """Serve on a free port, which is told through the connection, until that is closed."""
    quiet()
    asyncio.run(_serve(connection, name, path))


async def _serve(connection: Connection, name: str, path: Path) -> None:
    closed = asyncio.Event()
    asyncio.get_running_loop().add_reader(connection.fileno(), closed.set)
    conf = HotConf(Parts, files=[path], options=Options(watch=False))
    async with conf.running(signals=()), contextlib.AsyncExitStack() as stack:
        start = _start_hotconf if name == "hotconf" else _start_bare
        connection.send(await start(conf, stack, name))
        await closed.wait()


async def _start_hotconf(conf: HotConf[Parts], stack: contextlib.AsyncExitStack, _name: str) -> int:
    server = Server(config_app(conf), port=0)
    stack.push_async_callback(server.stop)
    await server.start()
    return server.port


async def _start_bare(conf: HotConf[Parts], stack: contextlib.AsyncExitStack, name: str) -> int:
    settings = conf.current
    ready = web.json_response(settings.model_dump()).body

    async def bytes_at_hand(_request: web.Request) -> web.Response:
        return web.Response(body=ready, content_type="application/json")

    async def dumped(_request: web.Request) -> web.Response:
        return web.json_response(settings.model_dump())

    app = web.Application()
    app.add_routes([web.get("/config", bytes_at_hand if name == BARE else dumped)])
    runner = web.AppRunner(app, handle_signals=False, access_log=None)
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port: int = runner.addresses[0][1]
    return port
