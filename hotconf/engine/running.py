"""Running: the time in which a configuration is live, entered with `with` or `async with`."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from hotconf.engine.engine import CLOSING
from hotconf.engine.hangups import hangups

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from hotconf.engine.host import AfterFork, EngineHost

log = logging.getLogger("hotconf")

C = TypeVar("C")


class Running(Generic[C]):
    """What `HotConf.running` returns: enter it with `with` or `async with`, as often as it is left.

    `closing_period`, in seconds, is what all resources together have to close when the engine stops.
    """

    def __init__(self, conf: C, host: EngineHost, signals: Iterable[str] | None, after_fork: AfterFork | None) -> None:
        if after_fork not in (None, "resume", "keep"):
            raise ValueError(f"after_fork is 'resume' or 'keep', not {after_fork!r}")
        self._conf = conf
        self._host = host
        self._signals = None if signals is None else _names(signals)
        self._after_fork = after_fork
        self._pid = 0
        self.closing_period = CLOSING

    async def __aenter__(self) -> C:
        self._route()
        try:
            await self._host.enter(self.closing_period, self._after_fork or "keep")
        except BaseException:
            hangups.remove(self)
            raise
        return self._conf

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pid not in (0, os.getpid()):  # it was entered in the process that this one was forked from
            self._host.leave_inherited()  # and not in a thread: the threads of this loop are in the parent
        elif self._pid:
            try:
                await self._host.leave()
            finally:
                hangups.remove(self)

    def __enter__(self) -> C:
        self._route()
        try:
            self._host.enter_blocking(self.closing_period, self._after_fork or "resume")
        except BaseException:
            hangups.remove(self)
            raise
        return self._conf

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pid not in (0, os.getpid()):
            self._host.leave_inherited()
        elif self._pid:
            try:
                self._host.leave_blocking()
            finally:
                hangups.remove(self)

    def _route(self) -> None:
        self._pid = os.getpid()
        names = self._signals
        if names is None:
            if threading.current_thread() is not threading.main_thread():
                log.warning("not in the main thread, so SIGHUP is not routed: use request_reload(), or pass signals=()")
                return
            names = ["HUP"]
        if names:
            hangups.add(self, self._host.on_hangup)


def _names(signals: Iterable[str]) -> list[str]:
    names = [name.removeprefix("SIG") for name in signals]
    if set(names) - {"HUP"}:
        raise ValueError("running() routes SIGHUP only: a Service owns SIGINT and SIGTERM")
    return names
