"""The stack: sources in their order, and the state of each of them."""

import asyncio
import errno
import itertools

import pytest

from hotconf import Fault, HotConf, Layer
from hotconf.errors import SourceError
from hotconf.sources import Memory
from hotconf.sources.overlay import Overlay
from hotconf.sources.stack import Stack
from tests.heart import QUIET, App, Panic


class Fake:
    """A source that does what it is told."""

    kind = "fake"

    def __init__(self, name="fake", *, required=True, **values):
        self.name = name
        self.required = required
        self.values = values
        self.error = None

    async def read(self):
        if self.error is not None:
            raise self.error
        return Layer(self.name, self.values)


class Group(Fake):
    """Two layers that can only be read together."""

    def __init__(self, *layers, **options):
        super().__init__(**options)
        self.layers = layers

    async def read(self):
        if self.error is not None:
            raise self.error
        return self.layers


def conf_of(*sources):
    return HotConf(App, sources=sources, options=QUIET)


async def read(stack):
    return await stack.read(lambda readings: readings)


async def test_layers_come_in_the_order_of_their_sources():
    group = Group(Layer("b", {"port": 2}), Layer("c", {"port": 3}), name="group")
    readings = await read(Stack.of(App, [Fake("a"), group, Fake("d")]))
    assert [layer.source for layer in readings.layers()] == ["a", "b", "c", "d"]


async def test_sources_are_read_at_once():
    together = asyncio.Barrier(2)

    class Meeting(Fake):
        async def read(self):
            await together.wait()
            return await super().read()

    async with asyncio.timeout(10):
        await read(Stack.of(App, [Meeting("a"), Meeting("b")]))


async def test_I5_every_source_says_what_is_wrong_at_once():
    broken, missing = Fake("broken"), Fake("missing")
    broken.error = SourceError([Fault("a", "first"), Fault("b", "second")])
    missing.error = ConnectionRefusedError(errno.ECONNREFUSED, "user:hunter2@host")
    conf = conf_of(broken, Fake("fine"), missing)
    async with asyncio.timeout(10):
        report = await conf.reload()
    assert [str(fault) for fault in report.faults] == [
        "a: first",
        "b: second",
        "missing: cannot be read: ConnectionRefusedError: Connection refused",
    ]
    assert (report.outcome, report.stage) == ("rejected", "read")
    assert [source["state"] for source in conf.status.sources] == ["failed", "fresh", "failed", "fresh"]


@pytest.mark.parametrize("error", [OSError("away"), TimeoutError("late"), ValueError("odd"), SystemExit(2), Panic()])
async def test_I5_a_required_source_that_fails_rejects_and_recovers(error):
    source = Fake(port=1)
    conf = conf_of(source)
    async with conf.running(signals=()):
        source.error = error
        source.values = {"port": 2}
        assert (await conf.reload()).outcome == "rejected"
        assert conf.current.port == 1
        assert conf.status.sources[0]["state"] == "failed"
        assert type(error).__name__ in conf.status.sources[0]["error"]
        source.error = None
        assert (await conf.reload()).outcome == "applied"
        status = conf.status.sources[0]
        assert status.pop("read_at") is not None
        assert status == {
            "name": "fake",
            "kind": "fake",
            "required": True,
            "state": "fresh",
            "protection": None,
            "error": None,
            "revision": None,
            "following": None,
            "failures": 0,
            "age": 0.0,
        }


@pytest.mark.parametrize("kind", [Fake, Group])
async def test_I5_an_optional_source_out_of_reach_keeps_its_last_layers_and_is_shown_as_stale(kind):
    source = Fake(required=False, port=1)
    if kind is Group:
        source = Group(Layer("inner", {"port": 1}), required=False)
    conf = conf_of(source)
    async with conf.running(signals=()):
        source.error = ConnectionResetError("gone")
        report = await conf.reload()
        assert report.outcome == "unchanged"
        assert conf.current.port == 1
        assert conf.status.sources[0]["state"] == "stale"
        assert conf.status.degraded == ("source fake is stale",)
        source.error = None
        await conf.reload()
        assert conf.status.degraded == ()


async def test_I5_an_optional_source_that_held_nothing_may_go_stale_too():
    source = Group(required=False)
    conf = conf_of(source)
    async with conf.running(signals=()):
        source.error = OSError("gone")
        assert (await conf.reload()).outcome == "unchanged"


async def test_I5_an_optional_source_that_was_never_read_has_no_last_layer():
    source = Fake(required=False)
    source.error = OSError("not yet there")
    report = await conf_of(source).reload()
    assert report.outcome == "rejected"


@pytest.mark.parametrize("error", [SourceError([Fault("", "malformed")]), ValueError("malformed")])
async def test_I5_an_optional_source_that_is_malformed_rejects(error):
    source = Fake(required=False, port=1)
    conf = conf_of(source)
    async with conf.running(signals=()):
        source.error = error
        assert (await conf.reload()).outcome == "rejected"
        assert conf.current.port == 1


@pytest.mark.parametrize("answer", [None, {"port": 2}, Layer("x", None), Layer("x", ["port"])])
async def test_I5_what_is_no_layer_of_a_mapping_rejects_and_names_the_source(answer):
    source = Fake()
    source.read = lambda: asyncio.sleep(0, answer)
    report = await conf_of(source).reload()
    assert "fake: cannot be read" in str(report)
    assert "not a Layer" in str(report)


async def test_I5_a_source_whose_own_work_is_cancelled_rejects_and_the_engine_lives():
    class Fragile(Fake):
        broken = False

        async def read(self):
            if self.broken:
                inner = asyncio.create_task(asyncio.sleep(60))
                inner.cancel()
                await inner
            return await super().read()

    source = Fragile()
    conf = conf_of(source)
    async with conf.running(signals=()):
        source.broken = True
        report = await conf.reload()
        assert report.outcome == "rejected"
        assert "fake: cannot be read: CancelledError" in str(report)
        assert conf.status.sources[0]["state"] == "failed"
        source.broken = False
        assert (await conf.reload()).outcome == "unchanged"


class Text(Fake):
    """A file of its own, and something that happens just before it is read."""

    def __init__(self, path, before=lambda: None):
        super().__init__(path.name)
        self.path, self.before = path, before

    def paths(self):
        return [self.path]

    async def read(self):
        self.before()
        return Layer(self.name, {"text": self.path.read_text()})


@pytest.fixture
def swapped(tmp_path):
    """Two files behind a link, and a function that turns it to a newer folder, as Kubernetes does."""
    versions = itertools.count()

    def swap():
        folder = tmp_path / f"..{next(versions)}"
        folder.mkdir()
        for name in "ab":
            (folder / name).write_text(folder.name)
        (tmp_path / "..tmp").symlink_to(folder.name)
        (tmp_path / "..tmp").replace(tmp_path / "..data")

    swap()
    return (tmp_path / "..data" / "a", tmp_path / "..data" / "b", swap)


async def test_files_that_are_swapped_while_they_are_read_are_read_as_they_were_at_one_time(swapped):
    a, b, swap = swapped
    waiting = [swap]
    stack = Stack.of(App, [Text(a), Text(b, before=lambda: waiting and waiting.pop()())])
    texts = [layer.values["text"] for layer in (await read(stack)).layers()]
    assert texts == ["..1", "..1"]


async def test_only_a_source_whose_own_files_were_replaced_is_read_again(swapped, tmp_path):
    a, b, swap = swapped
    (tmp_path / "c").write_text("c")
    waiting, asked = [swap], []
    sources = [Text(tmp_path / "c", lambda: asked.append("c")), Text(a, lambda: asked.append("a"))]
    await read(Stack.of(App, [*sources, Text(b, before=lambda: waiting and waiting.pop()())]))
    assert asked == ["c", "a", "a"]


async def test_files_that_are_swapped_again_and_again_are_read_all_the_same(swapped):
    a, b, swap = swapped
    readings = await read(Stack.of(App, [Text(a), Text(b, before=swap)]))
    assert len(readings.sources) == 2


async def test_a_source_that_cannot_tell_its_files_is_read_all_the_same(tmp_path):
    class Untold(Fake):
        def paths(self):
            raise LookupError

    assert len((await read(Stack.of(App, [Untold()]))).sources) == 1


def test_only_sources_with_paths_are_watched(tmp_path):
    class Watched(Fake):
        def paths(self):
            return [tmp_path / "a"]

    assert list(Stack.of(App, [Memory(), Watched()]).paths()) == [tmp_path / "a"]


def test_the_overlay_is_the_strongest_source_or_there_is_none(tmp_path):
    overlay = Overlay(tmp_path / "overlay.toml", App)
    assert Stack.of(App, [Memory(), overlay]).overlay is overlay
    assert Stack.of(App, [Memory()]).overlay is None
    assert Stack.of(App, []).overlay is None
