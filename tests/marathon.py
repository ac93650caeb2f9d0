"""One process that reloads, overrides, leases, forks and patches in random order, and checks what always holds.

`python -m tests.marathon SEED STEPS` ends with 0, or with a traceback that names the seed and the step. A small model
says what is in force. Checked at every step: I1 to I6, I8 to I12 and I32; I7 with every SIGHUP and at the end.
"""

import asyncio
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
import warnings
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import SecretStr

from hotconf import HotConf, Options, Refuse, RestartRequired, Section, Settings
from hotconf.errors import ConfigError, Draining, NothingToConfirm, Unconfirmed

SECRET = "s3cret-of-the-marathon"
UNLUCKY = 13
PATIENCE = 30


class Database(Section):
    pool_size: int = 1
    password: SecretStr = SecretStr("none")


class App(Settings):
    model_config = {"env_prefix": "MARATHON_"}

    message: str = "hello"
    port: int = 8080
    database: Database = Database()
    workers: Annotated[int, RestartRequired()] = 2


DEFAULTS: dict[str, Any] = {"message": "hello", "port": 8080, "size": 1, "workers": 2}


def values_of(settings):
    found = {"message": settings.message, "port": settings.port, "workers": settings.workers}
    return {**found, "size": settings.database.pool_size}


def by_path(values):
    """The same values as sources and patches have them."""
    plain = {name: value for name, value in values.items() if name != "size"}
    return {**plain, "database": {"pool_size": values["size"]}} if "size" in values else plain


class Pool:
    """What is built from the settings: opened once and closed once."""

    def __init__(self, size):
        self.size, self.closed, self.pid = size, 0, os.getpid()


@dataclass
class Vote:
    """What one prepare returned, and what became of it."""

    ends: list[str] = field(default_factory=list)

    def commit(self):
        self.ends.append("commit")

    def rollback(self):
        self.ends.append("rollback")


class Log(logging.Handler):
    """Everything that is logged, since the last look."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(f"{record.getMessage()} {getattr(record, 'hotconf', '')} {record.exc_info or ''}")

    def taken(self):
        lines, self.lines = self.lines, []
        return "\n".join(lines)


class Observer:
    def __init__(self):
        self.reports = []

    def reload_began(self, triggers):
        pass

    def reload_ended(self, report):
        self.reports.append(report)


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.0005)


class Marathon:
    def __init__(self, seed, folder):
        self.random = random.Random(seed)
        self.file, self.overlay_file = folder / "app.toml", folder / "overlay.toml"
        self.pools, self.votes, self.heard, self.leases = [], [], [], []
        self.preparing, self.entered = 0, {}
        self.log, self.observer = Log(), Observer()
        logging.getLogger("hotconf").addHandler(self.log)
        logging.getLogger("hotconf").setLevel(logging.DEBUG)
        logging.getLogger("hotconf").propagate = False
        # The model: what the sources hold, what is laid over them, what is in force and what that was built from.
        self.said, self.is_broken = {"size": 1}, False
        self.overlay, self.unconfirmed, self.overrides = {}, None, []
        self.running, self.basis, self.generation = dict(DEFAULTS), {}, 1
        self.write_file()
        options = Options(watch=False, overlay=self.overlay_file, retire_after=None, history=4, lease_warning=None)
        self.conf = HotConf(App, files=[self.file], options=options)
        self.register()
        self.conf.observe(self.observer)
        self.conf.start()
        self.basis = self.sources()
        self.before = self.conf.snapshot

    def register(self):
        @self.conf.prepare
        async def vote(change):
            assert self.preparing == 0, "I4: one reload at a time"
            self.preparing += 1
            await asyncio.sleep(0)
            self.preparing -= 1
            if change.new.message == "refused" and (change.old is None or change.old.message != "refused"):
                raise Refuse("not that")
            self.votes.append(Vote())
            return self.votes[-1]

        @self.conf.resource("database")
        @asynccontextmanager
        async def pool(candidate):
            if candidate.settings.database.pool_size == UNLUCKY:
                raise ValueError(f"bad luck with {candidate.settings.database.password.get_secret_value()}")
            made = Pool(candidate.settings.database.pool_size)
            self.pools.append(made)
            yield made
            made.closed += 1

        self.pool = pool
        self.conf.on_change(self.heard.append)

    # The model

    def sources(self):
        return {**self.said, **self.overlay, **(self.unconfirmed or {})}

    def wanted(self, basis):
        layers = {name: value for layer in (basis, *self.overrides) for name, value in layer.items()}
        return {**DEFAULTS, **layers, "workers": self.running["workers"]}

    def verdict(self, basis, running=None):
        """What a reload that builds from these values has to end with."""
        wanted, running = self.wanted(basis), running or self.running
        changed = {name for name, value in wanted.items() if value != running[name]}
        refused = "message" in changed and wanted["message"] == "refused"
        unlucky = "size" in changed and wanted["size"] == UNLUCKY
        return "rejected" if refused or unlucky else "applied" if changed else "unchanged"

    def expect(self, report, outcome, basis):
        """Check a report against the model, and let the model follow."""
        assert report.outcome == outcome, f"{report} instead of {outcome}"
        after = self.conf.snapshot
        if outcome == "applied":
            self.generation += 1
            self.running = self.wanted(basis)
            old, new = self.before.settings, after.settings
            ends_override = report.triggers == ("override",)  # whose end brings back the objects of before
            if not ends_override and not any(path.startswith("database") for path in report.changed):
                assert new.database is old.database, "I12: an unchanged part is the same object"
        if outcome != "rejected":
            self.basis = basis
        else:
            assert after is self.before, "I1: what was running stays in force"
        if outcome == "unchanged":
            assert after.settings is self.before.settings, "I6: equal values make no generation"
        self.before = after

    # The steps

    def write_file(self):
        values = by_path({**self.said, "size": self.said.get("size", 1)})
        lines = [f"{name} = {value!r}" for name, value in values.items() if name != "database"]
        section = f"[database]\npool_size = {values['database']['pool_size']}\npassword = '{SECRET}'"
        self.replace("\n".join([*lines, section]) + "\n")

    def replace(self, text):
        staged = self.file.with_suffix(".new")
        staged.write_text(text)
        staged.replace(self.file)

    def edit(self):
        choose = self.random.choice
        self.said = {"size": choose([1, 2, 3, UNLUCKY])}
        for name, values in {"message": ["one", "two", "refused"], "port": [1, 2], "workers": [2, 4]}.items():
            if self.random.random() < 0.5:
                self.said[name] = choose(values)
        self.write_file()
        self.is_broken = self.random.random() < 0.15
        if self.is_broken:
            breaks = [lambda: self.replace(f"password = {SECRET}"), lambda: self.replace(""), self.file.unlink]
            choose([*breaks, lambda: self.replace(f"workers = '{SECRET}'\n[database]\npool_size = 1")])()
        self.reload()

    def reload(self):
        triggers = [f"trigger {number}" for number in range(self.random.randrange(4))]
        reports = len(self.conf.reports), len(self.observer.reports)
        votes = len(self.votes)
        for trigger in triggers:
            self.conf.request_reload(trigger)
        hangup = self.random.random() < 0.05
        if hangup:
            os.kill(os.getpid(), signal.SIGHUP)
        report = self.conf.reload_blocking(PATIENCE)
        if hangup:  # I7: it reloads, and never ends the process
            until(lambda: any("SIGHUP" in one.triggers for one in self.observer.reports[reports[1] :]))
        new = self.observer.reports[reports[1] :]
        assert all(any(one is kept for kept in self.conf.reports) for one in new), "I9: the same report everywhere"
        answered = [trigger for one in new for trigger in one.triggers if trigger in (*triggers, "call")]
        assert sorted(answered) == sorted([*triggers, "call"]), "I9: each trigger is answered by one report"
        assert len(new) <= len(triggers) + 1 + hangup, "I4: triggers that wait cause one reload"
        first = report if report.outcome != "unchanged" else new[0]  # the others of a burst repeat it
        outcome = "rejected" if self.is_broken else self.verdict(self.sources())
        self.expect(first, outcome, self.sources())
        if outcome == "unchanged":
            assert len(self.votes) == votes, "I6: equal values call no subscriber"
        asked = self.said.get("workers", 2)
        if outcome != "rejected":
            waits = {entry.path: (entry.running, entry.wanted) for entry in self.conf.status.pending_restart}
            kept = self.running["workers"]
            assert waits == ({} if asked == kept else {"workers": (kept, asked)}), "I8"

    def dry_run(self):
        votes, opened = len(self.votes), len(self.pools)
        report = asyncio.run(self.conf.reload(dry_run=True))
        outcome = "rejected" if self.is_broken else self.verdict(self.sources())
        assert (report.outcome, self.conf.snapshot is self.before) == (outcome, True)
        assert all(vote.ends == ["rollback"] for vote in self.votes[votes:]), "I3"
        until(lambda: all(pool.closed == 1 for pool in self.pools[opened:]))

    def patch(self):
        values = {self.random.choice(["message", "port"]): None}
        for name in values:
            values[name] = self.random.choice(["three", "refused"] if name == "message" else [3, 4])
        confirm = self.random.choice([None, None, 60.0, 0.01])
        if confirm == 0.01 and self.verdict(self.sources(), self.wanted({**self.sources(), **values})) == "rejected":
            confirm = 60.0  # to take it back would be refused, again and again
        try:
            report = asyncio.run(self.conf.patch(values, confirm=confirm))
        except Unconfirmed:
            assert self.unconfirmed is not None
            return
        assert self.unconfirmed is None
        outcome = "rejected" if self.is_broken else self.verdict({**self.said, **self.overlay, **values})
        basis = {**self.sources(), **values}
        if confirm == 0.01 and outcome != "rejected":
            self.end_of(report, outcome, basis)
            return
        self.expect(report, outcome, basis)
        if outcome == "rejected":
            return
        if confirm is None:
            self.overlay = {**self.overlay, **values}
        else:
            self.unconfirmed = values

    def end_of(self, report, outcome, basis):
        """A patch that nothing confirms is taken back by itself."""
        before = dict(self.sources())
        until(lambda: self.conf.unconfirmed is None)
        assert report.outcome == outcome
        if outcome == "applied":
            self.generation += 1
            self.running = self.wanted(basis)
        if self.verdict(before) == "applied":
            until(lambda: values_of(self.conf.current) != self.running)
            self.generation += 1
            self.running = self.wanted(before)
        self.basis, self.before = before, self.conf.snapshot

    def confirm(self):
        try:
            report = asyncio.run(self.conf.confirm())
        except NothingToConfirm:
            assert self.unconfirmed is None
            return
        self.expect(report, self.verdict(self.basis), self.basis)
        if report.outcome != "rejected":
            self.overlay, self.unconfirmed = {**self.overlay, **(self.unconfirmed or {})}, None

    def begin_override(self):
        if len(self.overrides) >= 3:
            self.end_override()
            return
        values = {"size": self.random.choice([5, 6, UNLUCKY])} if self.random.random() < 0.6 else {"port": 7}
        override = self.conf.override(**by_path(values))
        layer = dict(values)
        self.overrides.append(layer)
        outcome = self.verdict(self.basis)
        try:
            override.__enter__()
        except ConfigError as error:
            self.overrides = [one for one in self.overrides if one is not layer]
            self.expect(error.report, outcome, self.basis)
            return
        self.entered[id(layer)] = override
        self.expect(self.conf.reports[-1], outcome, self.basis)

    def end_override(self):
        if not self.overrides:
            return
        layer = self.overrides.pop(self.random.randrange(len(self.overrides)))  # in any order
        outcome = self.verdict(self.basis)
        with suppress(ConfigError):  # its end is refused: it goes with the next reload
            self.entered.pop(id(layer)).__exit__(None, None, None)
        self.expect(self.conf.reports[-1], outcome, self.basis)

    def rollback(self):
        if self.is_broken or self.unconfirmed is not None or len(self.conf.history) < 2:
            return
        target = self.conf.history[-2]
        report = asyncio.run(self.conf.rollback())
        assert report.note == f"rolled back to generation {target.generation}" or report.outcome == "rejected"
        self.follow(report)
        report = self.conf.reload_blocking(PATIENCE)
        self.follow(report)
        report = self.conf.reload_blocking(PATIENCE, force=True)
        self.expect(report, self.verdict(self.sources()), self.sources())
        if report.outcome == "rejected":  # what was rolled back to stays: let the sources say something else
            self.said, self.overlay = {"size": self.running["size"]}, self.overlay
            self.write_file()
            self.settle()

    def settle(self):
        """Find values that are accepted."""
        for size, message in ((1, "one"), (2, "two")):
            self.said = {"size": size, "message": message}
            self.write_file()
            report = self.conf.reload_blocking(PATIENCE, force=True)
            outcome = self.verdict(self.sources())
            self.expect(report, outcome, self.sources())

    def follow(self, report):
        """Take over what a rollback put into force: the history says what that is."""
        if report.outcome == "applied":
            self.generation += 1
        self.running = values_of(self.conf.current)
        self.before = self.conf.snapshot

    def pin(self):
        lease = self.conf.pin(f"lease {len(self.leases)}")
        elsewhere = self.random.random() < 0.5
        if elsewhere:  # entered in a thread that is gone by the time of a fork
            thread = threading.Thread(target=lease.__enter__)
            thread.start()
            thread.join()
        else:
            lease.__enter__()
        self.leases.append((lease, self.conf.snapshot, self.conf.snapshot[self.pool], elsewhere))
        if len(self.leases) > 5:
            self.release()

    def release(self):
        if self.leases:
            lease, *_ = self.leases.pop(self.random.randrange(len(self.leases)))
            lease.__exit__(None, None, None)

    def fork(self):
        child = os.fork()
        if not child:
            code = 1
            try:
                self.check_child()
                code = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
                sys.stderr.write(self.log.taken())
            finally:
                os._exit(code)
        deadline = time.monotonic() + PATIENCE
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.001)
        if ended == (0, 0):
            os.kill(child, signal.SIGABRT)
            ended = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(ended[1]) == 0, "in a forked child"

    def check_child(self):
        parents = list(self.pools)
        assert values_of(self.conf.current) == self.running
        report = self.conf.reload_blocking(PATIENCE)
        outcome = "rejected" if self.is_broken else self.verdict(self.sources())
        assert report.outcome in (outcome, "unchanged"), report  # its engine begins with a reload of its own
        if outcome == "applied":
            self.running = self.wanted(self.sources())
        assert values_of(self.conf.current) == self.running
        with self.conf.pin() as snapshot:
            pool = snapshot[self.pool]
            assert all(pool is not one for one in parents), "I32: a resource of its own"
            assert (pool.pid, pool.size, pool.closed) == (os.getpid(), snapshot.settings.database.pool_size, 0)
        own = sum(not elsewhere for *_, elsewhere in self.leases)
        assert sum(self.conf.leased.values()) == own, "leases of other threads do not count"
        assert all(pool.closed == 0 for pool in parents if pool.closed == 0)

    def restart(self):
        if self.is_broken or self.unconfirmed is not None:
            return
        starts = self.wanted(self.sources())
        if starts["size"] == UNLUCKY or (starts["message"] == "refused" and self.running["message"] != "refused"):
            return
        for lease, *_ in self.leases:
            lease.__exit__(None, None, None)
        self.leases = []
        self.conf.stop()
        assert all(pool.closed == 1 for pool in self.pools), "I10: the end of the engine closes every resource"
        self.pools.clear()
        self.conf.start()
        self.expect(self.conf.reports[-1], self.verdict(self.sources()), self.sources())

    # What always holds

    def check(self):
        conf = self.conf
        with conf.pin() as snapshot:
            assert snapshot.settings is conf.current
            assert values_of(snapshot.settings) == self.running, f"I1: {self.running} is in force"
            assert snapshot.generation == self.generation, "one generation for each change"
            pool = snapshot[self.pool]
            assert (pool.size, pool.closed) == (self.running["size"], 0), "I2, I32: they belong together"
        assert all(len(vote.ends) == 1 for vote in self.votes), "I3: one of commit and rollback"
        self.votes.clear()
        for _, leased, of_lease, _ in self.leases:
            assert (leased[self.pool], of_lease.closed) == (of_lease, 0), "I10: a lease holds what it got"
            assert of_lease.size == leased.settings.database.pool_size, "I32"
        needed = {id(pool), *(id(of_lease) for _, _, of_lease, _ in self.leases)}
        if not self.leases:
            until(lambda: all(one.closed == 1 for one in self.pools if id(one) not in needed))
            self.pools = [one for one in self.pools if id(one) in needed]
        assert all(one.closed <= 1 for one in self.pools), "I10: closed once"
        generations = [change.generation for change in self.heard]
        assert generations == sorted(set(generations)), "each change is told once, in order"
        assert all(a.new is b.old for a, b in zip(self.heard, self.heard[1:], strict=False))
        self.heard = self.heard[-1:]
        shown = f"{self.log.taken()} {conf.reports[-1]!r} {conf.status} {conf.history!r} {conf.explain('database')}"
        assert SECRET not in shown, "I11"
        assert SECRET not in (self.overlay_file.read_text() if self.overlay_file.exists() else "")

    def run(self, steps):
        weights = {
            self.edit: 22, self.reload: 14, self.dry_run: 6, self.patch: 10, self.confirm: 6, self.begin_override: 10,
            self.end_override: 10, self.rollback: 4, self.pin: 8, self.release: 8, self.fork: 1, self.restart: 1,
        }  # fmt: skip
        for number in range(steps):
            [step] = self.random.choices([*weights], [*weights.values()])
            try:
                step()
                self.check()
            except BaseException as error:
                error.add_note(f"step {number}: {step.__name__}")
                raise
        self.conf.begin_drain()
        try:
            self.conf.request_reload()
        except Draining:
            os.kill(os.getpid(), signal.SIGHUP)  # I7: ignored from now on, and deadly never
        else:
            raise AssertionError("I7: a drain refuses every trigger")


def main(seed, steps):
    warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
    with tempfile.TemporaryDirectory() as folder:
        marathon = Marathon(int(seed), Path(folder))
        try:
            marathon.run(int(steps))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        for lease, *_ in marathon.leases:
            lease.__exit__(None, None, None)
        marathon.conf.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
