"""The conformance kit: our own sources pass it, and each of its tests finds the source that it was written against."""

import asyncio
import contextlib
import json

import pytest
import tomli_w
from pydantic_settings import BaseSettings

from hotconf import ConfigError, Layer, Origin
from hotconf.sources import Dir, File, Memory
from hotconf.sources.construct import Constructor
from hotconf.sources.dotenv import Dotenv
from hotconf.sources.pydantic import SettingsSources
from hotconf.testing import FakeSource
from hotconf.testing.conformance import SourceConformance
from tests.support import replace


class InFolder(SourceConformance):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        self.path = tmp_path / "app.toml"

    def write(self, values):
        replace(self.path, tomli_w.dumps(values))

    def corrupt(self):
        replace(self.path, "name = [")

    def remove(self):
        self.path.unlink()


class TestFile(InFolder):
    def make(self, *, required):
        return File(self.path, required)


class TestJson(InFolder):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        self.path = tmp_path / "app.json"

    def write(self, values):
        replace(self.path, json.dumps(values, indent=1))

    def make(self, *, required):
        return File(self.path, required)


class TestDir(SourceConformance):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        self.folder = tmp_path / "conf.d"

    def make(self, *, required):
        return Dir(self.folder, required)

    def write(self, values):
        self.folder.mkdir(exist_ok=True)
        [(first, value), *rest] = values.items()
        replace(self.folder / "10.toml", tomli_w.dumps(dict(rest)))
        replace(self.folder / "20.json", json.dumps({first: value}))

    def corrupt(self):
        replace(self.folder / "10.toml", "name = [")

    def remove(self):
        for file in self.folder.iterdir():
            file.unlink()
        self.folder.rmdir()


class Variables(BaseSettings):
    model_config = {"env_prefix": "KIT_", "env_nested_delimiter": "__", "extra": "allow"}
    name: str
    database: dict[str, str] = {}


class TestDotenv(InFolder):
    first = {"name": "one", "database": {"url": "db://one"}}
    second = {"name": "two", "database": {"url": "db://two", "size": "5"}}

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        self.path = tmp_path / "app.env"

    def make(self, *, required):
        return Dotenv(File(self.path, required), Variables)

    def write(self, values):
        database = {f"DATABASE__{key.upper()}": value for key, value in values["database"].items()}
        lines = [f"KIT_{name}={value}\n" for name, value in {"NAME": values["name"], **database}.items()]
        replace(self.path, "".join(lines))

    def corrupt(self):
        replace(self.path, "KIT_NAME='never closed\n")


class TestMemory(SourceConformance):
    @pytest.fixture(autouse=True)
    def memory(self):
        self.source = Memory()

    def make(self, *, required):
        self.source.required = required
        return self.source

    def write(self, values):
        self.source.set(values)


class TestFake(SourceConformance):
    @pytest.fixture(autouse=True)
    def fake(self):
        self.source = FakeSource()

    def make(self, *, required):
        self.source.required = required
        return self.source

    def write(self, values):
        self.source.fail(RuntimeError(), times=0)
        self.source.set(values)
        self.source.hint()

    def corrupt(self):
        self.source.fail(RuntimeError(), times=100)

    def remove(self):
        self.source.set({})
        if self.source.required:
            self.source.fail(FileNotFoundError(), times=100)


class OneFile(BaseSettings):
    model_config = {"extra": "allow"}


class TestOwn(InFolder):
    """The sources of a settings class, here a dotenv file that pydantic-settings reads."""

    first = {"name": "one"}
    second = {"name": "two"}

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        self.path = tmp_path / ".env"
        monkeypatch.delenv("NAME", raising=False)

    def make(self, *, required):
        if not required:
            pytest.skip("a class always has its sources")

        class Named(BaseSettings):
            model_config = {"env_file": self.path}
            name: str

        return SettingsSources(Constructor(Named))

    def write(self, values):
        replace(self.path, f"NAME={values['name']}\n")

    def corrupt(self):
        replace(self.path, "NAME='never closed\n")

    def remove(self):
        pytest.skip("pydantic-settings passes over a dotenv file that is absent")


# A source that is wrong, for each of the kit's tests: it must be found.


class Store:
    """What a Wrong source reads. None is absent, "?" is malformed."""

    def __init__(self):
        self.values = None
        self.is_cut = False


class Right:
    name = "right"

    def __init__(self, store, *, required=True):
        self.store, self.required = store, required

    async def read(self):
        values = self.store.values
        if self.store.is_cut:
            raise ConnectionError
        if values == "?" or (values is None and self.required):
            raise ValueError
        return self.layer(values or {})

    def layer(self, values):
        return Layer(self.name, json.loads(json.dumps(values)), revision=str(values))


class Telling(Right):
    async def changes(self):
        while True:
            before = self.store.values
            while self.store.values == before:
                await asyncio.sleep(0.005)
            yield


class Unnamed(Right):
    name = ""


class AlwaysRequired(Right):
    @property
    def required(self):
        return True

    @required.setter
    def required(self, _value):
        pass


class Partial(Right):
    def layer(self, values):
        return Layer(self.name, {key: value for key, value in values.items() if key != "tags"})


class NoMapping(Right):
    def layer(self, values):
        return Layer(self.name, list(values))


class Forever(Right):
    """Keeps what it read first."""

    kept = None

    async def read(self):
        self.kept = self.kept or await super().read()
        return self.kept


class Cumulative(Right):
    """Forgets nothing."""

    def layer(self, values):
        self.held = {**getattr(self, "held", {}), **values}
        return super().layer(self.held)


class Restless(Right):
    reads = 0

    def layer(self, values):
        self.reads += 1
        return Layer(self.name, values, revision=str(self.reads))


class Unrevised(Right):
    def layer(self, values):
        return Layer(self.name, values, revision="1")


class Aliasing(Right):
    """Hands out one dictionary, and changes it."""

    def layer(self, values):
        self.held = getattr(self, "held", {})
        self.held.clear()
        self.held.update(values)
        return Layer(self.name, self.held)


class Misplaced(Right):
    def layer(self, values):
        return Layer(self.name, values, {(): Origin("file", __file__, 1_000_000, 1)})


class Nameless(Right):
    def layer(self, values):
        return Layer(self.name, values, {(): Origin("source", "")})


class EmptyWhenMalformed(Right):
    async def read(self):
        return self.layer({}) if self.store.values == "?" else await super().read()


class OptionalMalformed(Right):
    async def read(self):
        malformed = self.store.values == "?" and not self.required
        return self.layer({}) if malformed else await super().read()


class EmptyWhenAbsent(Right):
    async def read(self):
        return self.layer(self.store.values or {}) if self.store.values != "?" else await super().read()


class AbsentAtFirst(Right):
    """Believes that what was never there is no failure."""

    seen = False

    async def read(self):
        if self.store.values is None and not self.seen:
            return self.layer({})
        self.seen = True
        return await super().read()


class NeverAbsent(Right):
    async def read(self):
        if self.store.values is None:
            raise ValueError
        return await super().read()


class Sulking(Right):
    """Never recovers."""

    failed = False

    async def read(self):
        try:
            if self.failed:
                raise ValueError
            return await super().read()
        except ValueError:
            self.failed = True
            raise


class Stubborn(Right):
    async def read(self):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)
        return await super().read()


class Fragile(Right):
    """Breaks when a read is cancelled."""

    broken = False

    async def read(self):
        self.broken, was = True, self.broken
        await asyncio.sleep(0)
        if was:
            raise ValueError
        self.broken = False
        return await super().read()


class BoundToALoop(Right):
    loop = None

    async def read(self):
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            raise RuntimeError
        return await super().read()


class Late(Right):
    """Answers with the content of the read before."""

    last = None

    async def read(self):
        self.last, layer = await super().read(), self.last
        return layer or self.last


class Silent(Right):
    async def changes(self):
        await asyncio.get_running_loop().create_future()
        yield


class Deaf(Right):
    """Hints once and never again."""

    async def changes(self):
        before = self.store.values
        while self.store.values == before:
            await asyncio.sleep(0.005)
        yield
        await asyncio.get_running_loop().create_future()


class Exiting(Right):
    async def read(self):
        if self.store.values == "?":
            raise SystemExit(0)
        return await super().read()


class EmptyWhenOutOfReach(Right):
    async def read(self):
        return self.layer({}) if self.store.is_cut else await super().read()


class GivingUp(Telling):
    gave_up = False

    async def read(self):
        self.gave_up = self.gave_up or self.store.is_cut
        if self.gave_up:
            raise ConnectionError
        return await super().read()


FOUND = [
    (Unnamed, "test_it_is_a_source"),
    (AlwaysRequired, "test_it_is_a_source"),
    (Partial, "test_it_returns_what_it_holds"),
    (NoMapping, "test_it_returns_what_it_holds"),
    (Forever, "test_an_edit_is_read"),
    (Cumulative, "test_an_edit_is_read"),
    (Restless, "test_the_same_content_is_the_same"),
    (Unrevised, "test_equal_revisions_mean_equal_values"),
    (Aliasing, "test_a_layer_stays_what_it_was"),
    (Misplaced, "test_every_value_has_an_origin"),
    (Nameless, "test_every_value_has_an_origin"),
    (EmptyWhenMalformed, "test_what_cannot_be_understood_raises"),
    (OptionalMalformed, "test_what_cannot_be_understood_raises"),
    (Exiting, "test_what_cannot_be_understood_raises"),
    (EmptyWhenAbsent, "test_a_required_one_that_is_absent_raises"),
    (AbsentAtFirst, "test_a_required_one_that_is_absent_raises"),
    (NeverAbsent, "test_an_optional_one_that_is_absent_is_empty"),
    (Sulking, "test_it_recovers"),
    (Stubborn, "test_it_can_be_cancelled_at_any_point"),
    (Fragile, "test_it_can_be_cancelled_at_any_point"),
    (BoundToALoop, "test_it_works_in_several_event_loops"),
    (Late, "test_many_reloads_at_once_end_with_the_last_content"),
    (EmptyWhenMalformed, "test_a_failure_leaves_the_running_values_in_force"),
    (Silent, "test_a_change_is_noticed"),
    (Deaf, "test_a_change_is_noticed"),
    (EmptyWhenOutOfReach, "test_what_is_out_of_reach_is_an_outage"),
    (GivingUp, "test_an_outage_ends_by_itself"),
]


def suite_over(source_class):
    class Suite(SourceConformance):
        def __init__(self):
            self.store = Store()

        def make(self, *, required):
            return source_class(self.store, required=required)

        def write(self, values):
            self.store.values = values

        def corrupt(self):
            self.store.values = "?"

        def remove(self):
            self.store.values = None

        def cut(self):
            self.store.is_cut = True

        def mend(self):
            self.store.is_cut = False

    return Suite()


def run(suite, name):
    """Run one test of the kit; those over `required` for both of its values."""
    test = getattr(suite, name)
    if "required" not in test.__annotations__:
        return test()
    for required in (True, False):
        test(required)
    return None


FAILURES = (AssertionError, pytest.fail.Exception, ConfigError, TimeoutError, ValueError, SystemExit)
"""And nothing that a slip in the kit would raise."""


@pytest.mark.parametrize(("wrong", "name"), FOUND, ids=lambda value: getattr(value, "__name__", value))
def test_a_wrong_source_is_found(wrong, name, monkeypatch):
    monkeypatch.setattr("hotconf.testing.conformance.PATIENCE", 0.3)
    with pytest.raises(FAILURES):
        run(suite_over(wrong), name)


TESTS = [name for name in vars(SourceConformance) if name.startswith("test_")]


@pytest.mark.parametrize("name", TESTS)
def test_a_right_source_is_not(name):
    run(suite_over(Telling), name)


def test_no_test_of_the_kit_finds_nothing():
    assert {name for _, name in FOUND} == set(TESTS)
