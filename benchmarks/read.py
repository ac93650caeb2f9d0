"""Reading one setting: the cost of the holder beyond that of the settings."""

from __future__ import annotations

import threading
import timeit
from typing import TYPE_CHECKING, Any

from benchmarks.rows import Row, Target, compared, in_turns, skipped
from hotconf import HotConf, Section, Settings
from hotconf.sources.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Callable

_UNROLLED = 20  # so that the loop around a read does not dilute it
_LOOPS = 500

WORK = "conf.current.db.pool_size"
NO_HOLDER = "no holder: settings.db.pool_size"


class Database(Section):
    """A part of the settings."""

    pool_size: int = 10


class App(Settings):
    """The settings."""

    db: Database = Database()


class _Box:
    """The minimum: an object with an attribute that can be replaced."""

    def __init__(self, settings: App) -> None:
        self.current = settings


class _Property:
    def __init__(self, settings: App) -> None:
        self._current = settings

    @property
    def current(self) -> App:
        return self._current


class _Proxy:
    """Forwards every attribute, so that it looks like the settings."""

    def __init__(self, settings: App) -> None:
        self._current = settings

    def __getattr__(self, name: str) -> Any:
        return getattr(self._current, name)


class _Locked:
    def __init__(self, settings: App) -> None:
        self._current = settings
        self._lock = threading.Lock()

    @property
    def current(self) -> App:
        with self._lock:
            return self._current


def rows(*, quick: bool) -> list[Row]:
    """Return the rows of this topic."""
    samples = in_turns(_reads(), rounds=40 if quick else 250)
    target = Target("ratio", 1.15)
    others = [name for name in samples if name not in ("hotconf", NO_HOLDER)]
    return [
        compared(WORK, samples, NO_HOLDER, unit="ns", target=target),
        *(compared(WORK, samples, name, unit="ns") for name in others),
        *([] if _dynaconf() else [skipped(WORK, "dynaconf", "not installed")]),
    ]


def _reads() -> dict[str, Callable[[], float]]:
    conf = HotConf(App, sources=[Memory()])
    conf.load()
    settings = conf.current
    reads = {
        NO_HOLDER: _read("x.db.pool_size", settings),
        "hotconf": _read("x.current.db.pool_size", conf),
        "attribute of a plain object": _read("x.current.db.pool_size", _Box(settings)),
        "property": _read("x.current.db.pool_size", _Property(settings)),
        "__getattr__": _read("x.db.pool_size", _Proxy(settings)),
        "lock": _read("x.current.db.pool_size", _Locked(settings)),
    }
    dynaconf = _dynaconf()
    return {**reads, "dynaconf": _read("x.DB.pool_size", dynaconf)} if dynaconf else reads


def _read(statement: str, held: object) -> Callable[[], float]:
    """Return a function that reads many times, and returns the nanoseconds of one read."""
    timer = timeit.Timer("\n".join([statement] * _UNROLLED), globals={"x": held})
    return lambda: timer.timeit(_LOOPS) / (_LOOPS * _UNROLLED) * 1e9


def _dynaconf() -> Any:
    try:
        from dynaconf import Dynaconf  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    return Dynaconf(DB={"pool_size": 10})
