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
from typing import TYPE_CHECKING, Any, ClassVar

import hotconf.values.keypath as keypath
from hotconf.api.exchange import Problem
from hotconf.api.parameters import flag, parameter
from hotconf.api.parts import keys_in, part_at
from hotconf.values.keypath import touches
from hotconf.values.report import jsonable
from hotconf.values.times import check_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from hotconf.api.exchange import Channel, Request
    from hotconf.conf import HotConf
    from hotconf.reload.snapshot import Snapshot
    from hotconf.values.keypath import KeyPath
    from hotconf.values.report import Report

LOOK = 1.0
"""Seconds between two looks for clients that have gone."""

SHORTEST_HEARTBEAT = 0.1
"""Seconds. Signs of life in shorter order would be all that the event loop does."""

_BACKLOG = 64 * 1024  # bytes that may wait for a slow reader before it gets only the newest state
_HEARTBEAT = b": here\n\n"
_BATCH = 250  # clients that are served before the event loop may do something else: a few milliseconds


@dataclass(slots=True, eq=False)
class _Stream:
    """One stream of events, from its greeting to its end."""

    headers: ClassVar = {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",
    }
    last: ClassVar = b"event: shutdown\ndata: {}\n\n"

    feed: Feed
    request: Request
    draining: asyncio.Event | None
    ended: asyncio.Future[None]
    path: KeyPath
    token: str
    reports: bool
    lags: bool = False
    channel: Channel = field(init=False)

    def open(self, channel: Channel) -> asyncio.Future[None]:
        """Send the state in force, and each change from now on. The future that is returned ends with the stream."""
        self.channel = channel
        self.feed._join(self)  # noqa: SLF001 - both are this module's
        return self.ended

    def close(self) -> None:
        """Send no more."""
        self.feed._leave(self)  # noqa: SLF001

    def send(self, data: bytes) -> None:
        """Send events, unless the client lags: then it gets nothing more until `catch_up`, which shows the gap."""
        if self.ended.done():
            return
        if self.lags or self.channel.unsent > _BACKLOG:
            self.lags = True
        else:
            self.channel.write(data)

    def catch_up(self, data: bytes) -> None:
        """Send the newest state to a client that lagged."""
        self.lags = False
        self.send(data)


@dataclass(slots=True, eq=False)
class _Group:
    """The streams of one part, and the generation that they have seen."""

    path: KeyPath
    generation: int
    streams: set[_Stream] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Parked:
    """One request that waits for a change of a part since a generation that it has seen."""

    request: Request
    draining: asyncio.Event | None
    ended: asyncio.Future[None]
    path: KeyPath
    seen: int


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
        self._drains: set[asyncio.Event] = set()
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

    async def park(self, request: Request, path: KeyPath, seen: int, *, seconds: float) -> None:
        """Return when the values at a path have changed since a generation, after `seconds`, or in a drain."""
        self._admit(request)
        parked = _Parked(request, request.draining, asyncio.get_running_loop().create_future(), path, seen)
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

    async def stream(self, request: Request) -> _Stream:
        """Answer with server-sent events until the client leaves or the server drains.

        A client that reads too slowly misses events; then it gets the newest state, which says so: `"gap": true`. With
        `?reports=1` there is an event for every reload too, whatever its outcome.
        """
        path = part_at(self._conf.snapshot.document, keys_in(parameter(request, "path") or "")).path
        reports, token = flag(request, "reports"), request.header("Last-Event-ID") or ""
        self._admit(request)
        request.release_snapshot()  # a stream may last for days
        ended = asyncio.get_running_loop().create_future()
        return _Stream(self, request, request.draining, ended, path, token, reports)

    def _join(self, stream: _Stream) -> None:
        # Nothing is awaited in between: no change can come before the greeting, or be missed behind it.
        snapshot, path = self._conf.snapshot, stream.path
        stream.send(self._greeting(stream.token, snapshot, path))
        group = self._groups.setdefault(path, _Group(path, snapshot.changed_in(path)))
        if group.generation < snapshot.changed_in(path):
            self._tell(group, snapshot)  # the engine runs in another thread, and the others have not heard of it yet
        group.streams.add(stream)

    def _leave(self, stream: _Stream) -> None:
        self._admitted -= 1
        group = self._groups.get(stream.path)
        if group is not None:
            group.streams.discard(stream)
            if not group.streams:
                del self._groups[stream.path]

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
        event = self._event(snapshot, group.path, since=group.generation)
        group.generation = snapshot.changed_in(group.path)
        self._send(event, group.streams)

    def _report(self, report: Report) -> None:
        streams = [stream for group in self._groups.values() for stream in group.streams if stream.reports]
        if streams:
            self._send(f"event: report\ndata: {json.dumps(jsonable(report))}\n\n".encode(), streams)

    def _send(self, data: bytes, streams: Iterable[_Stream]) -> None:
        self._do(methodcaller("send", data), tuple(streams))

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

    def _admit(self, request: Request) -> None:
        """Count one more client, until it is counted off. Raises Problem (503) where there is no room.

        Counted from here on, and not from when it waits: a client that does not read its greeting is there, too.
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
        if request.draining is not None and request.draining not in self._drains:
            self._drains.add(request.draining)
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
        drains = [draining for draining in self._drains if not draining.is_set()]
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
            elif not stream.channel.unsent:
                behind.append(stream)
        # While something is still being sent, they would see something older after the newest.
        if behind and not self._outbox:
            newest = self._event(self._conf.snapshot, group.path, since=None, gap=True)
            self._do(methodcaller("catch_up", newest), behind)
        if beat:
            self._send(_HEARTBEAT, alive)


def _is_over(waiting: _Parked | _Stream) -> bool:
    """Whether a client has gone, or its server is draining."""
    return (waiting.draining is not None and waiting.draining.is_set()) or waiting.request.is_gone()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
