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
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

import hotconf.keypath as keypath
from hotconf.explain import part
from hotconf.keypath import touches
from hotconf.redact import shown
from hotconf.web.pin import release_snapshot
from hotconf.web.problem import Problem
from hotconf.web.server import draining_of, limit_goodbye

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hotconf.conf import HotConf
    from hotconf.keypath import KeyPath
    from hotconf.report import Report
    from hotconf.snapshot import Snapshot

LOOK = 1.0
"""Seconds between two looks for clients that have gone."""

_BACKLOG = 64 * 1024  # bytes that may wait for a slow reader before it gets only the newest state


class _Frame(NamedTuple):
    """One event as it goes to every transport: as a chunk, and plain for clients of HTTP/1.0, which knows no chunks."""

    chunk: bytes
    plain: bytes

    @classmethod
    def of(cls, event: bytes) -> _Frame:
        return cls(b"%x\r\n%b\r\n" % (len(event), event), event)


@dataclass(slots=True, eq=False)
class _Stream:
    transport: asyncio.Transport
    chunked: bool
    gone: asyncio.Event
    lags: bool = False
    reports: bool = False

    def send(self, frame: _Frame) -> None:
        if self.transport.is_closing():
            return  # asked for what it holds, a closed one may raise, and the other streams would go without
        # One that lags gets nothing more until `catch_up`: a frame in between would show no gap.
        if self.lags or self.transport.get_write_buffer_size() > _BACKLOG:
            self.lags = True
        else:
            self.transport.write(frame.chunk if self.chunked else frame.plain)

    def catch_up(self, frame: _Frame) -> None:
        self.lags = False
        self.send(frame)


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
    wake: asyncio.Event


_BEAT = _Frame.of(b": here\n\n")


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
        self._admissions = 0
        self._tending: asyncio.Task[None] | None = None
        conf.on_change(self._changed)
        conf.observe(self)

    @property
    def watchers(self) -> dict[str, int]:
        """How many wait, by kind."""
        return {"poll": len(self._parked), "stream": sum(len(group.streams) for group in self._groups.values())}

    async def park(self, request: web.Request, path: KeyPath, seen: int, *, seconds: float) -> None:
        """Return when the values at a path have changed since a generation, after `seconds`, or in a drain."""
        parked = _Parked(request.transport, asyncio.Event())
        with self._admitted():
            self._parked.add(parked)
            draining = asyncio.ensure_future(draining_of(request).wait())
            draining.add_done_callback(lambda _: parked.wake.set())
            try:
                async with asyncio.timeout(seconds):
                    while not draining.done() and self._conf.snapshot.changed_in(path) <= seen and _is_open(parked):
                        await parked.wake.wait()
                        parked.wake.clear()
            except TimeoutError:
                pass
            finally:
                draining.cancel()
                self._parked.discard(parked)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Answer with server-sent events until the client leaves or the server drains.

        A client that reads too slowly misses events; then it gets the newest state, which says so: `"gap": true`. With
        `?reports=1` there is an event for every reload too, whatever came of it.
        """
        dotted = request.query.get("path", "")
        path = self._resolve(dotted)
        release_snapshot(request)  # a stream may live for days
        with self._admitted():
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
        if transport is None:
            return
        stream = _Stream(transport, response.chunked, asyncio.Event())
        retry = random.randint(1000, 3000)  # noqa: S311 - milliseconds, so that clients do not come back in step
        await response.write(b"retry: %d\n\n" % retry)
        # Nothing is awaited from here until it is one of its group, or a change in between would pass it by.
        snapshot = self._conf.snapshot
        stream.reports = request.query.get("reports") == "1"
        stream.send(_Frame.of(self._greeting(request, snapshot, dotted, path)))
        group = self._groups.setdefault(dotted, _Group(dotted, path, snapshot.changed_in(path)))
        group.streams.add(stream)
        try:
            await _first(draining_of(request), stream.gone)
        finally:
            group.streams.discard(stream)
            if not group.streams:
                self._groups.pop(dotted, None)
        if not stream.gone.is_set():
            limit_goodbye(request)
            await response.write(b"event: shutdown\ndata: {}\n\n")

    def _greeting(self, request: web.Request, snapshot: Snapshot[Any], dotted: str, path: KeyPath) -> bytes:
        """Return the full state, or nothing new for a client that has it already."""
        since = self._generation_of(request.headers.get("Last-Event-ID", ""), snapshot)
        if since is not None and since >= snapshot.changed_in(path):
            return b": nothing new\n\n"
        return self._event(snapshot, dotted, path, since=since)

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
        self._call(self._wake)

    def reload_began(self, triggers: Sequence[str]) -> None:
        """Nobody is told before something has come of it."""

    def reload_ended(self, report: Report) -> None:
        """Tell the streams that asked for reports."""
        self._call(self._report, report)

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        # The engine may have a loop of its own.
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has closed: nobody waits in it any more
                self._loop.call_soon_threadsafe(function, *arguments)

    def _report(self, report: Report) -> None:
        streams = [stream for group in self._groups.values() for stream in group.streams if stream.reports]
        if streams:
            frame = _Frame.of(f"event: report\ndata: {json.dumps(report.as_dict())}\n\n".encode())
            for stream in streams:
                stream.send(frame)

    def _wake(self) -> None:
        for parked in self._parked:
            parked.wake.set()
        snapshot = self._conf.snapshot
        for group in self._groups.values():
            generation = snapshot.changed_in(group.path)
            if generation > group.generation:
                frame = _Frame.of(self._event(snapshot, group.dotted, group.path, since=group.generation))
                group.generation = generation
                for stream in group.streams:
                    stream.send(frame)

    # Clients that come and go

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[None]:
        # Counted from here on, and not from when they wait: one that does not read its greeting is there, too.
        if self._admissions >= self._max_watchers:
            headers = {"Retry-After": "5"}
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "too many clients wait for changes already", headers=headers)
        self._loop = asyncio.get_running_loop()
        if self._tending is None or self._tending.done():
            self._tending = asyncio.create_task(self._tend(), name="hotconf-feed")
        self._admissions += 1
        try:
            yield
        finally:
            self._admissions -= 1

    async def _tend(self) -> None:
        """Look for clients that have gone, and let the others hear that we are here. Ends when nobody waits."""
        loop = asyncio.get_running_loop()
        beat = loop.time() + self._heartbeat
        while True:
            await asyncio.sleep(min(LOOK, self._heartbeat))
            if not self._admissions:
                return
            for parked in self._parked:
                if not _is_open(parked):
                    parked.wake.set()
            due = loop.time() >= beat
            beat = loop.time() + self._heartbeat if due else beat
            for group in self._groups.values():
                self._tend_group(group, beat=due)

    def _tend_group(self, group: _Group, *, beat: bool) -> None:
        for stream in group.streams:
            if stream.transport.is_closing():
                stream.gone.set()
            elif stream.lags and stream.transport.get_write_buffer_size() == 0:
                event = self._event(self._conf.snapshot, group.dotted, group.path, since=None, gap=True)
                stream.catch_up(_Frame.of(event))
            elif beat:
                stream.send(_BEAT)


def _is_open(parked: _Parked) -> bool:
    return parked.transport is not None and not parked.transport.is_closing()


async def _first(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
