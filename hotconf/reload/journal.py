"""The journal: what came of each reload, and who is told of it."""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from hotconf.values.report import Report, jsonable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hotconf.abc import Observer
    from hotconf.reload.request import Phase
    from hotconf.reload.trip import Trip
    from hotconf.values.report import Outcome

log = logging.getLogger("hotconf")

_REPORTS = 100
"""Reports that are kept: enough to see how it came about, few enough to forget about."""


class Journal:
    """The reports of the last reloads, oldest first. Written by one reload at a time, read from any thread.

    `failures` counts those rejected in a row, `commit_errors` are what went wrong in the last one that committed.
    """

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self.reports: deque[Report] = deque(maxlen=_REPORTS)
        self.failures = 0
        self.commit_errors: tuple[str, ...] = ()
        self.observers: tuple[Observer, ...] = ()

    def report(self, trip: Trip, outcome: Outcome, *, generation: int, **details: Any) -> Report:
        """Return the report of a trip, with a number of its own. It is nowhere until it is added."""
        errand, duration = trip.errand, time.monotonic() - trip.started
        return Report(
            next(self._ids),
            outcome,
            errand.triggers,
            generation,
            trip.started_at,
            duration,
            dry_run=errand.dry_run,
            **details,
        )

    def begin(self, triggers: Sequence[str]) -> None:
        """Let everybody know that a reload has begun."""
        self._each_observer("reload_began", triggers)

    def add(self, report: Report, phase: Phase, *, recovered: bool) -> None:
        """Let everybody know what came of it. What a dry run found concerns nobody but who asked.

        `recovered` tells that what is in force is not from the sources: then their failure is not over.
        """
        _log(report, phase)
        if report.dry_run:
            return
        self.reports.append(report)
        if report.outcome == "rejected":
            self.failures += 1
        elif not recovered:
            self.failures = 0
        self._each_observer("reload_ended", report)

    def _each_observer(self, method: str, argument: object) -> None:
        for observer in self.observers:
            try:
                getattr(observer, method)(argument)
            except KeyboardInterrupt:
                raise
            except BaseException:
                log.exception("%s raised", type(observer).__name__)


def _log(report: Report, phase: Phase) -> None:
    level = logging.WARNING if report.outcome == "rejected" or report.commit_errors or report.mutated else logging.INFO
    if report.outcome == "rejected" and phase == "start":
        level = logging.DEBUG  # raised as a ConfigError with the same faults: once is enough
    log.log(level, "%s", report, extra={"hotconf": jsonable(report)})
