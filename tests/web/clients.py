"""A server in this process, and clients that show every byte and every end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field

from aiohttp import web

from hotconf.web.server.drain import iter_messages, shutdown_event
from hotconf.web.server.server import Server

GET = b"GET %s HTTP/1.1\r\nHost: test\r\n\r\n"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self):
        return self.headers.get("connection") == "close"


class Client:
    """One raw connection, which shows every byte and every end."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    def send(self, data):
        self.writer.write(data)

    async def get(self, path="/"):
        self.send(GET % path.encode())
        return await self.reply()

    async def head(self):
        raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").strip().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        return int(first.split()[1]), {name.lower(): value for name, value in pairs}

    async def reply(self):
        status, headers = await self.head()
        if headers.get("transfer-encoding") == "chunked":
            return Reply(status, headers, await self.chunks())
        return Reply(status, headers, await self.reader.readexactly(int(headers.get("content-length", 0))))

    async def chunk(self):
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def chunks(self):
        """The whole chunked body. Raises IncompleteReadError where it ends early."""
        body = b""
        while piece := await self.chunk():
            body += piece
        return body

    async def ended(self):
        """Whether the server closed, in order and without another byte."""
        return await self.reader.read() == b""


@dataclass
class Gates:
    """An application whose handlers stop where the test wants them."""

    entered: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[str] = field(default_factory=list)

    def app(self, **options):
        app = web.Application(**options)
        app.router.add_get("/", self.hello)
        app.router.add_get("/slow", self.slow)
        app.router.add_get("/late-stream", self.late_stream)
        app.router.add_get("/early-stream", self.early_stream)
        app.router.add_get("/refusal", self.refusal)
        app.router.add_get("/stubborn", self.stubborn)
        app.router.add_get("/events", self.events)
        app.router.add_get("/big", self.big)
        app.router.add_get("/medium", self.medium)
        app.router.add_get("/ws", self.ws)
        app.router.add_post("/upload", self.upload)
        return app

    async def hello(self, request):
        return web.Response(text="hello")

    async def pass_gate(self):
        self.entered.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise

    async def slow(self, request):
        assert request.keep_alive  # aiohttp remembers what it answered here
        await self.pass_gate()
        self.seen.append("finished")
        return web.Response(text="slow")

    async def late_stream(self, request):
        await self.pass_gate()
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"late")
        return response

    async def early_stream(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"early,")
        await self.pass_gate()
        await response.write(b"late")
        return response

    async def refusal(self, request):
        assert request.keep_alive
        await self.pass_gate()
        raise web.HTTPConflict(text="no")

    async def stubborn(self, request):
        self.entered.set()
        while not self.release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.release.wait()
        return web.Response()

    async def events(self, request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"event: config\n\n")
        self.entered.set()
        await shutdown_event(request).wait()
        await response.write(b"event: shutdown\n\n")
        return response

    async def big(self, request):
        self.entered.set()
        return web.Response(body=b"x" * 64_000_000)

    async def medium(self, request):
        # More than both sockets hold, less than what makes a writer wait: the handler is done, the answer is not sent.
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.entered.set()
        return web.Response(body=b"x" * 50_000)

    async def ws(self, request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        self.entered.set()
        async for message in iter_messages(ws, request):
            await ws.send_str(message.data)
        self.seen.append(f"closed {ws.close_code}")
        return ws

    async def upload(self, request):
        self.entered.set()
        return web.Response(text=str(len(await request.read())))


@contextlib.asynccontextmanager
async def serving(app, **options):
    server = Server(app, **{"port": 0, **options})
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def client_of(server, **options):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, **options)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def draining(server, *, within=20.0):
    """Start a drain with that many seconds to its deadline."""
    return asyncio.create_task(server.drain(deadline=asyncio.get_running_loop().time() + within))


async def until(condition):
    """Poll until it holds; the test's own time limit is the bound."""
    while not condition():
        await asyncio.sleep(0.005)
