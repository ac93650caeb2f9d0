"""Reports and status: what came of each reload, the observers that get it, and how the configuration stands now."""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Mapping  # noqa: TC003 - the OpenAPI document reads these annotations
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hotconf.reload.history import HeldRollback  # noqa: TC001
from hotconf.reload.request import Resume
from hotconf.sources.stack import SourceStatus  # noqa: TC001
from hotconf.values.report import PendingRestart, Report, jsonable
from hotconf.values.times import utcnow

if TYPE_CHECKING:
    from hotconf.abc import Observer
    from hotconf.reload.request import ReloadRequest
    from hotconf.values.report import Outcome, Stage

log = logging.getLogger("hotconf")

_REPORTS = 100
"""Reports that are kept."""

State: TypeAlias = Literal["new", "starting", "ready", "draining", "stopped"]


@dataclass(frozen=True, slots=True)
class Status:
    """How the configuration stands.

    `generation` is 0, `digest` and `loaded_at` are None before the first load. `degraded` lists the reasons why less is
    in force than was asked for. `held` is None while no rollback is held. `leased` counts leases by generation.
    `revisions` are those of the sources, by name, of which what is in force was made. `uptime` is in seconds since the
    engine started.
    """

    state: State
    generation: int
    digest: str | None
    loaded_at: datetime | None
    last_reload: Report | None
    consecutive_failures: int
    sources: tuple[SourceStatus, ...]
    watching: Mapping[str, Any]
    pending_restart: tuple[PendingRestart, ...]
    held: HeldRollback | None
    degraded: tuple[str, ...]
    revisions: Mapping[str, str]
    leased: Mapping[int, int]
    uptime: float


class ReportLog:
    """The reports of the last reloads, oldest first. Written by one reload at a time, read from any thread.

    `failures` counts those rejected in a row, `commit_errors` are what went wrong in the last one that committed.
    """

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self.reports: deque[Report] = deque(maxlen=_REPORTS)
        self.failures = 0
        self.commit_errors: tuple[str, ...] = ()
        self.observers: tuple[Observer, ...] = ()

    def begin(self, request: ReloadRequest) -> StartedReport:
        """Tell the observers that a reload has begun, unless it is a dry run. Return the beginning of its report."""
        if not request.dry_run:
            self._notify("reload_began", request.triggers)
        return StartedReport(next(self._ids), request)

    def add(self, report: Report, request: ReloadRequest, *, recovered: bool) -> None:
        """Log a report, keep it and tell the observers. Dry runs are logged but not kept.

        `recovered` is true while the last known good is in force: the failure of the sources is not over then.
        """
        level = logging.WARNING if report.outcome == "rejected" or report.commit_errors else logging.INFO
        if report.outcome == "rejected" and request.raises:
            level = logging.DEBUG  # the caller raises the same faults
        if log.isEnabledFor(level):
            log.log(level, "%s", report, extra={"hotconf": jsonable(report)})
        if report.dry_run:
            return
        self.reports.append(report)
        if report.outcome == "rejected":
            self.failures += 1
        elif not recovered and not isinstance(request.operation, Resume):  # which reads nothing
            self.failures = 0
        self._notify("reload_ended", report)

    def _notify(self, method: str, argument: object) -> None:
        for observer in self.observers:
            try:
                getattr(observer, method)(argument)
            except KeyboardInterrupt:
                raise
            except BaseException:
                log.exception("%s raised", type(observer).__name__)


class StartedReport:
    """The beginning of a report: its number, its triggers and when the reload began.

    `stage` is how far the reload has come, `revisions` are those of what it builds from, None before it has read that.
    """

    def __init__(self, number: int, request: ReloadRequest) -> None:
        self._number = number
        self._request = request
        self._started_at = utcnow()
        self._started = time.monotonic()
        self.stage: Stage = "read"
        self.revisions: Mapping[str, str] | None = None

    def end(self, outcome: Outcome, *, generation: int, **details: Any) -> Report:
        """Return the report."""
        duration = time.monotonic() - self._started
        return Report(
            self._number,
            outcome,
            self._request.triggers,
            generation,
            self._started_at,
            duration,
            dry_run=self._request.dry_run,
            **details,
        )
