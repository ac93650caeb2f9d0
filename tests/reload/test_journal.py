"""The journal: every report has a number, is kept for a while, and is told to whoever observes."""

import pytest

from hotconf.reload.journal import Journal
from hotconf.reload.request import Errand
from hotconf.reload.trip import Trip
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


def report(journal, outcome="applied", *, dry_run=False, **details):
    trip = Trip(Errand(("HUP", "file"), dry_run=dry_run), journal)
    return journal.report(trip, outcome, generation=7, **details)


def add(journal, *arguments, phase="live", recovered=False, **options):
    journal.add(report(journal, *arguments, **options), phase, recovered=recovered)


def test_a_report_says_what_the_trip_was_for():
    made = report(Journal(), "unchanged", note="why")
    assert (made.id, made.outcome, made.triggers, made.generation) == (1, "unchanged", ("HUP", "file"), 7)
    assert (made.note, made.dry_run) == ("why", False)
    assert made.duration >= 0


def test_each_has_a_number_of_its_own_whether_or_not_it_is_added():
    journal = Journal()
    report(journal)
    add(journal)
    assert [entry.id for entry in journal.reports] == [2]


def test_the_last_hundred_are_kept():
    journal = Journal()
    for _ in range(103):
        add(journal)
    assert [entry.id for entry in journal.reports] == list(range(4, 104))


def test_failures_are_counted_until_the_sources_are_good_again():
    journal, counts = Journal(), []
    for outcome, recovered in [("rejected", False)] * 2 + [("applied", True), ("unchanged", False)]:
        add(journal, outcome, recovered=recovered)
        counts.append(journal.failures)
    assert counts == [1, 2, 2, 0]


def test_everybody_hears_whoever_raises_before(caplog):
    journal, seen = Journal(), Seen()
    journal.observers = (Loud(), seen)
    journal.begin(("HUP",))
    add(journal)
    assert seen.heard == [("HUP",), journal.reports[0]]
    assert [entry.getMessage() for entry in caplog.records].count("Loud raised") == 2


def test_a_dry_run_concerns_nobody_else():
    journal, seen = Journal(), Seen()
    journal.observers = (seen,)
    add(journal, "rejected", dry_run=True)
    assert (seen.heard, list(journal.reports), journal.failures) == ([], [], 0)


@pytest.mark.parametrize(
    ("phase", "outcome", "details", "level"),
    [
        ("live", "applied", {}, "INFO"),
        ("live", "applied", {"commit_errors": ("commit of x raised",)}, "WARNING"),
        ("live", "unchanged", {"mutated": ("port",)}, "WARNING"),
        ("live", "rejected", {}, "WARNING"),
        ("start", "rejected", {}, "DEBUG"),
    ],
)
def test_the_log_has_one_line_as_loud_as_it_is_bad(caplog, phase, outcome, details, level):
    caplog.set_level("DEBUG", "hotconf")
    journal = Journal()
    add(journal, outcome, phase=phase, **details)
    (line,) = caplog.records
    assert (line.levelname, line.hotconf) == (level, jsonable(journal.reports[0]))
