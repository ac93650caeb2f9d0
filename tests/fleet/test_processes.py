"""A fleet of real processes on real engines: bad releases stop, good ones arrive, and parts die meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import sys
import threading

import pytest

from hotconf.fleet.cohort import bucket
from hotconf.fleet.control import Control
from hotconf.fleet.plan import Plan, Stage
from hotconf.fleet.stores import open_store
from tests.fleet.engines import SERVERS, url_of
from tests.sources.remote.servers import serving
from tests.support import HOTCONF, ROOT, Process, wait_until

STAGES = tuple(Stage(percent=share, bake=0.3) for share in (10, 25, 50, 100))
FOUR = "10%:0.3s,25%:0.3s,50%:0.3s,100%:0.3s"
ENDED = ("done", "reverted", "aborted", "paused")
PATIENCE = 90.0


class Herd:
    """Processes of instances and judges, and what the plan was meanwhile."""

    def __init__(self, url, folder, count, bad):
        self.url, self.folder, self.count = url, folder, count
        self.fleet = f"shop-{secrets.token_hex(4)}"
        self.ran = folder / "ran"
        self.ran.mkdir()
        self.bad = [f"web-{number:02}" for number in bad]
        self.plans = []
        self.options = {"store": url, "fleet": self.fleet, "count": count, "bad": bad, "folder": str(self.ran)}
        self.judges, self.errors = [], []

    def run(self, work):
        """Run a coroutine function with the control of the fleet."""

        async def connected():
            async with open_store(self.url).connect(self.fleet) as session:
                return await work(Control(session, "ann"))

        return asyncio.run(connected())

    def propose(self, text, **options):
        options.setdefault("stages", STAGES)
        return self.run(lambda control: control.propose(text.encode(), "toml", **options))

    def judge(self):
        words = ("fleet", "judge", "--store", self.url, "--fleet", self.fleet, "--lease", "2", "--silent-after", "8")
        self.judges.append(Process([*HOTCONF, *words]))
        return self.judges[-1]

    def watch(self):
        """Note every plan in a thread, whatever becomes of the engine."""
        ended = threading.Event()

        async def follow():
            while not ended.is_set():
                with contextlib.suppress(Exception):
                    async with open_store(self.url).connect(self.fleet) as session, asyncio.timeout(1.0):
                        async for entry in session.follow("plan"):
                            if entry is not None:
                                self.plans.append(Plan.decode(entry.value))
                            if ended.is_set():
                                return

        thread = threading.Thread(target=asyncio.run, args=(follow(),))
        thread.start()
        return lambda: (ended.set(), thread.join(PATIENCE))

    def ended(self, release):
        """Wait for the end of a rollout, and return its plan."""

        def has_ended():
            plan = self.plans[-1] if self.plans else None
            is_it = plan is not None and plan.rollout is not None and plan.rollout.release == release
            return plan if is_it and plan.state in ENDED else None

        return wait_until(has_ended, PATIENCE, f"the end of release {release}")

    def runs(self):
        return {path.name: path.read_text().splitlines() for path in self.ran.iterdir()}

    def all_run(self, line):
        wait_until(lambda: all(lines[-1] == line for lines in self.runs().values()), PATIENCE, f"{line} everywhere")

    def check_share(self, release, line):
        """I25: only instances below the highest threshold that the plan ever had ran the release."""
        plans = [plan for plan in self.plans if plan.rollout is not None and plan.rollout.release == release]
        most = max(plan.rollout.threshold for plan in plans)
        ran = [name for name, lines in self.runs().items() if line in lines]
        assert all(bucket(plans[0].rollout.salt, name) < most for name in ran)
        return ran


@contextlib.contextmanager
def herd(url, folder, count, bad):
    """Start instances and a judge, with a first release."""
    found = Herd(url, folder, count, bad)
    found.propose('message = "one"\n')
    instances = Process([sys.executable, ROOT / "tests" / "fleet" / "herd.py", json.dumps(found.options)], cwd=ROOT)
    stop = found.watch()
    try:
        found.judge()

        async def present(control):
            return len(await control.reports())

        wait_until(lambda: found.run(present) == count, PATIENCE, f"{count} instances")
        yield found
    finally:
        stop()
        for judge in found.judges:
            judge.kill()
        instances.send(15)
        with contextlib.suppress(Exception):
            instances.end()
        instances.kill()


@pytest.fixture(params=["sqlite", "etcd", "nats"])
def engine(request, tmp_path, tmp_path_factory):
    """The URL of an engine, its server, and how many instances it serves."""
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path}/fleet.db", None, 20
        return
    with serving(SERVERS[request.param], tmp_path_factory) as server:
        yield url_of(server), server, 50


@pytest.mark.soak
def test_I25_bad_releases_stop_and_good_ones_arrive_whatever_dies(engine, tmp_path):
    url, server, count = engine
    bad = list(range(0, count, 10))
    with herd(url, tmp_path, count, bad) as fleet:
        fleet.all_run("one 1")
        fleet.propose('message = "two"\npool = 9\n')
        plan = fleet.ended(2)
        assert plan.state == "reverted"
        assert plan.rollout.reason.startswith("refused by web-")
        assert "env HERD_LIMIT: limit: " in plan.rollout.reason
        assert fleet.check_share(2, "two 9") == [], "the rehearsal has stopped it: it ran nowhere"

        # Without a rehearsal it stops at the first stage that has one of them.
        fleet.propose('message = "two"\npool = 9\n', rehearse=False)
        plan = fleet.ended(3)
        assert plan.state == "reverted"
        assert "env HERD_LIMIT: limit: " in plan.rollout.reason
        ran = fleet.check_share(3, "two 9")
        assert not set(ran) & set(fleet.bad), "I23: it ran where it was refused"
        fleet.all_run("one 1")

        fleet.propose('message = "good"\n')
        plan = fleet.ended(4)
        assert (plan.state, plan.rollout.reason) == ("done", "")
        stages = {plan.rollout.stage for plan in fleet.plans if plan.rollout is not None and plan.rollout.release == 4}
        assert stages == {0, 1, 2, 3}
        fleet.all_run("good 1")

        # Judges die at random, the engine once: the rollout ends, and never at a larger share than the plan says.
        fleet.judge()
        fleet.propose(
            'message = "last"\n', rehearse=False, stages=tuple(Stage(percent=s, bake=2) for s in (10, 50, 100))
        )
        dice = random.Random(1)
        for number in range(KILLS):
            threading.Event().wait(dice.uniform(0.2, 1.5))
            victim = fleet.judges[-1 - number % 2]
            victim.kill()
            fleet.judge()
            if server is not None and number == 0:
                server.kill()
                threading.Event().wait(1.0)
                server.start()
        plan = fleet.ended(5)
        assert plan.state in ("done", "reverted", "paused"), plan.rollout.reason
        fleet.check_share(5, "last 1")
        if plan.state == "done":
            fleet.all_run("last 1")
        sys.stdout.write(f"{count} processes, {KILLS} judges killed: {plan.state} {plan.rollout.reason}\n")


KILLS = 4
