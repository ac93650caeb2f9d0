"""The feed: everybody who waits for the configuration to change, parked requests and event streams.

One change is encoded once for each part that is watched, and the same bytes go to every stream of that part.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

import hotconf.keypath as keypath
from hotconf.explain import part
from hotconf.keypath import touches
from hotconf.redact import shown
from hotconf.web.pin import release_snapshot
from hotconf.web.problem import Problem
from hotconf.web.server import server_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hotconf.conf import HotConf
    from hotconf.keypath import KeyPath
    from hotconf.snapshot import Snapshot
    from hotconf.web.server import Server

LOOK = 1.0
"""Seconds between two looks for clients that have gone."""

_BACKLOG = 64 * 1024  # bytes that may wait for a slow reader before it gets only the newest state


@dataclass(slots=True, eq=False)
class _Stream:
    transport: asyncio.Transport
    server: Server | None
    ended: asyncio.Future[None]
    lags: bool = False

    def send(self, frame: bytes) -> None:
        if self.transport.get_write_buffer_size() > _BACKLOG:
            self.lags = True
        else:
            self.transport.write(frame)


@dataclass(slots=True, eq=False)
class _Group:
    """The streams of one part, and the generation that they have seen."""

    dotted: str
    path: KeyPath
    generation: int
    streams: set[_Stream] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Parked:
    transport: asyncio.BaseTransport | None
    server: Server | None
    wake: asyncio.Event


class Feed:
    """Parks requests and feeds streams of one configuration, in one event loop. `heartbeat` is in seconds."""

    def __init__(self, conf: HotConf[Any], store: str, *, heartbeat: float, max_watchers: int) -> None:
        self._conf = conf
        self._store = store
        self._heartbeat = heartbeat
        self._max_watchers = max_watchers
        self._loop: asyncio.AbstractEventLoop | None = None
        self._groups: dict[str, _Group] = {}
        self._parked: set[_Parked] = set()
        self._tending: asyncio.Task[None] | None = None
        self._servers: set[Server] = set()
        self._joined = asyncio.Event()
        conf.on_change(self._changed)

    @property
    def watchers(self) -> dict[str, int]:
        """How many wait, by kind."""
        return {"poll": len(self._parked), "stream": sum(len(group.streams) for group in self._groups.values())}

    async def park(self, request: web.Request, path: KeyPath, seen: int, *, seconds: float) -> None:
        """Return when the values at a path have changed since a generation, after `seconds`, or in a drain."""
        parked = _Parked(request.transport, server_of(request), asyncio.Event())
        with self._admitted(parked.server):
            self._parked.add(parked)
            try:
                async with asyncio.timeout(seconds):
                    while not _is_over(parked) and self._conf.snapshot.changed_in(path) <= seen:
                        await parked.wake.wait()
                        parked.wake.clear()
            except TimeoutError:
                pass
            finally:
                self._parked.discard(parked)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Answer with server-sent events until the client leaves or the server drains."""
        dotted = request.query.get("path", "")
        path = self._resolve(dotted)
        release_snapshot(request)  # a stream may live for days
        with self._admitted(server_of(request)):
            response = web.StreamResponse(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
            response.content_type = "text/event-stream"
            if request.version >= (1, 1):
                response.enable_chunked_encoding()
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                await self._feed(request, response, dotted, path)
        return response

    async def _feed(self, request: web.Request, response: web.StreamResponse, dotted: str, path: KeyPath) -> None:
        transport = request.transport
        if not isinstance(transport, asyncio.Transport):
            return
        stream = _Stream(transport, server_of(request), asyncio.get_running_loop().create_future())
        snapshot = self._conf.snapshot
        await response.write(self._greeting(request, snapshot, dotted, path))
        current = self._conf.snapshot
        group = self._groups.setdefault(dotted, _Group(dotted, path, current.changed_in(path)))
        group.streams.add(stream)
        if current.changed_in(path) > snapshot.changed_in(path):  # it changed while the greeting was written
            stream.send(_chunk(self._event(current, dotted, path, since=snapshot.generation)))
        try:
            await stream.ended
        finally:
            group.streams.discard(stream)
            if not group.streams:
                self._groups.pop(dotted, None)
        if not transport.is_closing():
            await response.write(b"event: shutdown\ndata: {}\n\n")

    def _greeting(self, request: web.Request, snapshot: Snapshot[Any], dotted: str, path: KeyPath) -> bytes:
        """Return the full state, or nothing new for a client that has it already."""
        retry = f"retry: {random.randint(1000, 3000)}\n".encode()  # noqa: S311 - so that clients do not come back in step
        since = self._generation_of(request.headers.get("Last-Event-ID", ""), snapshot)
        if since is not None and since >= snapshot.changed_in(path):
            return retry + b": nothing new\n\n"
        return retry + b"\n" + self._event(snapshot, dotted, path, since=since)

    def _generation_of(self, token: str, snapshot: Snapshot[Any]) -> int | None:
        store, _, generation = token.partition(".")
        known = store == self._store and generation.isdecimal() and int(generation) <= snapshot.generation
        return int(generation) if known else None

    def _resolve(self, dotted: str) -> KeyPath:
        try:
            return part(self._conf.snapshot, dotted)[0]
        except (KeyError, ValueError):
            raise Problem(HTTPStatus.NOT_FOUND, f"the configuration has no {dotted!r}") from None

    def _event(
        self, snapshot: Snapshot[Any], dotted: str, path: KeyPath, *, since: int | None, gap: bool = False
    ) -> bytes:
        generation = snapshot.changed_in(path)
        data: dict[str, Any] = {"generation": snapshot.generation, "changed": [], "value": None}
        if since is not None:
            changed = (at for at, when in snapshot.changes.items() if when > since and touches(at, path))
            data["changed"] = [keypath.render(at) for at in changed]
        try:
            data["value"] = shown(self._conf.schema, *part(snapshot, dotted))
        except KeyError:
            data["gone"] = True
        if gap:
            data["gap"] = True
        text = json.dumps(data, ensure_ascii=False)
        return f"id: {self._store}.{generation}\nevent: config\ndata: {text}\n\n".encode("utf-8", "backslashreplace")

    # Changes

    def _changed(self, _change: object) -> None:
        # The engine may have a loop of its own.
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has closed: nobody waits in it any more
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for parked in self._parked:
            parked.wake.set()
        snapshot = self._conf.snapshot
        for group in self._groups.values():
            generation = snapshot.changed_in(group.path)
            if generation > group.generation:
                frame = _chunk(self._event(snapshot, group.dotted, group.path, since=group.generation))
                group.generation = generation
                for stream in group.streams:
                    stream.send(frame)

    # Clients that come and go

    @contextlib.contextmanager
    def _admitted(self, server: Server | None) -> Iterator[None]:
        if sum(self.watchers.values()) >= self._max_watchers:
            headers = {"Retry-After": "5"}
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "too many clients wait for changes already", headers=headers)
        self._loop = asyncio.get_running_loop()
        if self._tending is None or self._tending.done():
            self._servers, self._joined = set(), asyncio.Event()
            self._tending = asyncio.create_task(self._tend(), name="hotconf-feed")
        if server is not None and server not in self._servers:
            self._servers.add(server)
            self._joined.set()
        yield

    async def _tend(self) -> None:
        """Look for clients that have gone, and let the others hear that we are here. Ends when nobody waits."""
        loop = asyncio.get_running_loop()
        beat = loop.time() + self._heartbeat
        while True:
            await self._pause()
            if not any(self.watchers.values()):
                return
            for parked in self._parked:
                if _is_over(parked):
                    parked.wake.set()
            due = loop.time() >= beat
            beat = loop.time() + self._heartbeat if due else beat
            for group in self._groups.values():
                self._tend_group(group, beat=due)

    async def _pause(self) -> None:
        """Wait until it is time to look again: after a while, at the first drain, or when a server's first client came.

        One look for all, and not a task for each that waits: that would be most of the memory of a client.
        """
        drains = [server.draining for server in self._servers if not server.draining.is_set()]
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._joined, *drains)]
        try:
            await asyncio.wait(waiting, timeout=min(LOOK, self._heartbeat), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        self._joined.clear()

    def _tend_group(self, group: _Group, *, beat: bool) -> None:
        for stream in group.streams:
            if _is_over(stream):
                _resolve(stream.ended)
            elif stream.lags and stream.transport.get_write_buffer_size() == 0:
                stream.lags = False
                stream.send(_chunk(self._event(self._conf.snapshot, group.dotted, group.path, since=None, gap=True)))
            elif beat and not stream.lags:
                stream.send(_chunk(b": here\n\n"))


def _is_over(waiting: _Parked | _Stream) -> bool:
    """Whether a client has gone, or its server wants it to go."""
    drains = waiting.server is not None and waiting.server.draining.is_set()
    return drains or waiting.transport is None or waiting.transport.is_closing()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _chunk(frame: bytes) -> bytes:
    """Return a frame as one chunk of a chunked body, so that the same bytes can go to every transport."""
    return b"%x\r\n%b\r\n" % (len(frame), frame)
