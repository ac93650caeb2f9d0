"""Subscribers: what takes part in a reload, and what is told of it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import hotconf.values.keypath as keypath
from hotconf.abc import Resource
from hotconf.errors import Refuse, Rejected
from hotconf.schema.diff import differences
from hotconf.schema.redact import scrub, secret_texts
from hotconf.values.change import Change
from hotconf.values.keypath import touches
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from hotconf.abc import Prepared
    from hotconf.values.keypath import KeyPath

log = logging.getLogger("hotconf")

SLOW = 0.1
"""Seconds after which a synchronous subscriber, which holds the loop up, is named in a warning."""


@dataclass(frozen=True, slots=True, eq=False)
class Subscription:
    """One function with the parts it cares for; no paths means all of them. `name` is what reports and logs call it."""

    function: Callable[[Change[Any]], Any]
    paths: tuple[KeyPath, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            named = getattr(self.function, "__qualname__", None) or type(self.function).__name__
            object.__setattr__(self, "name", str(named))

    def wants(self, changed: Iterable[KeyPath]) -> bool:
        """Whether a change at, below or above any of its paths took place."""
        if not self.paths:
            return True
        for wanted in self.paths:  # loops, since there may be very many subscriptions
            for path in changed:
                if touches(path, wanted):
                    return True
        return False


def ends_more_than_a_call(error: BaseException) -> bool:
    """Whether an exception is no failure of the code that was called: the program ends, or the coroutine that waits.

    No other exception may end the engine, not even a panic in a Rust extension or a GeneratorExit that a subscriber
    raises itself. A coroutine that is closed gets one too, but no task runs then.
    """
    if not isinstance(error, GeneratorExit):
        return isinstance(error, KeyboardInterrupt)
    try:
        return asyncio.current_task() is None
    except RuntimeError:  # nor does a loop
        return True


def being_cancelled() -> bool:
    """Whether this task is being cancelled. A CancelledError alone may come from something that was awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def prepare(subscription: Subscription, change: Change[Any], *, timeout: float | None) -> Prepared | None:
    """Run one prepare. Raises Rejected with the subscriber's name; `timeout`, seconds, is for async ones."""
    limit = asyncio.timeout(timeout)
    try:
        result = _timed(subscription.name, subscription.function, change)
        if inspect.isawaitable(result):
            async with limit:
                result = await result
    except Refuse as refusal:
        raise Rejected([Fault("", f"{subscription.name} refuses: {refusal.reason}")], "prepare") from None
    except BaseException as error:
        if ends_more_than_a_call(error):
            raise
        if being_cancelled():
            raise asyncio.CancelledError from error
        reason = f"was not ready within {timeout:g} s" if limit.expired() else f"raised {type(error).__name__}: {error}"
        raise Rejected([Fault("", f"{subscription.name} {reason}")], "prepare") from error
    return result if hasattr(result, "commit") else None


async def rollback(
    prepared: Iterable[tuple[Subscription, Prepared]], change: Change[Any], *, timeout: float | None
) -> None:
    """Roll back in reverse, every one of them, also when cancelled meanwhile: that is raised at the end.

    One that raises, or takes longer than `timeout` seconds, is logged: there is nothing else left to undo.
    """
    interrupted: asyncio.CancelledError | None = None
    for subscription, state in reversed(list(prepared)):
        try:
            async with asyncio.timeout(timeout):
                result = _timed(f"rollback of {subscription.name}", state.rollback)
                if inspect.isawaitable(result):
                    await result
        except BaseException as error:
            if ends_more_than_a_call(error):
                raise
            if isinstance(error, asyncio.CancelledError) and being_cancelled():
                interrupted = error
            _log_raised(f"rollback of {subscription.name} raised", error, change)
    if interrupted is not None:
        raise interrupted


def commit(prepared: Iterable[tuple[Subscription, Prepared]], change: Change[Any]) -> tuple[str, ...]:
    """Commit in order, without awaiting. Return what went wrong: the others still run, and the swap stands."""
    errors = []
    for subscription, state in prepared:
        name = f"commit of {subscription.name}"
        try:
            result: object = _timed(name, state.commit)
        except BaseException as error:
            if ends_more_than_a_call(error):
                raise
            _log_raised(f"{name} raised", error, change)
            errors.append(scrub(f"{name} raised {type(error).__name__}: {error}", _secrets_of(change)))
            continue
        if inspect.iscoroutine(result):
            result.close()
            log.error("%s is async: it cannot be awaited between the swap and the last commit, and was not run", name)
            errors.append(f"{name} is async and was not run")
    return tuple(errors)


def _log_raised(what: str, error: BaseException, change: Change[Any]) -> None:
    """Log an error of a subscriber with its traceback. It may quote what it was shown, so secrets are masked."""
    log.error("%s\n%s", what, scrub("".join(traceback.format_exception(error)), _secrets_of(change)).rstrip())


def _secrets_of(change: Change[Any]) -> set[str]:
    shown = [settings for settings in (change.old, change.new) if settings is not None]
    return {secret for settings in shown for secret in secret_texts(type(settings), settings)}


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Name what runs within in a warning, if it holds the loop up. It must not await."""
    started = time.monotonic()
    yield
    seconds = time.monotonic() - started
    if seconds > SLOW:
        log.warning("%s held the loop up for %.0f ms", what, seconds * 1000)


def _timed(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, and name it in a warning if it held the loop up."""
    with timed(f"subscriber {name}"):
        return function(*arguments)


@contextlib.contextmanager
def system_exit_as_error() -> Iterator[None]:
    """Turn a `sys.exit()` within into a RuntimeError: from a task it would end the loop, and cut off all the others."""
    try:
        yield
    except SystemExit as error:
        raise RuntimeError(f"SystemExit({error.code})") from error


async def _awaited(result: Awaitable[Any]) -> None:
    with system_exit_as_error():
        await result


@dataclass(slots=True, eq=False)
class _Listener:
    """Delivers changes to one on_change subscriber, in order, the latest only where it is slow.

    One that is `initial` also gets the settings with which an engine starts.
    """

    subscription: Subscription
    initial: bool = False
    pending: Change[Any] | None = None
    task: asyncio.Future[Any] | None = None
    gone: bool = False

    def hear(self, change: Change[Any]) -> None:
        if self.gone:
            return
        if self.task is None:
            self._deliver(change)
        elif self.pending is None:
            self.pending = change
        else:
            self.pending = Change(self.pending.old, change.new, (), change.generation)

    def leave(self) -> None:
        """Hear nothing any more, also what is pending."""
        self.gone, self.pending = True, None

    def _deliver(self, change: Change[Any]) -> None:
        try:
            result = _timed(self.subscription.name, self.subscription.function, change)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - logged with its traceback
            self._complain(error, change)
            return
        if inspect.isawaitable(result):
            self.task = asyncio.ensure_future(_awaited(result))
            self.task.add_done_callback(functools.partial(self._finished, change))

    def _finished(self, change: Change[Any], task: asyncio.Future[Any]) -> None:
        self.task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._complain(error, change)
        self._catch_up()

    def _complain(self, error: BaseException, change: Change[Any]) -> None:
        _log_raised(f"subscriber {self.subscription.name} raised; the configuration stands", error, change)

    def _catch_up(self) -> None:
        missed, self.pending = self.pending, None
        if missed is None:
            return
        changed = differences(missed.old, missed.new)
        if changed and self.subscription.wants(changed):
            paths = tuple(keypath.render(path) for path in changed)
            self._deliver(Change(missed.old, missed.new, paths, missed.generation))


class LatestChange:
    """The change that one reader has not taken yet, in the event loop in which this is made. Filled from any thread.

    Changes that come meanwhile are joined into one; those that cancel each other are none.
    """

    def __init__(self, paths: tuple[KeyPath, ...]) -> None:
        self.subscription = Subscription(self.put, paths, name="changes()")
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        self._change: Change[Any] | None = None
        self._ended = False

    def put(self, change: Change[Any] | None) -> None:
        """Add a change; None ends the stream."""
        with contextlib.suppress(RuntimeError):  # the reader's loop has closed
            self._loop.call_soon_threadsafe(self._put, change)

    def _put(self, change: Change[Any] | None) -> None:
        if change is None:
            self._ended = True
        elif self._change is None:
            self._change = change
        else:
            changed = differences(self._change.old, change.new)
            paths = tuple(keypath.render(path) for path in changed)
            joined = Change(self._change.old, change.new, paths, change.generation)
            self._change = joined if self.subscription.wants(changed) and changed else None
        self._filled.set()

    async def take(self) -> Change[Any] | None:
        """Wait for a change and return it, None at the end of the engine."""
        while self._change is None and not self._ended:
            self._filled.clear()
            await self._filled.wait()
        change, self._change = self._change, None
        return change


@dataclass(slots=True, eq=False)
class Subscribers:
    """All subscriptions and resources. Safe to change from any thread, also from within a callback."""

    preparing: tuple[Subscription | Resource[Any], ...] = ()
    listeners: tuple[_Listener, ...] = ()
    streams: tuple[LatestChange, ...] = ()
    _leaving: tuple[_Listener, ...] = ()
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def afresh(self) -> Subscribers:
        """Return the same subscribers, none at work: for a forked child, where no work in progress would end."""
        streams = [stream.subscription for stream in self.streams]
        kept = (listener for listener in self.listeners if listener.subscription not in streams)
        listeners = tuple(_Listener(listener.subscription, listener.initial) for listener in kept)
        return Subscribers(self.preparing, listeners)

    def add_prepare(self, participant: Subscription | Resource[Any]) -> None:
        """Register for prepare, as a subscriber or as a resource to be built."""
        with self._lock:
            self.preparing += (participant,)

    @property
    def resources(self) -> tuple[Resource[Any], ...]:
        """The resources, in the order in which they are built."""
        return tuple(participant for participant in self.preparing if isinstance(participant, Resource))

    def add_listener(self, subscription: Subscription, *, initial: bool = False) -> None:
        """Register for on_change."""
        with self._lock:
            self.listeners += (_Listener(subscription, initial),)

    def add_stream(self, stream: LatestChange) -> None:
        """Register a reader of changes, until `remove` of its `put` or the end of the engine."""
        with self._lock:
            self.streams += (stream,)
            self.listeners += (_Listener(stream.subscription),)

    def remove(self, function: object) -> None:
        """Take back every registration of a function, object or resource. What it is busy with it may finish."""
        with self._lock:
            leaving = tuple(entry for entry in self.listeners if _is_of(entry.subscription, function))
            self.preparing = tuple(entry for entry in self.preparing if not _is_of(entry, function))
            self.listeners = tuple(entry for entry in self.listeners if entry not in leaving)
            self.streams = tuple(entry for entry in self.streams if not _is_of(entry.subscription, function))
            self._leaving = tuple(entry for entry in (*self._leaving, *leaving) if entry.task is not None)
        for listener in leaving:
            listener.leave()

    def tell(self, change: Change[Any], changed: tuple[KeyPath, ...]) -> None:
        """Tell the listeners that want it. Called on the engine's loop, after the swap."""
        for listener in self.listeners:
            if listener.subscription.wants(changed):
                listener.hear(change)

    def tell_initial(self, change: Change[Any], only: Subscription | None = None) -> None:
        """Tell the `initial` listeners, or one of them, the settings in force. Called on the engine's loop."""
        for listener in self.listeners:
            if listener.initial and only in (None, listener.subscription):
                listener.hear(change)

    def end_streams(self) -> None:
        """End every reader of changes, once it has taken the change that waits for it. Safe from any thread."""
        for stream in self.streams:
            stream.put(None)

    async def finish(self, *, timeout: float) -> None:
        """Wait until no listener is at work; after `timeout` seconds cancel and name those that still are."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    while tasks := self._at_work():
                        await asyncio.wait(tasks)
        finally:
            await self._cancel()

    def _at_work(self) -> list[asyncio.Future[Any]]:
        return [entry.task for entry in (*self.listeners, *self._leaving) if entry.task is not None]

    async def _cancel(self) -> None:
        tasks = self._at_work()
        for listener in (*self.listeners, *self._leaving):
            listener.pending = None
            if listener.task is not None:
                log.warning("subscriber %s was still at work when the engine stopped", listener.subscription.name)
                listener.task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_of(participant: Subscription | Resource[Any], registered: object) -> bool:
    """Whether a registration was made for a function, for an object whose prepare it is, or for a resource."""
    if isinstance(participant, Resource):
        return participant is registered
    return participant.function in (registered, getattr(registered, "prepare", None))
