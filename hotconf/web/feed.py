"""The feed: everybody who waits for the configuration to change, parked requests and event streams.

One change is encoded once for each part that is watched, and the same bytes go to every stream of that part.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from aiohttp import web

import hotconf.values.keypath as keypath
from hotconf.values.keypath import touches
from hotconf.values.report import jsonable
from hotconf.values.times import check_seconds
from hotconf.web.parameters import flag, parameter
from hotconf.web.parts import keys_in, part_at
from hotconf.web.pin import release_snapshot
from hotconf.web.problem import Problem
from hotconf.web.server.drain import abort_slow_reader, drain_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from hotconf.conf import HotConf
    from hotconf.reload.snapshot import Snapshot
    from hotconf.values.keypath import KeyPath
    from hotconf.values.report import Report
    from hotconf.web.server.drain import DrainState

LOOK = 1.0
"""Seconds between two looks for clients that have gone."""

SHORTEST_HEARTBEAT = 0.1
"""Seconds. Signs of life in shorter order would be all that the event loop does."""

_BACKLOG = 64 * 1024  # bytes that may wait for a slow reader before it gets only the newest state
_BATCH = 250  # clients that are served before the event loop may do something else: a few milliseconds


class _Frame:
    """The bytes of one or more events, and the same as a chunk of a chunked body."""

    __slots__ = ("chunk", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.chunk = b"%x\r\n%b\r\n" % (len(text), text)


@dataclass(slots=True, eq=False)
class _Stream:
    transport: asyncio.Transport
    drain: DrainState | None
    ended: asyncio.Future[None]
    chunked: bool
    reports: bool
    lags: bool = False

    @classmethod
    def of(cls, request: web.Request, transport: asyncio.Transport, *, reports: bool) -> _Stream:
        """Return the stream that a request asks for. HTTP/1.0 knows no chunks."""
        ended = asyncio.get_running_loop().create_future()
        return cls(transport, drain_state(request), ended, request.version >= (1, 1), reports)

    def send(self, frame: _Frame) -> None:
        if self.ended.done() or self.transport.is_closing():
            return  # asked for what it holds, a closed one may raise, and the other streams would go without
        # One that lags gets nothing more until `catch_up`: a frame in between would show no gap.
        if self.lags or self.transport.get_write_buffer_size() > _BACKLOG:
            self.lags = True
        else:
            self.transport.write(frame.chunk if self.chunked else frame.text)

    def catch_up(self, frame: _Frame) -> None:
        self.lags = False
        self.send(frame)


@dataclass(slots=True, eq=False)
class _Group:
    """The streams of one part, and the generation that they have seen."""

    path: KeyPath
    generation: int
    streams: set[_Stream] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Parked:
    transport: asyncio.BaseTransport | None
    drain: DrainState | None
    path: KeyPath
    seen: int
    ended: asyncio.Future[None]


class Feed:
    """Parks requests and feeds streams of one configuration, in one event loop. `heartbeat` is in seconds."""

    def __init__(self, conf: HotConf[Any], *, heartbeat: float, max_watchers: int) -> None:
        self._conf = conf
        # Names this life of this process: a token from another one must never look like one of ours.
        self._store = secrets.token_hex(4)
        self._heartbeat = check_seconds("heartbeat", heartbeat, least=SHORTEST_HEARTBEAT)
        self._max_watchers = max_watchers
        self._loop: asyncio.AbstractEventLoop | None = None
        self._groups: dict[KeyPath, _Group] = {}
        self._parked: set[_Parked] = set()
        self._admitted = 0
        self._outbox: deque[tuple[Callable[[Any], object], Iterator[Any]]] = deque()
        self._tending: asyncio.Task[None] | None = None
        self._drains: set[DrainState] = set()
        self._joined = asyncio.Event()
        self._newest: tuple[object, KeyPath, bytes] = None, (), b""
        conf.on_change(self._changed)
        conf.observe(self)

    @property
    def watchers(self) -> dict[str, int]:
        """How many wait, by kind."""
        return {"poll": len(self._parked), "stream": sum(len(group.streams) for group in self._groups.values())}

    def token(self, generation: int) -> str:
        """Return the token of a part that changed last in a generation."""
        return f"{self._store}.{generation}"

    # Parked requests

    async def park(self, request: web.Request, path: KeyPath, seen: int, *, seconds: float) -> None:
        """Return when the values at a path have changed since a generation, after `seconds`, or in a drain."""
        drain = drain_state(request)
        self._admit(drain)
        parked = _Parked(request.transport, drain, path, seen, asyncio.get_running_loop().create_future())
        self._parked.add(parked)
        try:
            # The engine may have a thread of its own, which has swapped before it could know of us.
            if not _is_over(parked) and self._conf.snapshot.changed_in(path) <= seen:
                async with asyncio.timeout(seconds):
                    await parked.ended
        except TimeoutError:
            pass
        finally:
            self._parked.discard(parked)
            self._admitted -= 1

    # Streams

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Answer with server-sent events until the client leaves or the server drains.

        A client that reads too slowly misses events; then it gets the newest state, which says so: `"gap": true`. With
        `?reports=1` there is an event for every reload too, whatever came of it.
        """
        path = part_at(self._conf.snapshot.document, keys_in(parameter(request, "path") or "")).path
        reports = flag(request, "reports")
        self._admit(drain_state(request))
        try:
            release_snapshot(request)  # a stream may live for days
            response = _stream_response(request)
            await response.prepare(request)
            response.headers.clear()  # they were sent, and take more memory than all that is noted of a stream here
            if request.transport is not None:
                stream = _Stream.of(request, request.transport, reports=reports)
                group = self._join(stream, path, request.headers.get("Last-Event-ID", ""))
                try:
                    await stream.ended
                finally:
                    self._leave(stream, group)
                await self._end(request, response)
        finally:
            self._admitted -= 1
        return response

    def _join(self, stream: _Stream, path: KeyPath, token: str) -> _Group:
        """Tell a stream what is in force, and let it be told of each change from now on.

        Nothing is awaited in between: no change can come before the greeting, or be missed behind it.
        """
        snapshot = self._conf.snapshot
        stream.send(_Frame(self._greeting(token, snapshot, path)))
        group = self._groups.setdefault(path, _Group(path, snapshot.changed_in(path)))
        if group.generation < snapshot.changed_in(path):
            self._tell(group, snapshot)  # of an engine in another thread the others may not have heard yet
        group.streams.add(stream)
        return group

    def _leave(self, stream: _Stream, group: _Group) -> None:
        group.streams.discard(stream)
        if not group.streams:
            self._groups.pop(group.path, None)

    async def _end(self, request: web.Request, response: web.StreamResponse) -> None:
        if request.transport is not None and not request.transport.is_closing():
            abort_slow_reader(request)
            with contextlib.suppress(ConnectionError):
                await response.write(b"event: shutdown\ndata: {}\n\n")

    def _greeting(self, token: str, snapshot: Snapshot[Any], path: KeyPath) -> bytes:
        """Return the full state, or nothing new for a client that has it already."""
        retry = f"retry: {random.randint(1000, 3000)}\n".encode()  # noqa: S311 - so that clients do not come back in step
        since = self._generation_of(token, snapshot)
        if since is not None and since >= snapshot.changed_in(path):
            return retry + b": nothing new\n\n"
        state = self._state(snapshot, path) if since is None else self._event(snapshot, path, since=since)
        return retry + b"\n" + state

    def _state(self, snapshot: Snapshot[Any], path: KeyPath) -> bytes:
        """Return the full state, encoded once for all who come one after the other, as they do after a restart."""
        # By the document: an override is of the same generation, and the snapshot itself would keep its resources open.
        document = snapshot.document
        if self._newest[0] is not document or self._newest[1] != path:
            self._newest = document, path, self._event(snapshot, path, since=None)
        return self._newest[2]

    def _generation_of(self, token: str, snapshot: Snapshot[Any]) -> int | None:
        store, _, generation = token.partition(".")
        known = store == self._store and generation.isascii() and generation.isdecimal() and len(generation) < 20
        return int(generation) if known and int(generation) <= snapshot.generation else None

    def _event(self, snapshot: Snapshot[Any], path: KeyPath, *, since: int | None, gap: bool = False) -> bytes:
        dotted = keypath.render(path)
        data: dict[str, Any] = {"path": dotted, "generation": snapshot.generation, "changed": [], "value": None}
        if since is not None:
            changed = (at for at, when in snapshot.changes.items() if when > since and touches(at, path))
            data["changed"] = [keypath.render(at) for at in changed]
        try:
            data["value"] = part_at(snapshot.document, map(str, path)).value
        except Problem:
            data["gone"] = True
        if gap:
            data["gap"] = True
        text = json.dumps(data, ensure_ascii=False)
        token = self.token(snapshot.changed_in(path))
        return f"id: {token}\nevent: config\ndata: {text}\n\n".encode("utf-8", "backslashreplace")

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

    def _wake(self) -> None:
        snapshot = self._conf.snapshot
        changed_in = {path: snapshot.changed_in(path) for path in {parked.path for parked in self._parked}}
        over = [parked.ended for parked in self._parked if changed_in[parked.path] > parked.seen]
        self._do(_resolve, over)
        for group in self._groups.values():
            if snapshot.changed_in(group.path) > group.generation:
                self._tell(group, snapshot)

    def _tell(self, group: _Group, snapshot: Snapshot[Any]) -> None:
        frame = _Frame(self._event(snapshot, group.path, since=group.generation))
        group.generation = snapshot.changed_in(group.path)
        self._send(frame, group.streams)

    def _report(self, report: Report) -> None:
        streams = [stream for group in self._groups.values() for stream in group.streams if stream.reports]
        if streams:
            self._send(_Frame(f"event: report\ndata: {json.dumps(jsonable(report))}\n\n".encode()), streams)

    def _send(self, frame: _Frame, streams: Iterable[_Stream]) -> None:
        self._do(methodcaller("send", frame), tuple(streams))

    def _do(self, function: Callable[[Any], object], items: Iterable[Any]) -> None:
        """Call a function with each item, behind all that is still to be done: each stream gets its frames in order.

        In batches, between which the event loop serves others.
        """
        self._outbox.append((function, iter(items)))
        if len(self._outbox) == 1:
            self._do_batch()

    def _do_batch(self) -> None:
        rest = _BATCH
        while self._outbox and rest:
            function, items = self._outbox[0]
            batch = tuple(islice(items, rest))
            for item in batch:
                function(item)
            rest -= len(batch)
            if rest:
                self._outbox.popleft()
        if self._outbox:
            asyncio.get_running_loop().call_soon(self._do_batch)

    # Clients that come and go

    def _admit(self, drain: DrainState | None) -> None:
        """Count one more, who is to be counted off in the end. Raises Problem (503) where there is no room.

        Counted from here on, and not from when they wait: one that does not read its greeting is there, too.
        """
        if self._admitted >= self._max_watchers:
            headers = {"Retry-After": "5"}
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "too many clients wait for changes already", headers=headers)
        self._loop = asyncio.get_running_loop()
        if self._tending is None or self._tending.done():
            self._drains, self._joined = set(), asyncio.Event()
            self._outbox.clear()
            self._tending = asyncio.create_task(self._tend(), name="hotconf-feed")
        self._admitted += 1
        if drain is not None and drain not in self._drains:
            self._drains.add(drain)
            self._joined.set()

    async def _tend(self) -> None:
        """Look for clients that have gone, and let the others hear that we are here. Ends when nobody waits."""
        loop = asyncio.get_running_loop()
        beat = loop.time() + self._heartbeat
        while True:
            await self._pause()
            if not self._admitted:
                return
            for parked in self._parked:
                if _is_over(parked):
                    _resolve(parked.ended)
            due = loop.time() >= beat
            beat = loop.time() + self._heartbeat if due else beat
            for group in self._groups.values():
                self._tend_group(group, beat=due)

    async def _pause(self) -> None:
        """Wait until it is time to look again: after a while, at the first drain, or when a server's first client came.

        One look for all, and not a task for each that waits: that would be a third of the memory of a client.
        """
        drains = [drain.draining for drain in self._drains if not drain.draining.is_set()]
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._joined, *drains)]
        try:
            await asyncio.wait(waiting, timeout=min(LOOK, self._heartbeat), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        self._joined.clear()

    def _tend_group(self, group: _Group, *, beat: bool) -> None:
        alive, behind = [], []
        for stream in group.streams:
            if _is_over(stream):
                _resolve(stream.ended)
            elif not stream.lags:
                alive.append(stream)
            elif stream.transport.get_write_buffer_size() == 0:
                behind.append(stream)
        # While something is still being sent, they would see something older after the newest.
        if behind and not self._outbox:
            newest = _Frame(self._event(self._conf.snapshot, group.path, since=None, gap=True))
            self._do(methodcaller("catch_up", newest), behind)
        if beat:
            self._send(_HEARTBEAT, alive)


_HEARTBEAT = _Frame(b": here\n\n")


def _stream_response(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
    response.content_type = "text/event-stream"
    if request.version >= (1, 1):
        response.enable_chunked_encoding()
    return response


def _is_over(waiting: _Parked | _Stream) -> bool:
    """Whether a client has gone, or its server wants it to go."""
    drains = waiting.drain is not None and waiting.drain.draining.is_set()
    return drains or waiting.transport is None or waiting.transport.is_closing() or _is_half_closed(waiting.transport)


def _is_half_closed(transport: asyncio.BaseTransport) -> bool:
    # One that sends no more cannot be told from one that has gone: it is answered with what there is.
    return getattr(transport.get_protocol(), "half_closed", False)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
