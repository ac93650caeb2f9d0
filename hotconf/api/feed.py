"""The feed: every client that waits for the configuration to change, in parked requests and event streams.

A change is encoded once for each part that is watched, and the same bytes go to every stream of that part. One task
looks after all clients; a task for each would be a third of a client's memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from operator import methodcaller
from typing import TYPE_CHECKING, Any, ClassVar

import hotconf.values.keypath as keypath
from hotconf.api.exchange import Problem, encoded
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

CHECK_INTERVAL = 1.0
"""Seconds between two checks for clients that have gone."""

SHORTEST_HEARTBEAT = 0.1
"""Seconds. With shorter ones the event loop would do nothing else."""

_BACKLOG = 64 * 1024  # bytes that may wait for a slow client before it gets only the newest state
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
        self.feed.join(self)
        return self.ended

    def close(self) -> None:
        """Send no more."""
        self.feed.leave(self)

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
    """The waiting clients of one configuration, in one event loop. `heartbeat` is in seconds."""

    def __init__(self, conf: HotConf[Any], *, heartbeat: float, max_watchers: int) -> None:
        self._conf = conf
        # Part of every token, and new in every process: a token of another process must not look like one of this.
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
        self._drain_added = asyncio.Event()
        self._newest: tuple[object, KeyPath, bytes] = None, (), b""
        conf.on_change(lambda _change: self._in_loop(self._announce))
        conf.observe(self)

    @property
    def watchers(self) -> dict[str, int]:
        """The number of waiting clients, by kind."""
        return {"poll": len(self._parked), "stream": sum(len(group.streams) for group in self._groups.values())}

    def token(self, generation: int) -> str:
        """Return the state token of a part that changed last in a generation."""
        return f"{self._store}.{generation}"

    # Parked requests

    async def park(self, request: Request, path: KeyPath, seen: int, *, seconds: float) -> None:
        """Return when the values at a path have changed since a generation, after `seconds`, or in a drain."""
        self._admit(request)
        parked = _Parked(request, request.draining, asyncio.get_running_loop().create_future(), path, seen)
        self._parked.add(parked)
        try:
            # An engine in a thread of its own may have swapped before this request was parked.
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

        A client that reads too slowly misses events; then it gets the newest state, with `"gap": true`. With
        `?reports=1` there is an event for every reload too, whatever its outcome.
        """
        path = part_at(self._conf.snapshot.document, keys_in(parameter(request, "path") or "")).path
        reports, token = flag(request, "reports"), request.header("Last-Event-ID") or ""
        self._admit(request)
        request.release_snapshot()  # a stream may last for days
        ended = asyncio.get_running_loop().create_future()
        return _Stream(self, request, request.draining, ended, path, token, reports)

    def join(self, stream: _Stream) -> None:
        """Send a stream the state in force, and add it to those that get each change."""
        # Nothing is awaited in between: no change can come before the greeting, or be missed after it.
        snapshot, path = self._conf.snapshot, stream.path
        stream.send(self._greeting(stream.token, snapshot, path))
        group = self._groups.setdefault(path, _Group(path, snapshot.changed_in(path)))
        if group.generation < snapshot.changed_in(path):
            self._publish(group, snapshot)  # the engine runs in another thread: `_announce` is yet to come
        group.streams.add(stream)

    def leave(self, stream: _Stream) -> None:
        """Remove a stream that was admitted, whether it joined or not."""
        self._admitted -= 1
        group = self._groups.get(stream.path)
        if group is not None:
            group.streams.discard(stream)
            if not group.streams:
                del self._groups[stream.path]

    def _greeting(self, token: str, snapshot: Snapshot[Any], path: KeyPath) -> bytes:
        """Return the full state, only what changed since a token, or nothing new."""
        retry = f"retry: {random.randint(1000, 3000)}\n".encode()  # noqa: S311 - so that clients return at other times
        store, _, number = token.partition(".")
        known = store == self._store and number.isascii() and number.isdecimal() and len(number) < 20
        if known and int(number) <= snapshot.generation:
            if int(number) >= snapshot.changed_in(path):
                return retry + b": nothing new\n\n"
            return retry + b"\n" + self._event(snapshot, path, since=int(number))
        # Encoded once for all clients that come one after the other, as they do after a restart. Known by the document:
        # an override is of the same generation, and the snapshot itself would keep its resources open.
        document = snapshot.document
        if self._newest[0] is not document or self._newest[1] != path:
            self._newest = document, path, self._event(snapshot, path, since=None)
        return retry + b"\n" + self._newest[2]

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
        token = self.token(snapshot.changed_in(path))
        return b"id: %b\nevent: config\ndata: %b\n" % (token.encode(), encoded(data))

    # Changes

    def reload_began(self, triggers: Sequence[str]) -> None:
        """Do nothing: streams get the report when the reload has ended."""

    def reload_ended(self, report: Report) -> None:
        """Send a report to the streams that asked for reports."""
        self._in_loop(self._publish_report, report)

    def _in_loop(self, function: Callable[..., object], *arguments: object) -> None:
        # The engine may run in another loop. Before the first client there is none to send to.
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and all its clients are gone
                self._loop.call_soon_threadsafe(function, *arguments)

    def _announce(self) -> None:
        snapshot = self._conf.snapshot
        changed_in = {path: snapshot.changed_in(path) for path in {parked.path for parked in self._parked}}
        over = [parked.ended for parked in self._parked if changed_in[parked.path] > parked.seen]
        self._enqueue(_resolve, over)
        for group in self._groups.values():
            if snapshot.changed_in(group.path) > group.generation:
                self._publish(group, snapshot)

    def _publish(self, group: _Group, snapshot: Snapshot[Any]) -> None:
        event = self._event(snapshot, group.path, since=group.generation)
        group.generation = snapshot.changed_in(group.path)
        self._enqueue(methodcaller("send", event), tuple(group.streams))

    def _publish_report(self, report: Report) -> None:
        streams = [stream for group in self._groups.values() for stream in group.streams if stream.reports]
        if streams:
            event = b"event: report\ndata: %b\n" % encoded(jsonable(report))
            self._enqueue(methodcaller("send", event), streams)

    def _enqueue(self, function: Callable[[Any], object], items: Iterable[Any]) -> None:
        """Call a function with each item, after everything that was enqueued before: events keep their order.

        The calls are made in batches, and the event loop runs other tasks in between.
        """
        self._outbox.append((function, iter(items)))
        if len(self._outbox) == 1:
            self._run_batch()

    def _run_batch(self) -> None:
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
            asyncio.get_running_loop().call_soon(self._run_batch)

    # Clients that come and go

    def _admit(self, request: Request) -> None:
        """Count one more client, until it is counted off. Raises Problem (503) where there is no room.

        A client counts from here on, and not from when it waits: it may not read its greeting.
        """
        if self._admitted >= self._max_watchers:
            headers = {"Retry-After": "5"}
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "too many clients wait for changes; retry", headers=headers)
        self._loop = asyncio.get_running_loop()
        if self._tending is None or self._tending.done():
            self._drains, self._drain_added = set(), asyncio.Event()
            self._outbox.clear()
            self._tending = asyncio.create_task(self._tend(), name="hotconf-feed")
        self._admitted += 1
        if request.draining is not None and request.draining not in self._drains:
            self._drains.add(request.draining)
            self._drain_added.set()

    async def _tend(self) -> None:
        """End the waits of clients that have gone, send heartbeats, and let slow clients catch up, while any waits."""
        loop = asyncio.get_running_loop()
        next_beat = loop.time() + self._heartbeat
        while True:
            await self._pause()
            if not self._admitted:
                return
            for parked in self._parked:
                if _is_over(parked):
                    _resolve(parked.ended)
            beats = loop.time() >= next_beat
            next_beat = loop.time() + self._heartbeat if beats else next_beat
            for group in self._groups.values():
                self._check_streams(group, beats=beats)

    async def _pause(self) -> None:
        """Wait until the next check is due: after an interval, or when a drain begins.

        The first client of another server ends the pause too, so that its drain is waited for.
        """
        drains = [draining for draining in self._drains if not draining.is_set()]
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._drain_added, *drains)]
        try:
            timeout = min(CHECK_INTERVAL, self._heartbeat)
            await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        self._drain_added.clear()

    def _check_streams(self, group: _Group, *, beats: bool) -> None:
        keeping_up, behind = [], []
        for stream in group.streams:
            if _is_over(stream):
                _resolve(stream.ended)
            elif not stream.lags:
                keeping_up.append(stream)
            elif not stream.channel.unsent:
                behind.append(stream)
        # Not while anything is enqueued: it is older than the newest state, and would arrive after it.
        if behind and not self._outbox:
            newest = self._event(self._conf.snapshot, group.path, since=None, gap=True)
            self._enqueue(methodcaller("catch_up", newest), behind)
        if beats:
            self._enqueue(methodcaller("send", _HEARTBEAT), keeping_up)


def _is_over(waiting: _Parked | _Stream) -> bool:
    """Whether a client has gone, or its server is draining."""
    return (waiting.draining is not None and waiting.draining.is_set()) or waiting.request.is_gone()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
