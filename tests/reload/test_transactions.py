"""All or nothing: whatever happens at whatever station of a reload, exactly this follows, in exactly this order."""

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import Annotated

import pytest
from pydantic import Field, model_validator

import hotconf.reload.candidate as draft
from hotconf import HotConf, Layer, Options, Refuse, RestartRequired, Section, Settings
from hotconf.errors import ConfigError, Draining, NotRunning, SourceError
from hotconf.sources.overlay import Overlay, StagedOverlay
from hotconf.values.report import Fault
from tests.heart import Record


class Database(Section):
    pool_size: int = 10


class App(Settings):
    model_config = {"env_prefix": "TRANSACTION_"}

    database: Database = Database()
    limit: int = 100
    workers: Annotated[int, RestartRequired()] = 2
    more: dict[str, int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def enough(self):
        if self.limit < self.workers:
            raise ValueError("limit must not be below workers")
        return self


class Script:
    """What is to happen at which station. Each station calls it when it is entered."""

    def __init__(self):
        self.events = []
        self.station = self.how = None
        self.reached = asyncio.Event()
        self.released = threading.Event()
        self.loop = asyncio.get_running_loop()

    def arm(self, station, how):
        self.events.clear()
        self.station, self.how = station, how

    async def enter(self, station, refusal):
        """A station on the loop: one that hangs can be cancelled."""
        self.events.append(station)
        if station != self.station:
            return
        match self.how:
            case "refuse":
                raise refusal
            case "raise":
                raise ZeroDivisionError
            case "time out by itself":
                raise TimeoutError
            case "hang" | "drain" | "leave":
                self.reached.set()
                await asyncio.Event().wait()

    def enter_in_thread(self, station, refusal=None):
        """A station in a thread: nothing can stop it."""
        self.events.append(station)
        if station != self.station:
            return
        match self.how:
            case "refuse" if refusal is not None:
                raise refusal
            case "raise":
                raise ZeroDivisionError
            case "drain" | "leave" | "drain and refuse":
                self.loop.call_soon_threadsafe(self.reached.set)
                assert self.released.wait(20)
                if station in PURE:
                    raise ZeroDivisionError("nobody waits for this any more")
                if self.how == "drain and refuse":
                    raise refusal


class Scripted:
    """A source that enters the station `read`."""

    kind = name = "scripted"
    required = True

    def __init__(self, script):
        self._script = script
        self.values = {"database": {"pool_size": 10}}

    async def read(self):
        await self._script.enter("read", SourceError([Fault("", "not readable")]))
        return Layer(self.name, self.values)


class Watched(HotConf):
    """It says when it swaps."""

    def _publish(self, snapshot):
        self.events.append("swap")
        return super()._publish(snapshot)


class Third:
    """A subscriber as an object."""

    name = "three"

    def __init__(self, script, record):
        self._script, self._record = script, record

    async def prepare(self, _change):
        await self._script.enter("prepare three", Refuse("no"))
        return _silent(self._record, "three")


def _silent(record, name, **ends):
    """What was prepared, without another event for the preparing itself."""
    prepared = record.prepared(name, **ends)
    record.events.pop()
    return prepared


class Stage:
    """A configuration with three participants, a resource among them, where every station is scripted."""

    def __init__(self, folder, monkeypatch):
        self.script = Script()
        self.record = Record()
        self.record.events = self.events = self.script.events
        self.source = Scripted(self.script)
        self.overlay = folder / "overlay.toml"
        options = Options(watch=False, overlay=self.overlay, prepare_timeout=0.1, retire_after=None)
        self.conf = Watched(App, sources=[self.source], options=options)
        self.conf.events = self.events
        self._script_pure_stations(monkeypatch)
        self._script_writing(monkeypatch)
        self._register()

    def _script_pure_stations(self, monkeypatch):
        for name in PURE:
            original = getattr(draft, name)

            def scripted(*arguments, _name=name, _original=original, **options):
                self.script.enter_in_thread(_name)
                return _original(*arguments, **options)

            monkeypatch.setattr(draft, name, scripted)

    def _script_writing(self, monkeypatch):
        full = OSError(28, "No space left on device")
        for owner, name, station in ((Overlay, "stage", "stage"), (StagedOverlay, "publish", "write")):
            original = getattr(owner, name)

            def scripted(*arguments, _station=station, _original=original):
                self.script.enter_in_thread(_station, full)
                return _original(*arguments)

            monkeypatch.setattr(owner, name, scripted)

    def _register(self):
        conf, script, record = self.conf, self.script, self.record

        @conf.prepare("database")
        async def one(_change):
            await script.enter("prepare one", Refuse("no"))
            return _silent(record, "one", commit=self._commit)

        @conf.resource("database")
        @asynccontextmanager
        async def two(candidate):
            size = candidate.settings.database.pool_size
            await script.enter("open two", Refuse("no"))
            yield size
            script.events.append(f"close {size}")

        conf.prepare("database")(Third(script, record))
        self.two = two

        @conf.on_change("database")
        def told(_change):
            script.events.append("told")

    def _commit(self):
        if self.script.station != "commit one":
            return
        match self.script.how:
            case "raise":
                raise ZeroDivisionError
            case "exit":
                raise SystemExit(1)
            case "cancel":
                raise asyncio.CancelledError
            case "drain":
                self.conf.begin_drain()
            case "leave":
                self.script.reached.set()

    def ask(self, station):
        """The change that is to get stuck at a station."""
        if station in ("stage", "write"):
            return self.conf.patch({"database": {"pool_size": 20}})
        self.source.values = {"database": {"pool_size": 20}}
        if self.script.how == "refuse":
            self.source.values |= WRONG.get(station, {})
            if station == "guard":
                self.source.values = {}
        return self.conf.reload()

    def left_as_it_was(self, before):
        conf = self.conf
        return conf.snapshot is before and conf.snapshot[self.two] == 10 == conf.current.database.pool_size

    @property
    def files(self):
        return sorted(entry.name for entry in self.overlay.parent.iterdir())


WRONG = {"validate": {"limit": "many"}, "defer": {"workers": 1, "limit": 1}}

RELOAD = ["read", "guard", "validate", "defer", "prepare one", "open two", "prepare three"]
PATCH = ["read", "stage", "guard", "validate", "defer", "prepare one", "open two", "prepare three", "write"]
UNDO = {
    "open two": ["rollback one"],
    "prepare three": ["close 20", "rollback one"],
    "write": ["rollback three", "close 20", "rollback one"],
}
APPLIED = ["swap", "commit one", "commit three", "told", "close 10"]

LOOP = ("read", "prepare one", "open two", "prepare three")
PURE = ("guard", "validate", "defer")
THREAD = (*PURE, "stage", "write")
ROUGHLY = {**dict.fromkeys(PURE, "validate"), "stage": "read", "write": "prepare"}
STAGES = {"prepare one": "prepare", "open two": "prepare", "prepare three": "prepare", "stage": "prepare"}

FAILURES = [
    *((station, how) for station in (*LOOP, *THREAD) for how in ("refuse", "raise")),
    *((station, "hang") for station in LOOP if station != "read"),  # how long a source may take is its own business
    *((station, "time out by itself") for station in LOOP),
]


def up_to(station):
    whole = PATCH if station in ("stage", "write") else RELOAD
    return [*whole[: whole.index(station) + 1], *UNDO.get(station, [])]


@pytest.fixture
async def stage(tmp_path, monkeypatch):
    return Stage(tmp_path, monkeypatch)


async def settled():
    """Let everything happen that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_success(stage):
    async with stage.conf.running(signals=()):
        stage.events.clear()
        assert (await stage.ask("read")).outcome == "applied"
        await settled()
        assert stage.events == [*RELOAD, *APPLIED]
        assert stage.conf.snapshot[stage.two] == 20
    assert stage.events[-2:] == ["swap", "close 20"], "without resources, and then they close"


async def test_success_of_a_patch(stage):
    async with stage.conf.running(signals=()):
        stage.events.clear()
        assert (await stage.ask("write")).outcome == "applied"
        await settled()
        assert stage.events == [*PATCH, *APPLIED]
        assert stage.files == ["overlay.toml"]


@pytest.mark.parametrize("station", ["read", "write"])
async def test_a_dry_run_undoes_everything(stage, station):
    async with stage.conf.running(signals=()):
        before = stage.conf.snapshot
        stage.events.clear()
        if station == "read":
            stage.source.values = {"database": {"pool_size": 20}}
            report = await stage.conf.reload(dry_run=True)
        else:
            report = await stage.conf.patch({"database": {"pool_size": 20}}, dry_run=True)
        await settled()
        assert report.outcome == "applied"
        steps = RELOAD if station == "read" else PATCH[:-1]
        assert stage.events == [*steps, *UNDO["write"]]
        assert stage.left_as_it_was(before)
        assert stage.files == []


@pytest.mark.parametrize(("station", "how"), FAILURES)
async def test_I3_a_failure_at_any_station_undoes_what_was_done_and_nothing_else(stage, station, how):
    async with stage.conf.running(signals=()):
        before = stage.conf.snapshot
        stage.script.arm(station, how)
        report = await stage.ask(station)
        await settled()
        assert stage.events == up_to(station)
        assert report.outcome == "rejected"
        assert report.stage == ("prepare" if station == "write" and how == "refuse" else _stage(station, how))
        assert stage.left_as_it_was(before)
        assert stage.files == []
        stage.script.arm(None, None)
        assert (await stage.ask(station)).outcome == "applied"
        await settled()
        assert stage.events == [*(PATCH if station in ("stage", "write") else RELOAD), *APPLIED]
    assert stage.events.count("close 20") == 1


def _stage(station, how):
    """Where the report says that it was rejected. What is no refusal there is unforeseen, and only roughly placed."""
    foreseen = how == "refuse" or station in LOOP
    return STAGES.get(station, station) if foreseen else ROUGHLY[station]


@pytest.mark.parametrize("stop", ["drain", "leave"])
@pytest.mark.parametrize("station", [*LOOP, *(station for station in THREAD if station != "write")])
async def test_I3_stopping_at_any_station_undoes_what_was_done(stage, station, stop):
    before, outcome = await stopped_at(stage, station, stop)
    assert type(outcome) is (Draining if stop == "drain" else NotRunning)
    assert stage.events == [*up_to(station), "swap", "close 10"], "the last two are the engine's end"
    assert stage.conf.current is before.settings
    assert stage.files == []


@pytest.mark.parametrize("stop", ["drain", "leave"])
async def test_I3_what_is_being_written_when_the_engine_stops_is_applied(stage, stop):
    """A rename cannot be taken back, and what is on disk must be what is running."""
    _, outcome = await stopped_at(stage, "write", stop)
    assert outcome.outcome == "applied"
    assert stage.events == [*PATCH, *APPLIED[:4], "close 10", "swap", "close 20"]
    assert stage.conf.current.database.pool_size == 20
    assert stage.files == ["overlay.toml"]


async def test_I3_what_could_not_be_written_when_the_engine_stops_is_undone(stage):
    before, outcome = await stopped_at(stage, "write", "drain and refuse")
    assert outcome.outcome == "rejected"
    assert stage.events == [*up_to("write"), "swap", "close 10"]
    assert stage.conf.current is before.settings
    assert stage.files == []


async def stopped_at(stage, station, stop):
    """Stop the engine while a reload stands at a station. Return what was running before, and the waiter's outcome."""
    running = stage.conf.running(signals=())
    await running.__aenter__()
    before = stage.conf.snapshot
    stage.script.arm(station, stop)
    waiter = asyncio.create_task(stage.ask(station))
    await stage.script.reached.wait()
    if stop != "leave":
        stage.conf.begin_drain()
    leaving = asyncio.create_task(running.__aexit__(None, None, None))
    await settled()
    stage.script.released.set()
    async with asyncio.timeout(10):
        await leaving
    return before, (await asyncio.gather(waiter, return_exceptions=True))[0]


@pytest.mark.parametrize("how", ["raise", "exit", "cancel"])
async def test_I3_a_commit_that_fails_stops_nothing_and_is_told(stage, how):
    async with stage.conf.running(signals=()):
        stage.script.arm("commit one", how)
        report = await stage.ask("commit one")
        await settled()
        assert stage.events == [*RELOAD, *APPLIED]
        assert report.outcome == "applied"
        [error] = report.commit_errors
        assert error.startswith("commit of Stage._register.<locals>.one raised ")
        assert stage.conf.status.degraded == (error,)
        stage.script.arm(None, None)
        stage.source.values = {"database": {"pool_size": 30}}
        assert (await stage.conf.reload()).outcome == "applied"
        assert stage.conf.status.degraded == ()


async def test_I3_a_drain_that_begins_in_a_commit_comes_too_late(stage):
    async with stage.conf.running(signals=()):
        stage.script.arm("commit one", "drain")
        assert (await stage.ask("commit one")).outcome == "applied"
        await settled()
        assert stage.events == [*RELOAD, *APPLIED]
        with pytest.raises(Draining):
            await stage.conf.reload()


STARTING = ["read", "validate", "prepare one", "open two", "prepare three"]


@pytest.mark.parametrize(("station", "how"), [entry for entry in FAILURES if entry[0] in LOOP])
async def test_I3_a_start_that_fails_leaves_nothing_behind(stage, station, how):
    stage.script.arm(station, how)
    with pytest.raises(ConfigError):
        async with stage.conf.running(signals=()):
            pass
    undo = {"prepare three": ["close 10", "rollback one"]}.get(station, UNDO.get(station, []))
    assert stage.events == [*STARTING[: STARTING.index(station) + 1], *undo]
    assert not stage.conf.loaded
    stage.script.arm(None, None)
    async with stage.conf.running(signals=()):
        assert stage.events == [*STARTING, "swap", "commit one", "commit three"]


@pytest.mark.parametrize("station", LOOP)
async def test_I3_a_start_that_is_cancelled_leaves_nothing_behind(stage, station):
    stage.script.arm(station, "hang")
    stage.conf._reloader._prepare_timeout = None
    running = stage.conf.running(signals=())
    start = asyncio.create_task(running.__aenter__())
    await stage.script.reached.wait()
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    undo = {"prepare three": ["close 10", "rollback one"]}.get(station, UNDO.get(station, []))
    assert stage.events == [*STARTING[: STARTING.index(station) + 1], *undo]
    assert not stage.conf.loaded
