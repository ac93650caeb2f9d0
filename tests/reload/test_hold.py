"""The hold: what was rolled away from must not come back by itself, and anything else ends it."""

import pytest

from hotconf import Layer
from hotconf.reload.hold import Hold
from hotconf.values.layer import SourceReading


def said(*layers):
    return [SourceReading((layer,), guarded=True) for layer in layers]


def file(value, revision=""):
    return Layer("app.toml", {"port": value}, revision=revision)


AWAY = said(Layer("defaults", {}), file(1, "a"))


def held(away=AWAY):
    hold = Hold()
    hold.settle(away, said(Layer("defaults", {}), file(0, "z")))
    return hold


def test_what_says_the_same_is_repelled():
    assert held().repels(said(Layer("defaults", {}), file(1, "a")))
    assert held().repels(AWAY)


@pytest.mark.parametrize(
    "now",
    [
        said(Layer("defaults", {}), file(1, "b")),
        said(Layer("defaults", {}), file(1)),
        said(Layer("defaults", {"port": 1}), file(1, "a")),
        said(Layer("others", {}), file(1, "a")),
        AWAY[:1],
        [],
    ],
    ids=["other bytes", "bytes unknown", "other values", "another source", "fewer", "nothing"],
)
def test_what_says_anything_else_is_not(now):
    assert not held().repels(now)


def test_where_nothing_is_held_nothing_is_looked_at():
    def unread():
        raise AssertionError
        yield

    assert not Hold().repels(unread())


def test_going_away_from_what_is_in_force_holds_nothing():
    hold = held()
    hold.settle(AWAY, AWAY)
    assert hold.away is None


def test_a_trip_to_somewhere_else_ends_it():
    hold = held()
    hold.settle(None, AWAY)
    assert not hold.repels(AWAY)


def test_what_we_have_written_ourselves_does_not_end_it():
    hold, overlay = held(), SourceReading((file(2, "mine"),), guarded=False)
    hold.amend(overlay)
    assert hold.repels([AWAY[0], overlay])
    assert not hold.repels(AWAY)


def test_where_nothing_is_held_nothing_begins_to_be():
    hold = Hold()
    hold.amend(AWAY[-1])
    assert hold.away is None
