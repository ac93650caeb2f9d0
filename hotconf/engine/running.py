"""Running: the time in which a configuration is live, entered with `with` or `async with`."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from hotconf.engine.engine import CLOSING, Engine, EngineThread
from hotconf.signals import SignalRouter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

log = logging.getLogger("hotconf")


class Live(Protocol):
    """A configuration as the time in which it is live knows it: the other half of HotConf."""

    options: Any
    _engine: Engine | None
    _state: Any
    _started: float
    _orphaned: bool
    _loading: threading.Lock
    _reloader: Any
    _stack: Any
    _boot: Any

    def _tell_nobody(self) -> bool: ...


C = TypeVar("C", bound=Live)


class Running(Generic[C]):
    """What `HotConf.running` returns: enter it with `with` or `async with`, once.

    `closing_period`, seconds, is what all resources together have to close on exit. Whoever bounds the exit sets it.
    """

    def __init__(self, conf: C, signals: Iterable[str] | None) -> None:
        self._conf = conf
        self.closing_period = CLOSING
        self._signals = None if signals is None else _names(signals)
        self._router: SignalRouter | None = None
        self._thread: EngineThread | None = None

    async def __aenter__(self) -> C:
        engine = self._begin()
        try:
            self._install()
            await engine.__aenter__()
        except BaseException:
            self._end()
            raise
        return self._ready(engine)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_parents:
            return
        try:
            await self._engine.__aexit__(kind, error, trace)
        finally:
            self._end()

    def __enter__(self) -> C:
        engine = self._begin()
        self._thread = EngineThread(engine)
        try:
            self._install()
            self._thread.start()
        except BaseException:
            self._end()
            raise
        return self._ready(engine)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_parents:
            return
        try:
            if self._thread is not None:
                self._thread.stop()
        finally:
            self._end()

    @property
    def _is_parents(self) -> bool:
        """Whether this was entered before a fork that made this process: then it is not this one's to leave."""
        return self._conf._engine is not self._engine  # noqa: SLF001

    def _begin(self) -> Engine:
        conf = self._conf
        with conf._loading:  # noqa: SLF001 - the other half of HotConf; one reload at a time, also this first one
            if conf._engine is not None:  # noqa: SLF001
                raise RuntimeError("this configuration is running already")
            self._engine = Engine(
                conf._reloader,  # noqa: SLF001
                conf._stack,  # noqa: SLF001
                boot=conf._boot,  # noqa: SLF001
                options=conf.options,
                closing=self.closing_period,
            )
            conf._engine, conf._state, conf._started = self._engine, "starting", time.monotonic()  # noqa: SLF001
            conf._orphaned = False  # noqa: SLF001
            conf._tell_nobody()  # noqa: SLF001
        return self._engine

    def _install(self) -> None:
        self._router = _router(self._signals)
        if self._router is not None:
            self._router.install()

    def _ready(self, engine: Engine) -> C:
        if self._router is not None:
            self._router.route(on_reload=lambda: engine.hint("SIGHUP"))
        if self._conf._state == "starting":  # noqa: SLF001
            self._conf._state = "ready"  # noqa: SLF001
        return self._conf

    def _end(self) -> None:
        self._conf._engine, self._conf._state = None, "stopped"  # noqa: SLF001
        if self._router is not None:
            self._router.restore()


def _names(signals: Iterable[str]) -> list[str]:
    names = [name.removeprefix("SIG") for name in signals]
    if set(names) - {"HUP"}:
        raise ValueError("running() routes SIGHUP only: a Service owns SIGINT and SIGTERM")
    return names


def _router(names: Sequence[str] | None) -> SignalRouter | None:
    if names is None:
        if threading.current_thread() is not threading.main_thread():
            log.warning("not in the main thread, so SIGHUP is not routed: use request_reload(), or pass signals=()")
            return None
        names = ("HUP",)
    return SignalRouter(names) if names else None
