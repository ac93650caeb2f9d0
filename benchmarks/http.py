"""`GET /config` of a document of 2 KB, and an application of one's own, against handlers that do nothing else.

No two requests are the same. They are counted by the server's processor time, which bounds its throughput, since one
event loop serves. The server that is measured has a processor to itself; the client, and the idle servers, use others.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import select
import socket
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from benchmarks.processes import companion, cpu_time
from benchmarks.rows import Row, Samples, Target, compared, in_turns
from benchmarks.services import Parts, toml_of
from benchmarks.topics import quiet
from hotconf import HotConf, Options
from hotconf.web import Server, config_app, pin_snapshot

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

KEYS = 100  # about 2 KB as JSON
BARE = "bare aiohttp handler, ready bytes"
DUMPED = "aiohttp handler, json_response(model_dump())"
OWN = "the bare handler under web.Server"
PINNED = "the bare handler under web.Server with pin_snapshot"
UNIT = "requests/CPU s"

_CONNECTIONS = 16
_PATIENCE = 10.0
_BUFFER = 1 << 18


class Load:
    """Keep-alive connections that send one request after another, on bare sockets: the cheapest possible client.

    Each request has a number of its own in its head.
    """

    def __init__(self, pid: int, port: int, *, tag: str = "") -> None:
        self._pid = pid
        condition = f"If-None-Match: {tag}\r\n" if tag else ""
        head = f"GET /config HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{condition}"
        self._requests = (f"{head}X-Request-Id: {number:08}\r\n\r\n".encode() for number in itertools.count())
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
                sock.sendall(next(self._requests))
            while missing:
                for descriptor, _ in ready.poll(_PATIENCE):
                    sock, rest = missing[descriptor]
                    rest -= self._receive(sock, whole=rest == len(self.first))
                    if rest == 0:
                        answered += 1
                        if time.perf_counter() >= until:
                            del missing[descriptor]
                            continue
                        sock.sendall(next(self._requests))
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
        """Return one response. All later ones have its length: at most the time in a header differs."""
        sock = self._sockets[0]
        sock.sendall(next(self._requests))
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
        names = ("hotconf", BARE, DUMPED, OWN, PINNED)
        processes = {name: stack.enter_context(companion(serve, name, path)) for name in names}
        ports = {name: _port(connection) for name, (_, connection) in processes.items()}
        alone, *others = os.sched_getaffinity(0)
        if others:  # on one processor the client shares it
            os.sched_setaffinity(0, others)
            for pid, _ in processes.values():
                os.sched_setaffinity(pid, [alone])

        def load(name: str, **options: Any) -> Load:
            return stack.enter_context(contextlib.closing(Load(processes[name][0], ports[name], **options)))

        loads = {name: load(name) for name in names}
        loads["304"] = load("hotconf", tag=_header(loads["hotconf"].first, b"etag"))
        rounds, seconds = (5, 0.1) if quick else (12, 0.5)
        samples = in_turns({name: partial(load.throughput, seconds) for name, load in loads.items()}, rounds)
        body = len(loads["hotconf"].first.partition(b"\r\n\r\n")[2])
    config, own, pinned = (Target("ratio", bound, at_least=True) for bound in (0.7, 0.89, 0.8))
    note = f"{body:,} bytes of body, {_CONNECTIONS} connections"
    return [
        _row("GET /config", samples, "hotconf", target=config, note=note),
        _row("GET /config", samples, "hotconf", peer=DUMPED),
        _row("GET /config, answered 304", samples, "304", target=config),
        _row(OWN, samples, OWN, target=own),
        _row(PINNED, samples, PINNED, target=pinned),
    ]


def _row(work: str, samples: Samples, ours: str, *, peer: str = BARE, **options: Any) -> Row:
    return compared(work, {**samples, "hotconf": samples[ours]}, peer, unit=UNIT, **options)


def _port(connection: Connection) -> int:
    if not connection.poll(_PATIENCE):
        raise TimeoutError("a server did not start")
    port: int = connection.recv()
    return port


def _header(answer: bytes, name: bytes) -> str:
    lines = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return next(line.split(b": ", 1)[1] for line in lines if line.lower().startswith(name + b":")).decode()


# In their own processes


def serve(connection: Connection, name: str, path: Path) -> None:
    """Serve on a free port until the connection is closed. The port is sent through the connection."""
    quiet()
    asyncio.run(_serve(connection, name, path))


async def _serve(connection: Connection, name: str, path: Path) -> None:
    closed = asyncio.Event()
    asyncio.get_running_loop().add_reader(connection.fileno(), closed.set)
    conf = HotConf(Parts, files=[path], options=Options(watch=False))
    async with conf.running(signals=()), contextlib.AsyncExitStack() as stack:
        start = _start_bare if name in (BARE, DUMPED) else _start_server
        connection.send(await start(conf, stack, name))
        await closed.wait()


async def _start_server(conf: HotConf[Parts], stack: contextlib.AsyncExitStack, name: str) -> int:
    app = config_app(conf) if name == "hotconf" else _bare_app(conf, name)
    server = Server(app, port=0)
    stack.push_async_callback(server.stop)
    await server.start()
    return server.port


async def _start_bare(conf: HotConf[Parts], stack: contextlib.AsyncExitStack, name: str) -> int:
    runner = web.AppRunner(_bare_app(conf, name), handle_signals=False, access_log=None)
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port: int = runner.addresses[0][1]
    return port


def _bare_app(conf: HotConf[Parts], name: str) -> web.Application:
    settings = conf.current
    ready = web.json_response(settings.model_dump()).body

    async def bytes_at_hand(_request: web.Request) -> web.Response:
        return web.Response(body=ready, content_type="application/json")

    async def dumped(_request: web.Request) -> web.Response:
        return web.json_response(settings.model_dump())

    app = web.Application(middlewares=[pin_snapshot(conf)] if name == PINNED else [])
    app.add_routes([web.get("/config", dumped if name == DUMPED else bytes_at_hand)])
    return app
