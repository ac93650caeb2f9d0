"""A fleet as a whole: instances, judge and operator, in one process, on memory and SQLite."""

from __future__ import annotations

import asyncio
import itertools
import secrets

import pytest

from hotconf import HotConf, Options
from hotconf.fleet.stores.memory import MemoryStore
from hotconf.fleet.stores.sqlite import SqliteStore
from hotconf.sources import Memory
from tests.fleet.engines import store_of
from tests.fleet.live import BAD, BETTER, GOOD, App, Live


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    return MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "fleet.db")


@pytest.fixture(params=["memory", "sqlite", "etcd", "nats"])
def any_store(request, tmp_path, servers):
    return store_of(request.param, tmp_path, servers)


def fresh():
    """The name of a fleet that no other test has used on the same server."""
    return f"shop-{secrets.token_hex(4)}"


NAMES = [f"web-{n}" for n in range(10)]


async def test_a_fleet_without_a_plan_is_an_empty_layer(store):
    async with Live(store, judge=False) as fleet:
        (conf,) = await fleet.join("web-1")
        assert conf.current.message == "none"


async def test_a_good_release_reaches_the_whole_fleet(any_store):
    async with Live(any_store, name=fresh()) as fleet:
        await fleet.propose(GOOD)
        await fleet.join(*NAMES)
        assert fleet.messages() == {"good"}, "the first release was stable at once"
        await fleet.propose(BETTER)
        plan = await fleet.until("spreading", "baking")
        plan = await fleet.until("done", "reverted", "paused")
        assert (plan.state, plan.rollout.reason) == ("done", "")
        assert fleet.messages() == {"better"}
        assert fleet.confs["web-1"].explain("message").origin.source == f"fleet:{fleet.name}/2"

        async def whole():
            return len(audit := await fleet.control.audit()) == plan.seq and audit

        audit = [line["what"] for line in await fleet.wait(whole)]
        assert audit == ["propose", "propose", "rehearse", "rehearse", "stage", "bake", "stage", "bake", "done"]


async def test_a_release_that_does_not_validate_is_refused_by_the_rehearsal(store):
    async with Live(store) as fleet:
        await fleet.propose(GOOD)
        await fleet.join(*NAMES)
        applied = []
        for conf in fleet.confs.values():
            conf.on_change(applied.append)
        await fleet.propose(BAD)
        plan = await fleet.until("done", "reverted", "paused")
        assert plan.state == "reverted"
        assert "fleet:shop/2:1:1: message: " in plan.rollout.reason
        assert plan.rollout.threshold == 0
        assert applied == []
        assert fleet.messages() == {"good"}


async def test_I23_a_release_that_one_environment_refuses_stops_at_its_first_stage(any_store):
    async with Live(any_store, name=fresh()) as fleet:
        await fleet.propose(b"pool = 1\n")

        def veto(conf, name):
            @conf.prepare("pool")
            def check(change):
                if change.new.pool > 5 and change.old is not None:
                    raise ValueError("no such pool here")

        await fleet.join(*NAMES, prepare=veto)
        await fleet.propose(b"pool = 9\n", rehearse=False)
        plan = await fleet.until("done", "reverted", "paused")
        assert plan.state == "reverted"
        assert "no such pool here" in plan.rollout.reason
        assert {conf.current.pool for conf in fleet.confs.values()} == {1}
        tried = [source.report.failed for source in fleet.sources.values()]
        assert sum(map(bool, tried)) <= 1, "one instance of ten was asked"


async def test_a_resource_that_cannot_be_built_is_found_by_the_rehearsal(store):
    async with Live(store) as fleet:
        await fleet.propose(b"pool = 1\n")
        opened = []

        def with_pool(conf, name):
            import contextlib

            @conf.resource("pool")
            @contextlib.contextmanager
            def pool(candidate):
                if candidate.settings.pool > 5 and name == "web-3":
                    raise ConnectionError("too many connections")
                opened.append(name)
                yield object()

        await fleet.join(*NAMES, prepare=with_pool)
        await fleet.propose(b"pool = 9\n")
        plan = await fleet.until("done", "reverted", "paused")
        assert plan.state == "reverted"
        assert plan.rollout.reason.startswith("refused by web-3: ")
        assert "too many connections" in plan.rollout.reason
        assert {conf.current.pool for conf in fleet.confs.values()} == {1}


async def test_abort_needs_no_judge(store):
    async with Live(store) as fleet:
        await fleet.propose(GOOD)
        await fleet.join(*NAMES)
        await fleet.propose(BETTER)
        await fleet.until("baking")
        await fleet.control.act("abort")
        await fleet.wait(lambda: fleet.messages() == {"good"})
        plan = await fleet.control.act("abort")
        assert plan.state == "aborted"


async def test_rollback_goes_to_the_release_before_at_once(store):
    async with Live(store, judge=False) as fleet:
        await fleet.stable(GOOD, BETTER)
        await fleet.join("web-1", "web-2")
        await fleet.wait(lambda: fleet.messages() == {"better"})
        plan = await fleet.control.roll_back(None)
        assert plan.stable.release == 1
        await fleet.wait(lambda: fleet.messages() == {"good"})
        await fleet.control.roll_back(2)
        await fleet.wait(lambda: fleet.messages() == {"better"})


async def test_an_instance_that_leaves_is_not_silent(store):
    async with Live(store) as fleet:
        await fleet.propose(GOOD)
        await fleet.join(*NAMES[:3])
        await fleet.wait(fleet.control.reports)
        await fleet.leave("web-0")

        async def two():
            return sorted(report.id for report in (await fleet.control.reports()).values()) == ["web-1", "web-2"]

        await fleet.wait(two)
        assert (await fleet.control.status())["silent"] == []


async def test_the_status_says_where_everything_stands(store):
    async with Live(store) as fleet:
        await fleet.propose(GOOD)
        await fleet.join(*NAMES)
        await fleet.propose(BETTER)
        await fleet.until("done")

        async def applied():
            status = await fleet.control.status()
            return status["applied_count"] == 10 and status

        status = await fleet.wait(applied)
        assert status["state"] == "done"
        assert status["stage"] == 1
        assert status["cohort"] == status["instances"] == 10
        assert status["stable"] == status["target"]
        assert status["refused"] == status["drift"] == status["silent"] == []
        assert status["judge"].startswith("judge ")


async def test_an_outage_changes_nothing_and_ends_by_itself():
    store = MemoryStore()
    async with Live(store, judge=False) as fleet:
        await fleet.propose(GOOD)
        await fleet.join("web-1", "web-2")
        store.failing = True
        conf = fleet.confs["web-1"]
        await fleet.wait(lambda: conf.status.sources[0]["state"] == "stale")
        assert "out of reach" in conf.status.sources[0]["error"]
        assert (await conf.reload()).outcome == "unchanged"
        store.failing = False
        await fleet.propose(BETTER, rehearse=False)
        await fleet.control.act("abort")
        await fleet.control.roll_back(2)
        await fleet.wait(lambda: fleet.messages() == {"better"})


async def test_another_fleet_of_the_same_name_is_not_followed(caplog):
    store = MemoryStore()
    async with Live(store, judge=False) as fleet:
        await fleet.propose(GOOD)
        (conf,) = await fleet.join("web-1")
        contents = store.fleets["shop"]
        contents.entries.clear()
        await fleet.propose(BETTER)
        await fleet.wait(lambda: fleet.sources["web-1"].report.degraded)
        assert "another fleet" in fleet.sources["web-1"].report.degraded[0]
        assert conf.current.message == "good"


async def test_a_cache_starts_an_instance_without_the_store(tmp_path):
    store = MemoryStore()
    cache = tmp_path / "fleet.cache"
    async with Live(store, judge=False) as fleet:
        await fleet.propose(GOOD)
        await fleet.join("web-1", cache=cache)
        await fleet.wait(cache.exists)
    store.failing = True
    from hotconf.fleet.source import Fleet

    conf = HotConf(App, sources=[Fleet(store, "shop", instance="web-1", cache=cache)], options=Options(watch=False))
    async with conf.running(signals=()):
        assert conf.current.message == "good"
    cache.write_bytes(b"{")
    conf = HotConf(App, sources=[Fleet(store, "shop", instance="web-1", cache=cache)])
    with pytest.raises(Exception, match="out of reach"):
        conf.load()


async def test_I20_the_document_is_checked_against_its_digest():
    store = MemoryStore()
    async with Live(store, judge=False) as fleet:
        await fleet.propose(GOOD)
        entries = store.fleets["shop"].entries
        name = next(key for key in entries if key.startswith("doc/"))
        entries[name] = entries[name]._replace(value=b'message = "forged"\n')
        with pytest.raises(Exception, match="not the one that the plan names"):
            await fleet.join("web-1")


async def test_a_held_rollback_is_drift():
    async with Live(MemoryStore(), judge=False) as fleet:
        await fleet.stable(GOOD, BETTER)
        memory = Memory({"pool": 1})
        (conf,) = await fleet.join("web-1", sources=[memory])
        memory.set({"pool": 2})
        await conf.reload()
        await conf.rollback()

        async def drifted():
            return (await fleet.control.status())["drift"] == ["web-1"]

        await fleet.wait(drifted)


async def test_a_judge_that_ends_hands_over(any_store):
    async with Live(any_store, name=fresh(), judge=False) as fleet:
        await fleet.propose(GOOD)
        await fleet.join(*NAMES)
        first, task = fleet.judge(judge="first")
        await fleet.wait(lambda: first.leads)
        fleet.judge(judge="second")
        await fleet.propose(BETTER)
        await fleet.until("baking")
        task.cancel()
        plan = await fleet.until("done", "reverted", "paused")
        assert plan.state == "done"
        assert plan.last[-1].by == "second"
        assert plan.term == 2
        assert not first.leads or task.done()


async def test_measures_take_back_what_only_they_show():
    levels = {}
    async with Live(MemoryStore()) as fleet:
        await fleet.propose(b"pool = 1\n")

        def measured(conf, name):
            source = next(iter(s for s in conf._given if getattr(s, "kind", "") == "fleet"))

            @source.measure("errors", better="lower")
            def errors():
                return levels.get(conf.current.pool, 10.0) + len(name)

        await fleet.join(*[f"web-{n}" for n in range(20)], prepare=measured)
        await asyncio.sleep(0.3)
        levels[9] = 100.0
        from hotconf.fleet.plan import Stage

        stages = (Stage(percent=10, bake=0.5), Stage(percent=100))
        await fleet.propose(b"pool = 9\n", guards=("errors:20%",), stages=stages)
        plan = await fleet.until("done", "reverted", "paused")
        assert plan.state == "reverted", plan.rollout.reason
        assert plan.rollout.reason.startswith("errors is ")
        assert {conf.current.pool for conf in fleet.confs.values()} == {1}


async def test_I26_reports_have_a_floor_and_the_newest_replaces_what_was_not_sent():
    store = MemoryStore()
    async with Live(store, judge=False) as fleet:
        await fleet.propose(GOOD)
        memory = Memory({"pool": 1})
        sent = []
        reports = store.fleets["shop"].reports

        class Counting(dict):
            def __setitem__(self, key, value):
                sent.append(asyncio.get_running_loop().time())
                super().__setitem__(key, value)

        store.fleets["shop"].reports = Counting(reports)
        (conf,) = await fleet.join("web-1", sources=[memory], report_every=0.3)
        for number in range(2, 40):
            memory.set({"pool": number})
            await conf.reload()
            await asyncio.sleep(0.01)

        async def last():
            return [report.generation for report in (await fleet.control.reports()).values()] == [
                conf.snapshot.generation
            ]

        await fleet.wait(last)
    gaps = [after - before for before, after in itertools.pairwise(sent[:-1])]
    assert len(sent) < 12
    assert min(gaps) > 0.25


async def test_I26_unchanged_is_acknowledged():
    async with Live(MemoryStore(), judge=False) as fleet:
        await fleet.stable(GOOD, b'# another comment\nmessage = "good"\n')
        (conf,) = await fleet.join("web-1")
        first = conf.snapshot.generation
        await fleet.control.roll_back(1)

        async def acknowledged():
            plan = await fleet.control.plan()
            return [r.applied for r in (await fleet.control.reports()).values()] == [plan.stable.digest]

        await fleet.wait(acknowledged)
        assert conf.snapshot.generation == first
