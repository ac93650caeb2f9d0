"""Random operations in random order: a small model says what is in force, which pools may be open, and what is kept.

Hypothesis chooses the operations. Every rule runs the loop until it is idle, so the same choices give the same run.

Checked here together: I2, I8, I10 and the order of generations.
"""

import asyncio
import shutil
import tempfile
import tomllib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from hotconf import HotConf, Options, Refuse, RestartRequired, Section, Settings
from hotconf.errors import ConfigError, NotBuilt, NothingToConfirm, RollbackHeld, Unconfirmed, UnknownGeneration
from hotconf.sources import Memory

HISTORY = 4
UNLUCKY = 13


class Database(Section):
    pool_size: int = 1


class App(Settings):
    model_config = {"env_prefix": "STATEFUL_"}

    message: str = "hello"
    database: Database = Database()
    workers: Annotated[int, RestartRequired()] = 2


# What the sources say


@dataclass(frozen=True)
class Said:
    """What the sources said at one time: the program's values with their revision, and the overlay's content.

    The overlay is a message of its own, None where the file has none; `file` is the text below what is not confirmed.
    """

    values: tuple[tuple[str, Any], ...]
    revision: int
    file: str | None = None
    laid: tuple[str | None] | None = None  # what a patch that is not confirmed makes of it

    @property
    def overlay(self):
        return self.laid[0] if self.laid is not None else message_in(self.file)

    @property
    def content(self):
        return (self.revision, self.file, self.laid)

    def settings(self):
        found = {"message": "hello", "size": 1, "workers": 2, **dict(self.values)}
        return {**found, "message": self.overlay} if self.overlay is not None else found


def message_in(text):
    return tomllib.loads(text).get("message") if text is not None else None


def text_of(message):
    return "" if message is None else f'message = "{message}"\n'


# The model


@dataclass
class Model:
    """What must be, by the rules that are promised and nothing else."""

    said: Said
    file: str | None = None
    unconfirmed: tuple[str | None] | None = None
    running: dict[str, Any] = field(default_factory=dict)
    basis: Said | None = None
    generation: int = 0
    pending: dict[str, Any] = field(default_factory=dict)
    held: Said | None = None
    past: list = field(default_factory=list)

    def fresh(self):
        return replace(self.said, file=self.file, laid=self.unconfirmed)

    def read(self, *, force=False):
        """What a plain reload builds from, and whether that is held back."""
        now = self.fresh()
        if self.held is not None and not force and self.held.content == now.content:
            return self.basis, True
        return now, False

    def judge(self, basis):
        """The settings that would be in force, what would wait, and whether it would be refused, and by what."""
        wanted = basis.settings()
        if wanted["message"] == "broken":
            return None, None, "validate"
        workers = self.running.get("workers", wanted["workers"])
        pending = {} if workers == wanted["workers"] else {"workers": wanted["workers"]}
        return {**wanted, "workers": workers}, pending, self.refused(wanted)

    def refused(self, wanted):
        changed = {name for name, value in wanted.items() if self.running.get(name) != value}
        bad = "message" in changed and wanted["message"] == "refused"
        unlucky = "size" in changed and wanted["size"] == UNLUCKY
        return "prepare" if bad or unlucky else None

    def outcome(self, basis):
        result, _, refused = self.judge(basis)
        return "rejected" if refused else "unchanged" if result == self.running else "applied"

    def go(self, basis):
        """Put it into force, unless it is refused."""
        result, pending, refused = self.judge(basis)
        if refused:
            return "rejected"
        outcome = "unchanged" if result == self.running else "applied"
        self.pending, self.basis = pending, basis
        if outcome == "applied":
            self.generation += 1
            self.running = result
            self.past = [*self.past, (self.generation, result, basis)][-HISTORY:]
        return outcome

    def override(self, size):
        """Put another size into force and take it back: two generations, built from the same sources."""
        for values in ({**self.running, "size": size}, self.running):
            self.generation += 1
            self.past = [*self.past, (self.generation, values, self.basis)][-HISTORY:]


class Pool:
    """What is built from the settings: opened once and closed once."""

    def __init__(self, size):
        self.size = size
        self.closed = 0


MESSAGES = st.sampled_from(["hello", "one", "two", "refused"])
SIZES = st.sampled_from([1, 2, 3, UNLUCKY])


class Machine(RuleBasedStateMachine):
    leases = Bundle("leases")

    # The stage

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="hotconf-stateful-"))
        self.loop = asyncio.new_event_loop()
        self.pools = []
        self.heard = []
        self.listener = None
        self.revision = 1
        self.alive = None
        self.held_leases = {}
        self.last_seen = 0

    @initialize(size=st.sampled_from([1, 2]))
    def begin(self, size):
        self.memory = Memory({"database": {"pool_size": size}})
        self.overlay = self.folder / "overlay.toml"
        options = Options(watch=False, retire_after=None, history=HISTORY, overlay=self.overlay, lease_warning=None)
        self.conf = HotConf(App, sources=[self.memory], options=options)
        self.register()
        self.model = Model(Said((("size", size),), self.revision))
        self.start()

    def register(self):
        @self.conf.prepare("message")
        def picky(change):
            if change.new.message == "refused" and (change.old is None or change.old.message != "refused"):
                raise Refuse("not that")

        @self.conf.resource("database")
        @asynccontextmanager
        async def pool(candidate):
            if candidate.settings.database.pool_size == UNLUCKY:
                raise ValueError("bad luck")
            made = Pool(candidate.settings.database.pool_size)
            self.pools.append(made)
            await asyncio.sleep(0)
            yield made
            made.closed += 1

        @self.conf.resource("message")
        @asynccontextmanager
        async def greeting(candidate):
            below = candidate[pool]
            made = Pool((candidate.settings.message, below.size))
            self.pools.append(made)
            yield made
            assert below.closed == 0, "what it was built from closes after it"
            made.closed += 1

        @self.conf.on_change
        async def slow(change):
            self.listener = asyncio.get_running_loop().create_future()
            self.heard.append((change.generation, change.old, change.new))
            await self.listener

        self.pool, self.greeting = pool, greeting

    def run(self, awaitable):
        async def finish():
            result = await asyncio.wait_for(awaitable, 20)
            for _ in range(10):
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(finish())

    async def reported(self, awaitable):
        try:
            return await awaitable
        except (UnknownGeneration, NothingToConfirm, RollbackHeld, Unconfirmed) as error:
            return error

    # The sources

    @rule(
        message=st.none() | MESSAGES,
        size=st.none() | SIZES,
        workers=st.none() | st.sampled_from([2, 4]),
        broken=st.sampled_from([False, False, False, True]),
    )
    def edit(self, message, size, workers, broken):
        wanted = {"message": 7 if broken else message, "size": size, "workers": workers}
        said = {name: value for name, value in wanted.items() if value is not None}
        said = said or {"size": 1}  # a source that falls silent is the guard's
        values = {name: value for name, value in said.items() if name != "size"}
        self.memory.set({**values, "database": {"pool_size": said["size"]}} if "size" in said else values)
        self.revision += 1
        if broken:
            said["message"] = "broken"
        self.model.said = Said(tuple(said.items()), self.revision)

    # Triggers

    @precondition(lambda self: self.alive)
    @rule(force=st.booleans(), triggers=st.integers(0, 5))
    def reload(self, force, triggers):
        names = [f"trigger {number}" for number in range(triggers)]
        report = self.run(self.reload_with(names, force))
        assert (report.triggers, report is self.conf.reports[-1]) == ((*names, "call"), True)
        basis, held = self.model.read(force=force)
        assert report.outcome == self.model.go(basis)
        assert ("is held" in report.note) == held
        if report.outcome != "rejected" and not held:
            self.model.held = None

    async def reload_with(self, names, force):
        for name in names:
            self.conf.request_reload(name)
        return await self.conf.reload(force=force)

    @precondition(lambda self: self.alive)
    @rule()
    def dry_run(self):
        opened = len(self.pools)
        report = self.run(self.conf.reload(dry_run=True))
        basis, _ = self.model.read()
        assert report.outcome == self.model.outcome(basis)
        assert all(pool.closed == 1 for pool in self.pools[opened:])

    @precondition(lambda self: self.alive)
    @rule(back=st.integers(0, HISTORY + 1))
    def rollback(self, back):
        model = self.model
        number = None if back == 0 else model.generation - back
        report = self.run(self.reported(self.conf.rollback(number)))
        known = [entry for entry in model.past if entry[0] == number] if number is not None else model.past[-2:-1]
        if not known or (number is None and len(model.past) < 2):
            assert isinstance(report, UnknownGeneration)
            return
        [(target, _, basis)] = known
        away = model.held or model.basis
        if model.unconfirmed is not None:
            away = replace(away, file=model.file, laid=None)
        assert report.outcome == model.go(basis)
        if report.outcome != "rejected":
            assert report.note == f"rolled back to generation {target}"
            model.held = None if away.content == basis.content else away
            model.unconfirmed = None

    # The overlay

    @precondition(lambda self: self.alive)
    @rule(message=st.none() | MESSAGES, confirm=st.booleans(), dry_run=st.booleans())
    def patch(self, message, confirm, dry_run):
        model = self.model
        patch = self.conf.patch({"message": message}, confirm=60 if confirm else None, dry_run=dry_run)
        report = self.run(self.reported(patch))
        if model.unconfirmed is not None:
            assert isinstance(report, Unconfirmed)
            return
        if model.held is not None:
            assert isinstance(report, RollbackHeld)
            return
        below, _ = model.read()
        file = text_of(message)
        basis = replace(below, laid=(message,)) if confirm else replace(below, file=file, laid=None)
        if dry_run:
            assert report.outcome == model.outcome(basis)
            return
        assert report.outcome == model.go(basis)
        if report.outcome == "rejected":
            return
        model.unconfirmed = (message,) if confirm else None
        if not confirm:
            model.file = file

    @precondition(lambda self: self.alive)
    @rule()
    def confirm(self):
        model = self.model
        report = self.run(self.reported(self.conf.confirm()))
        if model.unconfirmed is None:
            assert isinstance(report, NothingToConfirm)
            return
        file = text_of(model.basis.overlay)
        self.edited(report, replace(model.basis, file=file, laid=None))
        if report.outcome != "rejected":
            model.file = file

    @precondition(lambda self: self.alive and self.model.unconfirmed is not None)
    @rule()
    def time_is_over(self):
        model = self.model
        seen = self.conf.reports[-1]
        self.conf._host.engine._revert()
        self.run(self.next_report(seen))
        self.edited(self.conf.reports[-1], replace(model.basis, file=model.file, laid=None))

    def edited(self, report, basis):
        model = self.model
        assert report.outcome == model.go(basis)
        if report.outcome != "rejected":
            model.unconfirmed = None

    async def next_report(self, seen):
        while self.conf.reports[-1] is seen:
            await asyncio.sleep(0.0005)

    # Readers

    @precondition(lambda self: self.alive)
    @rule(target=leases, nested=st.booleans())
    def pin(self, nested):
        lease = self.conf.pin()
        snap = lease.__enter__()
        self.held_leases[lease] = (snap, snap[self.pool], snap[self.greeting], dict(self.model.running))
        if nested:
            with self.conf.pin() as inner:
                assert inner is snap
        return lease

    @rule(lease=consumes(leases))
    def release(self, lease):
        self.held_leases.pop(lease, None)
        self.run(asyncio.to_thread(lease.__exit__, None, None, None))

    @precondition(lambda self: self.listener is not None and not self.listener.done())
    @rule()
    def the_slow_listener_goes_on(self):
        self.listener.set_result(None)
        self.run(asyncio.sleep(0))

    @precondition(lambda self: self.alive)
    @rule(size=st.sampled_from([5, 6]))
    def override(self, size):
        async def overridden():
            async with self.conf.override(database={"pool_size": size}):
                with self.conf.pin() as snap:
                    assert snap.settings.database.pool_size == snap[self.pool].size == size
                    assert snap.settings.workers == self.model.running["workers"]

        before = self.conf.current
        self.run(overridden())
        self.model.override(size)
        assert self.conf.current is before

    # The engine

    @precondition(lambda self: not self.alive)
    @rule()
    def start(self):
        running = self.conf.running(signals=())
        first = not self.model.running
        basis, held = self.model.read()
        outcome = "rejected" if self.refused_at_start(basis) else None
        try:
            self.run(running.__aenter__())
        except ConfigError:
            assert outcome == "rejected"
            assert not first
            return
        assert outcome is None
        self.alive = running
        self.model.go(basis)
        if not held:
            self.model.held = None

    def refused_at_start(self, basis):
        wanted = basis.settings()
        same = self.model.running.get("message") == "refused"
        bad = wanted["message"] == "refused" and not same
        return wanted["message"] == "broken" or bad or wanted["size"] == UNLUCKY

    @precondition(lambda self: self.alive)
    @rule()
    def stop(self):
        if self.listener is not None and not self.listener.done():
            self.listener.set_result(None)
        self.run(self.alive.__aexit__(None, None, None))
        self.alive = None
        assert all(pool.closed == 1 for pool in self.pools)
        self.held_leases = {}  # they last, but the end of the engine waits for none of them

    # What always holds

    @invariant()
    def what_is_in_force_is_what_must_be(self):
        conf, model = self.conf, self.model
        current = conf.current
        assert {
            "message": current.message,
            "size": current.database.pool_size,
            "workers": current.workers,
        } == model.running
        assert conf.snapshot.settings is current
        assert conf.snapshot.generation == model.generation >= self.last_seen
        self.last_seen = model.generation

    @invariant()
    def settings_and_resources_belong_together(self):
        snap = self.conf.snapshot
        if not self.alive:
            with pytest.raises(NotBuilt):
                snap[self.pool]
            return
        size, message = snap.settings.database.pool_size, snap.settings.message
        assert (snap[self.pool].size, snap[self.pool].closed) == (size, 0)
        assert (snap[self.greeting].size, snap[self.greeting].closed) == ((message, size), 0)

    @invariant()
    def leases_hold_what_they_got(self):
        for snap, pool, greeting, values in self.held_leases.values():
            assert (snap[self.pool], snap[self.greeting]) == (pool, greeting)
            assert pool.closed == greeting.closed == 0
            assert pool.size == values["size"] == snap.settings.database.pool_size
            assert greeting.size == (values["message"], values["size"])

    @invariant()
    def everything_else_is_closed_exactly_once(self):
        needed = {id(pool) for _, *pools, _ in self.held_leases.values() for pool in pools}
        needed |= {id(pool) for pool in self.conf.snapshot.resources.values()}
        for pool in self.pools:
            if id(pool) in needed:
                assert pool.closed == 0
            elif not self.conf.leased:
                assert pool.closed == 1
            else:  # it may be retired together with a snapshot that has a lease
                assert pool.closed in (0, 1)

    @invariant()
    def status_and_history_say_so(self):
        conf, model = self.conf, self.model
        assert {entry.path: entry.wanted for entry in conf.status.pending_restart} == model.pending
        assert [(entry.generation, entry.settings.message) for entry in conf.history] == [
            (generation, values["message"]) for generation, values, _ in model.past
        ]
        assert (conf.unconfirmed is not None) == (model.unconfirmed is not None)
        text = self.overlay.read_text() if self.overlay.exists() else None
        assert message_in(text) == message_in(model.file)
        assert sorted(path.name for path in self.folder.iterdir() if "staged" in path.name) == []

    @invariant()
    def the_listener_hears_the_latest_in_order(self):
        generations = [generation for generation, *_ in self.heard]
        assert generations == sorted(set(generations))
        for (_, _, before), (_, old, _) in zip(self.heard, self.heard[1:], strict=False):
            assert before == old, "what it missed is in one step"
        idle = self.listener is None or self.listener.done()
        if idle and self.heard and self.alive:
            assert self.heard[-1][2] == self.conf.current

    def teardown(self):
        try:
            if self.alive:
                self.stop()
        finally:
            tasks = asyncio.all_tasks(self.loop)
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            shutil.rmtree(self.folder)
        assert tasks == set()


Quick = Machine.TestCase
Quick.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@pytest.mark.soak
class TestLong(Machine.TestCase):
    settings = settings(Quick.settings, max_examples=500, stateful_step_count=60, derandomize=False)
