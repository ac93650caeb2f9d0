"""Deferral: what only a restart can apply stays as it is running, the rest goes on, and nothing is kept in secret."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, NamedTuple

import pytest
from pydantic import RootModel, SecretStr
from typing_extensions import TypedDict

from hotconf.defer import Built, defer
from hotconf.diff import differences
from hotconf.redact import MASK
from hotconf.schema import RestartRequired, Section, Sensitive
from hotconf.validate import Invalid, validate
from tests.trees import merged

HIDDEN = "hunter2-Ünsafe"


def built(model, *layers):
    together = merged(model, *layers)
    return Built(together, validate(model, together))


def mix(model, running, candidate):
    """Defer between two sets of layers: one mapping is one file."""
    return defer(
        model, *(built(model, *(side if isinstance(side, tuple) else (side,))) for side in (running, candidate))
    )


def pending(deferral):
    return {entry.path: (entry.running, entry.wanted) for entry in deferral.pending}


def rejected(model, running, candidate):
    with pytest.raises(Invalid) as caught:
        mix(model, running, candidate)
    return [str(fault) for fault in caught.value.faults]


class Tls(Section):
    cert: Annotated[str, RestartRequired()]
    ciphers: str = "modern"


class Plain(Section):
    ciphers: str = "none"


class Pool(Section):
    size: int = 10
    driver: Annotated[str, RestartRequired()] = "psycopg"


class Login(TypedDict, total=False):
    user: str
    token: Annotated[str, RestartRequired(), Sensitive()]


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    size: int = 1
    kind: Annotated[str, RestartRequired()] = "x"


class Pair(NamedTuple):
    left: int
    right: Annotated[int, RestartRequired()]


class Port(RootModel[Annotated[int, RestartRequired()]]):
    pass


class App(Section):
    message: str = "hello"
    port: Annotated[int, RestartRequired()] = 8080
    fallback: Annotated[int, RestartRequired()] | None = None
    ports: list[Annotated[int, RestartRequired()]] = []
    labels: Annotated[dict[str, str], RestartRequired()] = {}
    cache: Annotated[Plain, RestartRequired()] = Plain()
    tls: Tls | Plain | None = None
    pool: Pool = Pool()
    pools: dict[str, Pool] = {}
    listed: list[Pool] = []
    deep: dict[str, list[Pool]] = {}
    login: Login = {}
    record: Record = Record()
    pair: Pair | None = None
    root: Port = Port(1)
    password: Annotated[SecretStr, RestartRequired()] = SecretStr("")
    anything: Any = None


POOL = {"driver": "psycopg", "size": 10}

CASES = [
    # running, candidate, what goes on, what is pending
    ({"port": 1}, {"port": 2}, {"port": 1}, {"port": (1, 2)}),
    ({}, {"port": 2}, {}, {"port": (8080, 2)}),
    ({"port": 1}, {}, {"port": 1}, {"port": (1, 8080)}),
    ({"port": 1}, {"port": 2, "message": "new"}, {"port": 1, "message": "new"}, {"port": (1, 2)}),
    ({"port": 1}, {"port": "1"}, {"port": "1"}, {}),
    ({"port": 8080}, {}, {}, {}),
    ({"message": "old"}, {"message": "new"}, {"message": "new"}, {}),
    ({}, {"fallback": 1}, {}, {"fallback": (None, 1)}),
    ({"fallback": 1}, {"fallback": None}, {"fallback": 1}, {"fallback": (1, None)}),
    ({"ports": [1, 2]}, {"ports": [2]}, {"ports": [1, 2]}, {"ports": ([1, 2], [2])}),
    (
        {"labels": {"a": "1", "b": "2"}},
        {"labels": {"a": "x", "c": "3"}},
        {"labels": {"a": "1", "b": "2"}},
        {"labels.a": ("1", "x"), "labels.c": (None, "3"), "labels.b": ("2", None)},
    ),
    ({}, {"cache": {"ciphers": "all"}}, {}, {"cache.ciphers": ("none", "all")}),
    # A section that is not marked goes on but for its marked fields.
    ({}, {"pool": {"driver": "x"}}, {}, {"pool.driver": ("psycopg", "x")}),
    ({}, {"pool": {"driver": "x", "size": 1}}, {"pool": {"size": 1}}, {"pool.driver": ("psycopg", "x")}),
    ({"pool": {"driver": "x"}}, {}, {"pool": {"driver": "x"}}, {"pool.driver": ("x", "psycopg")}),
    # One that appears, goes or becomes another does so as a whole.
    ({}, {"tls": {"cert": "a"}}, {}, {"tls": (None, {"cert": "a", "ciphers": "modern"})}),
    (
        {"tls": {"cert": "a"}},
        {"port": 8080},
        {"tls": {"cert": "a"}},
        {"tls": ({"cert": "a", "ciphers": "modern"}, None)},
    ),
    (
        {"tls": {"ciphers": "x"}},
        {"tls": {"cert": "a"}},
        {"tls": {"ciphers": "x"}},
        {"tls": ({"ciphers": "x"}, {"cert": "a", "ciphers": "modern"})},
    ),
    ({}, {"tls": {"ciphers": "x"}}, {"tls": {"ciphers": "x"}}, {}),
    ({"tls": {"ciphers": "x"}}, {"tls": {"ciphers": "y"}}, {"tls": {"ciphers": "y"}}, {}),
    # The items of a mapping have a name, those of a list do not.
    (
        {"pools": {"a.b": {"size": 1}}},
        {"pools": {"a.b": {"size": 2, "driver": "x"}}},
        {"pools": {"a.b": {"size": 2}}},
        {'pools."a.b".driver': ("psycopg", "x")},
    ),
    ({"pools": {"a": {}}}, {"pools": {"a": {}, "b": {}}}, {"pools": {"a": {}}}, {"pools.b": (None, POOL)}),
    ({"pools": {"a": {}}}, {"pools": {}}, {"pools": {"a": {}}}, {"pools.a": (POOL, None)}),
    ({"listed": [{}]}, {"listed": [{"size": 2}]}, {"listed": [{"size": 2}]}, {}),
    (
        {"listed": [{"driver": "a"}, {"driver": "b"}]},
        {"listed": [{"driver": "b"}]},
        {"listed": [{"driver": "a"}, {"driver": "b"}]},
        {"listed": ([POOL | {"driver": "a"}, POOL | {"driver": "b"}], [POOL | {"driver": "b"}])},
    ),
    (
        {"deep": {"x": [{}], "y": [{}]}},
        {"deep": {"x": [{"size": 3}], "y": [{}, {}]}},
        {"deep": {"x": [{"size": 3}], "y": [{}]}},
        {"deep.y": ([POOL], [POOL, POOL])},
    ),
    # Every kind of class with fields.
    (
        {"login": {"user": "a", "token": "x"}},
        {"login": {"user": "b", "token": "y"}},
        {"login": {"user": "b", "token": "x"}},
        {"login.token": (MASK, MASK)},
    ),
    (
        {"record": {"kind": "a"}},
        {"record": {"kind": "b", "size": 2}},
        {"record": {"kind": "a", "size": 2}},
        {"record.kind": ("a", "b")},
    ),
    ({"pair": [1, 2]}, {"pair": [3, 2]}, {"pair": [3, 2]}, {}),
    ({"pair": [1, 2]}, {"pair": [1, 3]}, {"pair": [1, 2]}, {"pair": ([1, 2], [1, 3])}),
    ({"root": 1}, {"root": 2}, {"root": 1}, {"root": (1, 2)}),
    ({"password": "a"}, {"password": HIDDEN}, {"password": "a"}, {"password": (MASK, MASK)}),
    ({"anything": {"port": 1}}, {"anything": {"port": 2}}, {"anything": {"port": 2}}, {}),
]


@pytest.mark.parametrize(("running", "candidate", "goes_on", "waits"), CASES)
def test_I8_what_only_a_restart_can_apply_keeps_its_running_value(running, candidate, goes_on, waits):
    found = mix(App, running, candidate)
    assert pending(found) == waits
    assert differences(built(App, goes_on).settings, found.settings) == ()
    assert validate(App, found.merged) == found.settings


@pytest.mark.parametrize(("running", "candidate", "goes_on", "waits"), CASES)
def test_I8_it_stays_pending_until_it_is_put_back(running, candidate, goes_on, waits):
    first = mix(App, running, candidate)
    now = Built(first.merged, first.settings)
    assert pending(defer(App, now, built(App, candidate))) == waits
    assert defer(App, now, built(App, goes_on)).pending == ()
    back = built(App, running)
    assert defer(App, now, back).merged is back.merged


def test_nothing_to_wait_for_leaves_the_candidate_as_it_is():
    running, candidate = built(App, {"message": "a"}), built(App, {"message": "b"})
    found = defer(App, running, candidate)
    assert (found.merged, found.settings, found.pending) == (candidate.merged, candidate.settings, ())
    assert found.settings is candidate.settings


def test_a_class_without_a_mark_is_not_even_compared():
    class Uncomparable:
        def __getattr__(self, name):
            raise AssertionError(name)

    candidate = Built(merged(Plain, {}), Uncomparable())
    assert defer(Plain, Built(candidate.merged, Uncomparable()), candidate).settings is candidate.settings
