"""Metrics: the names that Prometheus's own configuration has, and what they say after each kind of reload."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from hotconf import HotConf, Options, RestartRequired, Section
from hotconf.metrics import CONTENT_TYPE, Metrics
from hotconf.sources import Memory
from hotconf.testing import FakeSource
from tests.web.sites import site_of

from typing import Annotated  # isort: skip

NAMES = {
    "hotconf_config_last_reload_successful",
    "hotconf_config_last_reload_success_timestamp_seconds",
    "hotconf_reloads",
    "hotconf_reload_duration_seconds",
    "hotconf_config_generation",
    "hotconf_pending_restart",
    "hotconf_source_stale",
    "hotconf_source_age_seconds",
    "hotconf_watchers",
    "hotconf_snapshots_leased",
    "hotconf_http_unauthorized",
}


class App(Section):
    message: str = "hello"
    port: Annotated[int, RestartRequired()] = 8080


class Flaky(Memory):
    """An optional source that cannot be reached while `down`."""

    required, down = False, False

    async def read(self):
        if self.down:
            raise OSError("no route to host")
        return await super().read()


def read(text):
    """Every sample by name and labels."""
    families = text_string_to_metric_families(text)
    return {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}


@pytest.fixture
async def live():
    source = Flaky({"message": "one"}, name="remote")
    conf = HotConf(App, sources=[source], options=Options(watch=False))
    metrics = Metrics(conf)
    async with conf.running(signals=()):
        yield conf, source, lambda: read(metrics.exposition().decode())


async def test_every_name_of_the_contract_is_there_before_the_first_load_too():
    metrics = Metrics(HotConf(App), watchers=lambda: {"poll": 0})
    families = {family.name for family in text_string_to_metric_families(metrics.exposition().decode())}
    assert families - {"hotconf_reloads_created"} >= NAMES - {"hotconf_source_stale", "hotconf_source_age_seconds"}
    values = read(metrics.exposition().decode())
    assert values[("hotconf_config_generation",)] == 0
    assert values[("hotconf_config_last_reload_successful",)] == 0
    assert values[("hotconf_config_last_reload_success_timestamp_seconds",)] == 0


async def test_reloads_are_counted_by_trigger_and_outcome(live):
    conf, source, values = live
    source.set({"message": "two"})
    await conf.reload(trigger="http")
    await conf.reload(trigger="http")
    source.set({"port": "many"})
    for _ in range(2):
        await conf.reload(trigger="SIGHUP")
    counted = {key[1:]: value for key, value in values().items() if key[0] == "hotconf_reloads_total"}
    assert counted == {
        (("outcome", "applied"), ("trigger", "start")): 1,
        (("outcome", "applied"), ("trigger", "http")): 1,
        (("outcome", "unchanged"), ("trigger", "http")): 1,
        (("outcome", "rejected"), ("trigger", "SIGHUP")): 2,
    }
    assert values()[("hotconf_reload_duration_seconds_count",)] == 5


async def test_the_last_outcome_and_the_last_success_are_told_apart(live):
    conf, source, values = live
    good = conf.reports[-1]
    source.set({"port": "many"})
    await conf.reload()
    now = values()
    assert now[("hotconf_config_last_reload_successful",)] == 0
    when = good.started_at.timestamp() + good.duration
    assert now[("hotconf_config_last_reload_success_timestamp_seconds",)] == pytest.approx(when)
    source.set({"message": "one"})
    await conf.reload()
    assert values()[("hotconf_config_last_reload_successful",)] == 1
    assert values()[("hotconf_config_last_reload_success_timestamp_seconds",)] > when


async def test_a_dry_run_is_no_reload(live):
    conf, source, values = live
    source.set({"port": "many"})
    before = values()
    assert (await conf.reload(dry_run=True)).outcome == "rejected"
    assert values() == before


async def test_gauges_follow_the_status(live):
    conf, source, values = live
    source.set({"message": "two", "port": 9090})
    await conf.reload()
    assert values()[("hotconf_config_generation",)] == 2
    assert values()[("hotconf_pending_restart",)] == 1
    with conf.pin():
        assert values()[("hotconf_snapshots_leased",)] == 1
    assert values()[("hotconf_snapshots_leased",)] == 0
    source.down = True
    await conf.reload()
    assert values()[("hotconf_source_stale", ("source", "remote"))] == 1
    assert values()[("hotconf_source_age_seconds", ("source", "remote"))] > 0
    source.down = False
    await conf.reload()
    assert values()[("hotconf_source_stale", ("source", "remote"))] == 0


async def test_metrics_that_come_late_know_the_last_success(live):
    conf, _, values = live
    late = read(Metrics(conf).exposition().decode())
    name = ("hotconf_config_last_reload_success_timestamp_seconds",)
    assert late[name] == values()[name]


async def test_they_fit_into_a_registry_of_ones_own(live):
    conf, _, _ = live
    registry = CollectorRegistry()
    Counter("mine", "One's own.", registry=registry).inc()
    text = Metrics(conf, registry).exposition().decode()
    assert "mine_total 1.0" in text
    assert "hotconf_config_generation 1.0" in text
    with pytest.raises(ValueError, match="Duplicated"):
        Metrics(conf, registry)


async def test_over_http_with_the_watchers():
    async with site_of(App, {}) as site, site.session.get(site.server.url + "/events") as stream:
        await stream.content.readuntil(b"data:")
        answer = await site.ask("/metrics")
        assert (answer.status, answer.headers["Content-Type"]) == (200, CONTENT_TYPE)
        values = read(answer.text)
        assert values[("hotconf_watchers", ("kind", "stream"))] == 1
        assert values[("hotconf_watchers", ("kind", "poll"))] == 0


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
        assert ("hotconf_config_last_reload_successful", 0) in one_valued(metrics)
        reborn.reload_blocking()
        assert reborn.recovered is None
        assert ("hotconf_config_last_reload_successful", 1) in one_valued(metrics)


def one_valued(metrics):
    return {(name, value) for (name, *_), value in read(metrics.exposition().decode()).items()}


def test_a_name_that_is_no_utf_8_is_escaped_and_the_rest_is_said():
    conf = HotConf(App, sources=[Memory({}, name="\udcff.toml")], options=Options(watch=False))
    conf.load()
    found = read(Metrics(conf).exposition().decode())
    assert found["hotconf_source_stale", ("source", "\\udcff.toml")] == 0
