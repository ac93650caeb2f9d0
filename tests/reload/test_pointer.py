"""The pointer: what is in force is replaced as a whole, and its numbers only ever grow."""

import pytest

import hotconf.reload.pointer
from hotconf import NotLoaded
from hotconf.reload.candidate import Rules
from hotconf.reload.holder import Holder
from hotconf.reload.pointer import Pointer
from hotconf.sources.construct import Constructor
from hotconf.values.layer import Layer, SourceReading
from tests.heart import App

RULES = Rules(Constructor(App))


@pytest.fixture
def pointer():
    return Pointer(Holder(), App)


def draft(pointer, **values):
    return RULES.draft([SourceReading((Layer("memory", values),), guarded=True)], pointer.draft)


def swap(pointer, resources=None, **values):
    return pointer.swap(draft(pointer, **values), resources or {})


def test_before_the_first_load_there_is_nothing(pointer):
    assert (pointer.snapshot, pointer.draft, pointer.generation) == (None, None, 0)
    assert (pointer.readings, pointer.pending) == ((), ())
    with pytest.raises(NotLoaded):
        _ = pointer.origins
    pointer.forget_resources()
    assert pointer.snapshot is None


def test_a_swap_returns_what_was_in_force(pointer):
    assert swap(pointer, port=1) is None
    first = pointer.snapshot
    assert swap(pointer, port=2) is first
    assert (pointer.generation, pointer.snapshot.settings.port) == (2, 2)
    assert pointer.readings[0].layers[0].values == {"port": 2}


def test_what_is_only_built_anew_keeps_its_generation_and_settings(pointer):
    swap(pointer, {"pool": 1}, port=1)
    settings = pointer.snapshot.settings
    swap(pointer, {"pool": 2}, port=1)
    assert (pointer.generation, pointer.snapshot.resources) == (1, {"pool": 2})
    assert pointer.snapshot.settings is pointer.draft.settings is settings


def test_an_unchanged_draft_brings_its_origins_and_no_snapshot(pointer):
    swap(pointer, port=1)
    snapshot, before = pointer.snapshot, pointer.origins
    assert pointer.origins is before
    pointer.keep(draft(pointer, port=1))
    assert pointer.snapshot is snapshot
    assert pointer.draft.settings is snapshot.settings
    assert pointer.origins is not before


def test_an_override_comes_and_goes_under_the_same_number(pointer):
    swap(pointer, {"pool": 1}, port=1)
    pointer.override(RULES.overridden(pointer.draft, [Layer("override", {"port": 9})]))
    assert (pointer.generation, pointer.snapshot.settings.port) == (1, 9)
    assert pointer.snapshot.document["port"] == 9
    assert pointer.snapshot.resources == {"pool": 1}


def test_without_resources_the_settings_stay(pointer):
    swap(pointer, {"pool": 1}, port=1)
    before, standing = pointer.snapshot, pointer.draft
    pointer.forget_resources()
    assert pointer.snapshot.resources == {}
    assert pointer.snapshot.settings is before.settings
    assert pointer.draft is standing
    stripped = pointer.snapshot
    pointer.forget_resources()
    assert pointer.snapshot is stripped


def test_each_path_has_the_generation_of_its_last_change(pointer):
    swap(pointer, port=1)
    swap(pointer, port=2)
    swap(pointer, port=2, message="new")
    changed_in = pointer.snapshot.changed_in
    assert [changed_in((name,)) for name in ("port", "message", "database")] == [2, 3, 1]


def test_too_many_changes_are_forgotten_together(pointer, monkeypatch):
    monkeypatch.setattr(hotconf.reload.pointer, "_CHANGES", 2)
    for port in range(3):
        swap(pointer, port=port)
    swap(pointer, port=3, message="new")
    assert pointer.snapshot.changes == {(): 4}
