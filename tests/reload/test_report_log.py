"""The report log: every report has a number, is kept for a while, and is given to the observers."""

import pytest

from hotconf.reload.report import ReportLog
from hotconf.reload.request import ReloadRequest
from hotconf.values.report import jsonable
from tests.heart import raising


class Seen:
    def __init__(self):
        self.heard = []

    def reload_began(self, triggers):
        self.heard.append(triggers)

    def reload_ended(self, report):
        self.heard.append(report)


class Loud:
    reload_began = reload_ended = staticmethod(raising(ValueError("loud")))


def report(log, outcome="applied", *, dry_run=False, **details):
    return log.begin(ReloadRequest(("HUP", "file"), dry_run=dry_run)).end(outcome, generation=7, **details)


def add(log, *arguments, raises=False, recovered=False, **options):
    log.add(report(log, *arguments, **options), ReloadRequest(("HUP", "file"), raises=raises), recovered=recovered)


def test_a_report_says_what_the_trip_was_for():
    made = report(ReportLog(), "unchanged", note="why")
    assert (made.id, made.outcome, made.triggers, made.generation) == (1, "unchanged", ("HUP", "file"), 7)
    assert (made.note, made.dry_run) == ("why", False)
    assert made.duration >= 0


def test_each_has_a_number_of_its_own_whether_or_not_it_is_added():
    log = ReportLog()
    report(log)
    add(log)
    assert [entry.id for entry in log.reports] == [2]


def test_the_last_hundred_are_kept():
    log = ReportLog()
    for _ in range(103):
        add(log)
    assert [entry.id for entry in log.reports] == list(range(4, 104))


def test_failures_are_counted_until_the_sources_are_good_again():
    log, counts = ReportLog(), []
    for outcome, recovered in [("rejected", False)] * 2 + [("applied", True), ("unchanged", False)]:
        add(log, outcome, recovered=recovered)
        counts.append(log.failures)
    assert counts == [1, 2, 2, 0]


def test_an_observer_that_raises_keeps_no_other_from_hearing(caplog):
    log, seen = ReportLog(), Seen()
    log.observers = (Loud(), seen)
    add(log)
    assert seen.heard == [("HUP", "file"), log.reports[0]]
    assert [entry.getMessage() for entry in caplog.records].count("Loud raised") == 2


def test_a_dry_run_is_neither_kept_nor_observed():
    log, seen = ReportLog(), Seen()
    log.observers = (seen,)
    add(log, "rejected", dry_run=True)
    assert (seen.heard, list(log.reports), log.failures) == ([], [], 0)


@pytest.mark.parametrize(
    ("raises", "outcome", "details", "level"),
    [
        (False, "applied", {}, "INFO"),
        (False, "applied", {"commit_errors": ("commit of x raised",)}, "WARNING"),
        (False, "rejected", {}, "WARNING"),
        (True, "rejected", {}, "DEBUG"),
        (True, "applied", {}, "INFO"),
    ],
)
def test_the_log_has_one_line_at_the_level_of_its_outcome(caplog, raises, outcome, details, level):
    caplog.set_level("DEBUG", "hotconf")
    log = ReportLog()
    add(log, outcome, raises=raises, **details)
    (line,) = caplog.records
    assert (line.levelname, line.hotconf) == (level, jsonable(log.reports[0]))
