"""Inspection: history, reports, origins and the schema, as HTTP shows them."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr
from yarl import URL

import tests.web.sites as sites
from hotconf import HotConf, Options, RestartRequired, Section
from hotconf.api import inspect
from hotconf.sources import Memory
from hotconf.web import config_app
from tests.web.sites import PROBLEM, site_of


class Database(Section):
    url: str = "postgres://db"
    password: SecretStr = SecretStr("hunter2")


class App(Section):
    message: str = "hello"
    port: Annotated[int, RestartRequired()] = 8080
    database: Database = Database()
    servers: list[dict[str, Any]] = []
    labels: dict[str, str] = {}
    tags: set[str] = set()


VALUES = {
    "message": "one",
    "servers": [{"host": "a"}],
    "labels": {"a.b": "dots", "c/d": "slash"},
    "tags": ["x"],
}


@pytest.fixture
async def site():
    async with site_of(App, VALUES, history=3) as here:
        yield here


# History


async def test_history_has_the_last_generations_and_the_running_one_last(site):
    for number in range(2, 6):
        await site.change(message=str(number))
    history = await site.value("/history")
    assert history["running"] == 5
    assert [entry["generation"] for entry in history["generations"]] == [3, 4, 5]
    newest = history["generations"][-1]
    assert set(newest) == {"generation", "loaded_at", "triggers", "changed", "note", "digest"}
    assert (newest["changed"], newest["triggers"]) == (["message"], ["call"])


async def test_a_generation_is_written_once_for_all_requests(site, monkeypatch):
    """Clients that do not read their response would each keep a copy of the whole configuration."""
    written = []
    encoded = inspect.encoded
    monkeypatch.setattr(inspect, "encoded", lambda value: written.append(value) or encoded(value))
    first, second = [await site.ask("/history/1") for _ in range(2)]
    assert first.text == second.text
    assert len(written) == 1


async def test_a_generation_has_its_configuration_masked(site):
    await site.change(message="two")
    entry = await site.value("/history/1")
    assert entry["config"]["message"] == "one"
    assert entry["config"]["database"]["password"] == "**********"
    assert entry == {**(await site.value("/history"))["generations"][0], "config": entry["config"]}


@pytest.mark.parametrize("path", ["/history/2", "/history/0", "/history/x", "/history/-1", "/history/" + "9" * 400])
async def test_a_generation_that_is_not_kept_is_404(site, path):
    assert (await site.ask(path)).status == 404


# Reports


async def test_reports_of_every_reload_are_kept_the_rejected_ones_too(site):
    await site.change(port="many")
    await site.change()
    reports = (await site.value("/reloads"))["reloads"]
    assert [report["outcome"] for report in reports] == ["applied", "rejected", "unchanged"]
    assert reports[1]["faults"][0]["path"] == "port"
    assert [await site.value(f"/reloads/{report['id']}") for report in reports] == reports


@pytest.mark.parametrize("number", ["99", "x", "1.0", "٣"])
async def test_a_report_that_is_not_kept_is_404(site, number):
    answer = await site.ask(f"/reloads/{number.encode().hex() if not number.isascii() else number}")
    assert (answer.status, answer.content_type) == (404, PROBLEM)


# Origins


async def test_every_value_with_its_origin(site):
    values = {entry["path"]: entry for entry in (await site.value("/explain"))["values"]}
    assert values["message"] == {"path": "message", "value": "one", "origin": "memory"}
    assert values["database.password"] == {
        "path": "database.password",
        "value": "**********",
        "origin": "default",
    }
    assert values['labels."a.b"']["value"] == "dots"
    assert values["servers.0.host"]["value"] == "a"
    assert values["tags"]["value"] == ["x"]


async def test_the_list_of_origins_is_that_of_the_snapshot_in_force(site):
    await site.value("/explain")
    await site.change(message="two")
    values = {entry["path"]: entry["value"] for entry in (await site.value("/explain"))["values"]}
    assert values["message"] == "two"


@pytest.mark.parametrize(
    ("path", "dotted", "value"),
    [
        ("message", "message", "one"),
        ("database/url", "database.url", "postgres://db"),
        ("database.url", "database.url", "postgres://db"),
        ("servers/0/host", "servers.0.host", "a"),
        ("servers.0.host", "servers.0.host", "a"),
        ("labels/a.b", 'labels."a.b"', "dots"),
        ("labels/c%2Fd", 'labels."c/d"', None),
        ("labels.%22a.b%22", 'labels."a.b"', "dots"),
        ("database", "database", None),
    ],
)
async def test_one_value_by_a_dotted_path_or_by_segments(site, path, dotted, value):
    found = await site.value(f"/explain/{path}")
    assert set(found) == {"path", "value", "origin", "shadowed"}
    assert found["path"].replace('"c/d"', "c/d") == dotted.replace('"c/d"', "c/d")
    assert value is None or found["value"] == value


async def test_shadowed_values_are_shown_with_their_origins():
    conf = HotConf(
        App, sources=[Memory({"message": "weak"}, name="weak"), Memory({"message": "strong"}, name="strong")]
    )
    async with conf.running(signals=()), sites.serve(conf) as server, ClientSession(server.url) as client:
        found = await (await client.get("/explain/message")).json()
        assert (found["value"], found["origin"]) == ("strong", "strong")
        assert found["shadowed"] == [{"value": "weak", "origin": "weak"}]


@pytest.mark.parametrize(
    ("path", "status"),
    [("nowhere", 404), ("tags/0", 404), ("a..b", 400), ("%22", 400), ("database/password/x", 404)],
)
async def test_a_part_without_an_origin_says_why(site, path, status):
    answer = await site.ask(f"/explain/{path}")
    assert (answer.status, answer.content_type) == (status, PROBLEM)


async def test_an_empty_path_explains_the_whole(site):
    assert (await site.value("/explain/"))["path"] == ""


# Schema


async def test_the_schema_marks_what_a_restart_applies_and_what_is_secret(site):
    schema = await site.value("/schema")
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["properties"]["port"]["x-restart-required"] is True
    assert "hunter2" not in str(schema)
    assert schema["$defs"]["Database"]["properties"]["password"]["x-secret"] is True


# Mounted


async def test_under_a_prefix_every_endpoint_is_where_openapi_says():
    conf = HotConf(App, sources=[Memory(VALUES)], options=Options(watch=False))
    outer = web.Application()
    outer.add_subapp("/admin/conf", config_app(conf))
    async with conf.running(signals=()), TestClient(TestServer(outer)) as client:
        description = await (await client.get("/admin/conf/openapi.json")).json()
        assert description["servers"] == [{"url": "/admin/conf"}]
        spelled = await client.get(URL("/admin/conf/openapi%2Ejson", encoded=True))
        assert await spelled.json() == description
        for path in ("/config/labels/c%2Fd", "/explain/servers/0", "/history/1", "/reloads/1", "/metrics", "/schema"):
            answer = await client.get(URL(f"/admin/conf{path}", encoded=True))
            assert answer.status == 200, path
