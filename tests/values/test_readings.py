"""Readings: what all sources said, and whether two reads say the same."""

import dataclasses

import pytest

from hotconf import Layer
from hotconf.values.layer import Readings, SourceReading


def said(*layers, **parts):
    return Readings(tuple(SourceReading((layer,), guarded=True) for layer in layers), **parts)


def file(value, revision=""):
    return Layer("app.toml", {"port": value}, revision=revision)


DEFAULTS = Layer("defaults", {})
FIRST = said(DEFAULTS, file(1, "a"))


@pytest.mark.parametrize("now", [FIRST, said(DEFAULTS, file(1, "a")), said(Layer("defaults", {}), file(9, "a"))])
def test_the_same_revision_says_the_same_and_values_are_compared_where_there_is_none(now):
    assert FIRST.say_the_same_as(now)


@pytest.mark.parametrize(
    "now",
    [
        said(DEFAULTS, file(1, "b")),
        said(DEFAULTS, file(1)),
        said(Layer("defaults", {"port": 1}), file(1, "a")),
        said(Layer("others", {}), file(1, "a")),
        said(DEFAULTS),
        said(),
        said(DEFAULTS, file(1, "a"), overlay=Layer("overlay.toml", {"port": 2})),
    ],
    ids=["other bytes", "no revision", "other values", "another source", "fewer", "nothing", "an overlay"],
)
def test_anything_else_says_something_else(now):
    assert not FIRST.say_the_same_as(now)
    assert not now.say_the_same_as(FIRST)


def test_a_pending_patch_and_overrides_say_nothing_about_the_sources():
    overlay = said(file(1, "a"), overlay=Layer("overlay.toml", {}, revision="1"))
    patched = dataclasses.replace(overlay, patched=file(2), overrides=(file(3),))
    assert overlay.say_the_same_as(patched)
    assert patched.have_the_sources_of(patched)
    assert not overlay.have_the_sources_of(patched)


def test_layers_come_the_weakest_first_and_a_pending_patch_replaces_the_overlay():
    below, overlay, patched, override = file(1), file(2), file(3), file(4)
    readings = said(below, overlay=overlay, overrides=(override,))
    assert readings.layers() == (below, overlay)
    assert dataclasses.replace(readings, patched=patched).layers() == (below, patched)
    assert [reading.guarded for reading in readings.by_source()] == [True, False]


def test_only_what_the_sources_hold_by_now_counts_as_built_from_them():
    assert FIRST.is_built_from_sources()
    for part in ({"patched": file(2)}, {"overrides": (file(2),)}, {"from_last_good": True}):
        assert not dataclasses.replace(FIRST, **part).is_built_from_sources()
