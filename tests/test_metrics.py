"""Metrics: every one is derived from status and reports, and says what an alert needs to know."""

import re
from typing import Annotated

import pytest
from prometheus_client import CollectorRegistry

from hotconf import HotConf, Options, RestartRequired, Section
from hotconf.metrics import Metrics
from hotconf.testing import FakeSource
from tests.heart import QUIET


class App(Section):
    message: str = "hello"
    port: Annotated[int, RestartRequired()] = 8080


def samples(metrics):
    """Every sample by its name and labels, as Prometheus reads them."""
    lines = [line for line in metrics.exposition().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@pytest.fixture
def source():
    return FakeSource({"message": "one"}, name="flags")


@pytest.fixture
def conf(source):
    return HotConf(App, sources=[source], options=QUIET)


async def test_reloads_are_counted_by_their_first_trigger_and_outcome(conf, source):
    metrics = Metrics(conf)
    async with conf.running(signals=()):
        source.set({"message": "two"})
        await conf.reload(trigger="http")
        await conf.reload(trigger="http")
        source.fail(OSError())
        await conf.reload(trigger="file")
        await conf.reload(trigger="call", dry_run=True)  # concerns nobody but who asked
    found = samples(metrics)
    counted = {name: value for name, value in found.items() if name.startswith("hotconf_reloads_total")}
    assert counted == {
        'hotconf_reloads_total{outcome="applied",trigger="start"}': 1,
        'hotconf_reloads_total{outcome="applied",trigger="http"}': 1,
        'hotconf_reloads_total{outcome="unchanged",trigger="http"}': 1,
        'hotconf_reloads_total{outcome="rejected",trigger="file"}': 1,
    }
    assert found["hotconf_reload_duration_seconds_count"] == 4
    assert found["hotconf_config_generation"] == 2


async def test_the_last_reload_is_told_apart_from_the_last_good_one(conf, source):
    metrics = Metrics(conf)
    assert samples(metrics)["hotconf_config_last_reload_successful"] == 0  # nothing is in force yet
    assert samples(metrics)["hotconf_config_last_reload_success_timestamp_seconds"] == 0
    async with conf.running(signals=()):
        good = samples(metrics)
        assert good["hotconf_config_last_reload_successful"] == 1
        ended = conf.reports[-1].started_at.timestamp() + conf.reports[-1].duration
        assert good["hotconf_config_last_reload_success_timestamp_seconds"] == pytest.approx(ended)
        source.fail(OSError())
        await conf.reload()
        bad = samples(metrics)
        assert bad["hotconf_config_last_reload_successful"] == 0
        key = "hotconf_config_last_reload_success_timestamp_seconds"
        assert bad[key] == good[key]
        await conf.reload()
        assert samples(metrics)["hotconf_config_last_reload_successful"] == 1


async def test_what_waits_for_a_restart_and_who_holds_a_snapshot(conf, source):
    metrics = Metrics(conf)
    async with conf.running(signals=()):
        source.set({"message": "two", "port": 1})
        await conf.reload()
        assert samples(metrics)["hotconf_pending_restart"] == 1
        with conf.pin(), conf.pin():
            assert samples(metrics)["hotconf_snapshots_leased"] == 1
        assert samples(metrics)["hotconf_snapshots_leased"] == 0
        source.set({"message": "two"})
        await conf.reload()
        assert samples(metrics)["hotconf_pending_restart"] == 0


async def test_a_source_whose_last_layer_stands_is_stale():
    source = FakeSource({"message": "one"}, name="flags", required=False)
    conf = HotConf(App, sources=[source], options=QUIET)
    metrics = Metrics(conf)
    async with conf.running(signals=()):
        assert samples(metrics)['hotconf_source_stale{source="flags"}'] == 0
        source.fail(TimeoutError())
        await conf.reload()
        assert samples(metrics)['hotconf_source_stale{source="flags"}'] == 1


def test_watchers_are_told_by_their_kind(conf):
    metrics = Metrics(conf, watchers=lambda: {"poll": 2, "stream": 3})
    found = samples(metrics)
    assert (found['hotconf_watchers{kind="poll"}'], found['hotconf_watchers{kind="stream"}']) == (2, 3)


def test_a_registry_of_the_programs_own_has_them_too(conf):
    registry = CollectorRegistry()
    metrics = Metrics(conf, registry)
    conf.load()
    assert registry.get_sample_value("hotconf_config_generation") == 1
    assert metrics.exposition()
    text = metrics.exposition().decode()
    assert all(re.search(rf"^# HELP {name}\b ?.+$", text, re.MULTILINE) for name in re.findall(r"# TYPE (\S+)", text))


def test_one_that_started_from_the_last_known_good_has_not_succeeded(tmp_path):
    options = Options(watch=False, last_good=tmp_path / "last.json", ready_when_degraded=False)
    source = FakeSource({"message": "one"})
    with HotConf(App, sources=[source], options=options).running(signals=()) as conf:
        assert conf.recovered is None
    reborn = HotConf(App, sources=[source], options=options)
    metrics = Metrics(reborn)
    source.fail(OSError(), times=1)
    with reborn.running(signals=()):
        assert "started from the last known good" in reborn.recovered
        assert samples(metrics)["hotconf_config_last_reload_successful"] == 0
        reborn.reload_blocking()
        assert reborn.recovered is None
        assert samples(metrics)["hotconf_config_last_reload_successful"] == 1
