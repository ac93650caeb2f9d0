"""Subscribers: who takes part in a reload, and who hears of it afterwards."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hotconf import keypath
from hotconf.change import Change
from hotconf.diff import differences
from hotconf.errors import Refuse
from hotconf.report import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hotconf.abc import Prepared
    from hotconf.keypath import KeyPath

log = logging.getLogger("hotconf")

SLOW = 0.1
"""Seconds after which a synchronous subscriber, which holds the loop up, is named in a warning."""


@dataclass(frozen=True, slots=True, eq=False)
class Subscription:
    """One function with the parts it cares for; no paths means all of them."""

    function: Callable[[Change[Any]], Any]
    paths: tuple[KeyPath, ...] = ()

    @property
    def name(self) -> str:
        """What reports and logs call it."""
        named = getattr(self.function, "__qualname__", None) or type(self.function).__name__
        return str(named)

    def wants(self, changed: Iterable[KeyPath]) -> bool:
        """Whether a change at, below or above any of its paths took place."""
        return not self.paths or any(_touches(path, wanted) for path in changed for wanted in self.paths)


def _touches(changed: KeyPath, wanted: KeyPath) -> bool:
    shorter = min(len(changed), len(wanted))
    return changed[:shorter] == wanted[:shorter]


class PrepareFailed(Exception):  # noqa: N818 - a verdict, turned into a Report by the caller
    """A subscriber refused, raised or took too long."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(fault)


async def prepare(subscription: Subscription, change: Change[Any], *, timeout: float | None) -> Prepared | None:
    """Run one prepare. Raises PrepareFailed with the subscriber's name; `timeout`, seconds, is for async ones."""
    started = time.monotonic()
    try:
        result = subscription.function(change)
        if inspect.isawaitable(result):
            async with asyncio.timeout(timeout):
                result = await result
        else:
            _warn_if_slow(subscription, time.monotonic() - started)
    except Refuse as refusal:
        raise PrepareFailed(Fault("", f"{subscription.name} refuses: {refusal.reason}")) from None
    except TimeoutError:
        reason = f"{subscription.name} was not ready within {timeout} s"
        raise PrepareFailed(Fault("", reason)) from None
    except Exception as error:
        reason = f"{subscription.name} raised {type(error).__name__}: {error}"
        raise PrepareFailed(Fault("", reason)) from error
    return result if hasattr(result, "commit") else None


async def rollback(prepared: Iterable[tuple[Subscription, Prepared]]) -> None:
    """Roll back in reverse, every one of them. One that raises is logged: there is nothing else left to undo."""
    for subscription, state in reversed(list(prepared)):
        try:
            result = state.rollback()
            if inspect.isawaitable(result):
                await result
        except Exception:
            log.exception("rollback of %s raised", subscription.name)


def commit(prepared: Iterable[tuple[Subscription, Prepared]]) -> tuple[str, ...]:
    """Commit in order, without awaiting. Return what went wrong: the others still run, and the swap stands."""
    errors = []
    for subscription, state in prepared:
        try:
            state.commit()
        except Exception as error:
            log.exception("commit of %s raised", subscription.name)
            errors.append(f"commit of {subscription.name} raised {type(error).__name__}")
    return tuple(errors)


def _warn_if_slow(subscription: Subscription, seconds: float) -> None:
    if seconds > SLOW:
        log.warning("subscriber %s held the loop up for %.0f ms", subscription.name, seconds * 1000)


@dataclass(slots=True, eq=False)
class _Listener:
    """Delivers changes to one on_change subscriber, in order, the latest only where it is slow."""

    subscription: Subscription
    pending: Change[Any] | None = None
    task: asyncio.Task[None] | None = None

    def hear(self, change: Change[Any]) -> None:
        if self.task is None:
            self._deliver(change)
        elif self.pending is None:
            self.pending = change
        else:
            self.pending = Change(self.pending.old, change.new, (), change.generation)

    def _deliver(self, change: Change[Any]) -> None:
        started = time.monotonic()
        try:
            result = self.subscription.function(change)
        except Exception:
            log.exception("subscriber %s raised; the configuration stands", self.subscription.name)
            return
        _warn_if_slow(self.subscription, time.monotonic() - started)
        if inspect.isawaitable(result):
            self.task = asyncio.ensure_future(self._finish(result))

    async def _finish(self, result: Any) -> None:
        try:
            await result
        except Exception:
            log.exception("subscriber %s raised; the configuration stands", self.subscription.name)
        finally:
            self.task = None
        self._catch_up()

    def _catch_up(self) -> None:
        missed, self.pending = self.pending, None
        if missed is None:
            return
        changed = differences(missed.old, missed.new)
        if changed and self.subscription.wants(changed):
            paths = tuple(keypath.render(path) for path in changed)
            self._deliver(Change(missed.old, missed.new, paths, missed.generation))


@dataclass(slots=True, eq=False)
class Subscribers:
    """Everybody who registered. Safe to change from any thread, also from within a callback."""

    preparing: tuple[Subscription, ...] = ()
    listeners: tuple[_Listener, ...] = ()

    def add_prepare(self, subscription: Subscription) -> None:
        """Register for prepare."""
        self.preparing += (subscription,)

    def add_listener(self, subscription: Subscription) -> None:
        """Register for on_change."""
        self.listeners += (_Listener(subscription),)

    def remove(self, function: Callable[..., Any]) -> None:
        """Take back every registration of a function."""
        self.preparing = tuple(entry for entry in self.preparing if entry.function != function)
        self.listeners = tuple(entry for entry in self.listeners if entry.subscription.function != function)

    def tell(self, change: Change[Any], changed: tuple[KeyPath, ...]) -> None:
        """Tell the listeners that want it. Called on the engine's loop, after the swap."""
        for listener in self.listeners:
            if listener.subscription.wants(changed):
                listener.hear(change)

    async def settle(self) -> None:
        """Wait until no listener is at work."""
        while tasks := [listener.task for listener in self.listeners if listener.task is not None]:
            await asyncio.wait(tasks)
