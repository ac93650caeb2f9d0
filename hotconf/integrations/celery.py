"""Celery: live in the main process, in the children of the pool and in beat; one snapshot for each task."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

try:
    from celery import current_task, signals
    from celery.schedules import schedule
except ImportError:
    raise ImportError("hotconf.integrations.celery needs the extra: pip install 'hotconf[celery]'") from None

if TYPE_CHECKING:
    import datetime as dt

    from celery import Celery

    from hotconf.conf import HotConf
    from hotconf.reload.snapshot import Snapshot

__all__ = ("Every", "setup", "task_snapshot")

_CHILD_START = 10.0
"""Seconds that a child waits for its first reload before it takes tasks."""

_pins: dict[str, tuple[Snapshot[Any], contextlib.ExitStack]] = {}
_confs: dict[str, HotConf[Any]] = {}


def setup(app: Celery, conf: HotConf[Any]) -> None:
    """Make a configuration live wherever Celery runs tasks or beat, and pin a snapshot for each task.

    A child of the prefork pool begins with the settings of the main process and reads for itself, so that one that
    starts while a file is broken goes on with what is in force. SIGHUP to a main process without a terminal stays with
    Celery, which starts it anew: that start needs `Options(last_good=True)` where a file is broken.

    Args:
        app: The application. One process runs one.
        conf: The configuration.
    """

    def start(**_: Any) -> None:
        conf.start()

    def go_on(**_: Any) -> None:  # in a process that was forked: its first read brings the engine back
        with contextlib.suppress(TimeoutError):
            conf.reload_blocking(_CHILD_START)

    def stop(**_: Any) -> None:
        conf.stop()

    def pin(task_id: str, **_: Any) -> None:
        leases = contextlib.ExitStack()
        _pins[task_id] = leases.enter_context(conf.pin()), leases

    def release(task_id: str, **_: Any) -> None:
        if task_id in _pins:
            _pins.pop(task_id)[1].close()

    def connect(signal: Any, receiver: Any) -> None:
        signal.connect(receiver, weak=False, dispatch_uid=(id(app), receiver.__name__))

    connect(signals.worker_init, start)
    connect(signals.beat_init, start)
    connect(signals.beat_embedded_init, go_on)
    connect(signals.worker_process_init, go_on)
    connect(signals.worker_shutdown, stop)
    connect(signals.task_prerun, pin)
    connect(signals.task_postrun, release)


def task_snapshot() -> Snapshot[Any]:
    """Return the snapshot that the running task is pinned to.

    Raises:
        KeyError: No task runs here, or the configuration was not given to `setup`.
    """
    request = current_task.request if current_task else None
    if request is None or request.id not in _pins:
        raise KeyError("no snapshot is pinned: call setup(app, conf), and this within a task")
    return _pins[request.id][0]


class Every(schedule):  # type: ignore[misc]  # Celery has no types
    """An interval of beat that is a setting: `{"task": "report", "schedule": Every(conf, "report.every")}`.

    Beat looks at it when it wakes up: at the latest after `beat_max_loop_interval`.

    Args:
        conf: The configuration.
        path: The dotted path of the setting: a timedelta, or a number of seconds.
    """

    def __init__(self, conf: HotConf[Any], path: str) -> None:
        self._conf = conf
        self._path = path
        self._key = f"{conf.schema.__module__}.{conf.schema.__qualname__}"
        _confs[self._key] = conf
        super().__init__()

    @property
    def run_every(self) -> dt.timedelta:
        """The interval that is in force."""
        if not self._conf.loaded:  # beat looks at its schedule before it says that it starts
            self._conf.load()
        value: Any = functools.reduce(getattr, self._path.split("."), self._conf.current)
        interval: dt.timedelta = schedule(value).run_every
        return interval

    @run_every.setter
    def run_every(self, _value: object) -> None:
        """Ignore what the base class sets."""

    def __reduce__(self) -> Any:
        # Beat keeps its schedule in a file, and reads it back within one run.
        return _stored, (self._key, self._path, self.run_every)


def _stored(key: str, path: str, interval: dt.timedelta) -> Any:
    return Every(_confs[key], path) if key in _confs else schedule(interval)
