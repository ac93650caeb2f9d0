"""Snapshots: numbers that only grow, and the generation in which each path last changed."""

import hotconf.reload.snapshot
from hotconf.reload.candidate import CandidateBuilder
from hotconf.reload.snapshot import Snapshot
from hotconf.sources.construct import Constructor
from hotconf.values.layer import Layer, Readings, SourceReading
from tests.heart import App

BUILDER = CandidateBuilder(Constructor(App))


def snapshots(*versions):
    """Yield the snapshot of each version of the values."""
    before = running = None
    for values in versions:
        readings = Readings((SourceReading((Layer("memory", values),), guarded=True),))
        running = BUILDER.build(readings, running)
        before = Snapshot.after(before, running, {})
        yield before


def test_each_path_has_the_generation_of_its_last_change():
    *_, last = snapshots({"port": 1}, {"port": 2}, {"port": 2, "message": "new"})
    assert last.generation == 3
    assert [last.changed_in((name,)) for name in ("port", "message", "database")] == [2, 3, 1]


def test_too_many_changes_are_forgotten_together(monkeypatch):
    monkeypatch.setattr(hotconf.reload.snapshot, "_CHANGES", 2)
    *_, last = snapshots({"port": 0}, {"port": 1}, {"port": 2}, {"port": 3, "message": "new"})
    assert last.changes == {(): 4}
