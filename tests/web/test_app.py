"""The configuration service over HTTP: what it shows and refuses, and that it never shows a secret."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr

from hotconf import HotConf, Options, Refuse, Section, Sensitive, Settings
from hotconf.errors import NotLoaded
from hotconf.sources.memory import Memory
from hotconf.values.layer import Layer
from hotconf.web import config_app
from hotconf.web.safety import Safety


class Database(Section):
    url: str = "postgres://localhost"
    password: SecretStr = SecretStr("hunter2")


class App(Settings):
    message: str = "hello"
    port: int = 8080
    ratio: float = 0.5
    nothing: str | None = None
    database: Database = Database()
    servers: list[dict[str, Any]] = []
    labels: dict[str, str] = {}
    token: Annotated[str, Sensitive()] = "s3cr3t"
    healthz: str = "a key of that name"


VALUES = {
    "servers": [{"host": "a"}, {"host": "b"}],
    "labels": {"app.kubernetes.io/name": "x", "plain": "y", "empty": "", "line\nbreak": "z"},
}
PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Any
    content_type: str
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Site:
    """A client of a configuration that is live in this process."""

    def __init__(self, conf, source, client):
        self.conf = conf
        self.source = source
        self.client = client

    async def ask(self, path, method="GET", **options):
        async with self.client.request(method, path, **options) as response:
            return Reply(response.status, response.headers, response.content_type, await response.read())

    async def json(self, path, **options):
        return (await self.ask(path, **options)).json


@pytest.fixture
async def site():
    source = Memory(VALUES)
    conf = HotConf(App, sources=[source])
    async with conf.running(signals=()), TestClient(TestServer(config_app(conf))) as client:
        yield Site(conf, source, client)


# GET /config


async def test_the_whole_with_secrets_masked(site):
    whole = await site.json("/config")
    assert whole["message"] == "hello"
    assert whole["database"] == {"url": "postgres://localhost", "password": "**********"}
    assert whole["token"] == "**********"
    assert whole["servers"] == VALUES["servers"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("message", "hello"),
        ("port", 8080),
        ("ratio", 0.5),
        ("nothing", None),
        ("database/url", "postgres://localhost"),
        ("database/", {"url": "postgres://localhost", "password": "**********"}),
        ("servers/1/host", "b"),
        ("servers/0", {"host": "a"}),
        ("labels/plain", "y"),
        ("labels/empty", ""),
        ("labels/line%0Abreak", "z"),
    ],
)
async def test_a_part_by_its_path(site, path, value):
    assert await site.json(f"/config/{path}") == value


async def test_a_key_with_dots_is_one_step(site):
    site.source.set({"labels": {"app.kubernetes.io": "dotted"}})
    await site.conf.reload()
    assert await site.json("/config/labels/app.kubernetes.io") == "dotted"


@pytest.mark.parametrize(
    "path",
    [
        "nowhere",
        "message/deeper",
        "servers/2",
        "servers/-1",
        "servers/00",
        "servers/one",
        "labels/x",
        "a//b",
        "%00",
        '"',
        "message.",
    ],
)
async def test_an_unknown_part_is_404(site, path):
    reply = await site.ask(f"/config/{path}")
    assert (reply.status, reply.content_type) == (404, PROBLEM)
    assert reply.json["title"] == "Not Found"


@pytest.mark.parametrize("path", ["token", "database/password"])
async def test_I11_a_secret_is_masked_on_its_own_too(site, path):
    assert await site.json(f"/config/{path}") == "**********"


async def test_I11_no_answer_holds_a_secret(site):
    site.source.set({"port": "hunter2-not-a-number", "token": "hunter2"})
    paths = ["/config", "/status", "/config/database", "/config/token", "/config/hunter"]
    replies = [await site.ask("/reload", "POST"), *[await site.ask(path) for path in paths]]
    for reply in replies:
        text = reply.body.decode() + str(reply.headers)
        assert "s3cr3t" not in text
        assert "hunter2" not in text


async def test_the_headers_say_which_generation_and_how_to_cache(site):
    reply = await site.ask("/config")
    assert reply.headers["Hotconf-Generation"] == "1"
    assert reply.headers["Cache-Control"] == "no-cache"
    assert reply.headers["Vary"] == "Accept"
    assert reply.headers["ETag"].endswith('.1"')
    assert reply.content_type == "application/json"


async def test_head_is_get_without_a_body(site):
    get, head = await site.ask("/config"), await site.ask("/config", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["ETag"] == get.headers["ETag"]


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '{}, "other"', 'W/"other", W/{}', "*"])
@pytest.mark.parametrize("path", ["/config", "/config/message"])
async def test_a_tag_that_matches_is_304(site, path, form):
    tag = (await site.ask(path)).headers["ETag"]
    reply = await site.ask(path, headers={"If-None-Match": form.format(tag)})
    assert (reply.status, reply.body) == (304, b"")
    assert reply.headers["ETag"] == tag
    assert reply.headers["Hotconf-Generation"] == "1"


@pytest.mark.parametrize("form", ['"other"', "nonsense", "", '"other', "1"])
async def test_a_tag_that_does_not_match_is_200(site, form):
    assert (await site.ask("/config", headers={"If-None-Match": form})).status == 200


async def test_after_a_change_the_old_tag_is_200(site):
    before = (await site.ask("/config")).headers["ETag"]
    site.source.set({"message": "changed"})
    await site.conf.reload()
    reply = await site.ask("/config", headers={"If-None-Match": before})
    assert reply.status == 200
    assert reply.json["message"] == "changed"
    assert reply.headers["Hotconf-Generation"] == "2"


async def test_an_unchanged_reload_keeps_the_tag(site):
    before = (await site.ask("/config")).headers["ETag"]
    await site.conf.reload()
    assert (await site.ask("/config", headers={"If-None-Match": before})).status == 304


async def test_another_run_of_the_process_has_other_tags(site):
    async with TestClient(TestServer(config_app(site.conf))) as other:
        tag = (await site.ask("/config")).headers["ETag"]
        assert (await other.get("/config", headers={"If-None-Match": tag})).status == 200


async def test_text_beyond_ascii_is_served_as_it_is(site):
    site.source.set({"message": "größer 🎉"})
    await site.conf.reload()
    body = (await site.ask("/config")).body
    assert "größer 🎉".encode() in body


async def test_text_that_is_no_utf8_is_served_as_json_escapes_it(site):
    """An environment variable may hold it: one such byte must not make the whole configuration a 500."""

    class Loose(Settings):
        anything: dict[str, Any] = {}

    conf = HotConf(Loose, sources=[Memory({"anything": {"odd": "a\udcffb"}})])
    async with conf.running(signals=()), TestClient(TestServer(config_app(conf))) as client:
        reply = await client.get("/config")
        assert reply.status == 200
        assert json.loads(await reply.read()) == {"anything": {"odd": "a\udcffb"}}


async def test_the_body_of_a_snapshot_is_built_once(site, monkeypatch):
    await site.ask("/config")
    monkeypatch.setattr("json.dumps", None)
    assert (await site.json("/config"))["message"] == "hello"


# POST /reload


async def test_a_reload_answers_with_its_report(site):
    assert (await site.json("/reload", method="POST"))["outcome"] == "unchanged"
    site.source.set({"message": "changed"})
    report = await site.json("/reload", method="POST")
    assert (report["outcome"], report["generation"], report["triggers"]) == ("applied", 2, ["http"])
    assert "message" in report["changed"]


async def test_a_reload_that_is_rejected_is_422_with_every_fault(site):
    site.source.set({"port": "many", "mesage": "typo"})
    reply = await site.ask("/reload", "POST")
    problem = reply.json
    assert (reply.status, reply.content_type) == (422, PROBLEM)
    assert {"type", "title", "status", "detail", "faults"} <= set(problem)
    assert (problem["status"], problem["title"]) == (422, HTTPStatus(422).phrase)
    assert {fault["path"] for fault in problem["faults"]} == {"port", "mesage"}
    assert all(fault["source"] == "memory" for fault in problem["faults"])
    assert problem["report"]["outcome"] == "rejected"
    assert (await site.json("/config"))["message"] == "hello"


async def test_a_refusal_of_a_subscriber_is_422_too(site):
    @site.conf.prepare("message")
    def refuse(change):
        raise Refuse("not on a friday")

    site.source.set({"message": "changed"})
    problem = await site.json("/reload", method="POST")
    assert "not on a friday" in problem["faults"][0]["message"]
    assert problem["report"]["stage"] == "prepare"


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/x-www-form-urlencoded", 200),
        (b"{}", "application/json", 200),
        (b"{}", "application/json; charset=utf-8", 200),
        (b"{}", "text/plain", 415),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"dry_run": true}', "application/json", 400),
        (b" " * (2**20 + 1), "application/json", 413),  # aiohttp's own limit
    ],
)
async def test_a_body_is_not_needed_and_if_there_is_one_it_must_be_json(site, body, content_type, status):
    reply = await site.ask("/reload", "POST", data=io.BytesIO(body), headers={"Content-Type": content_type})
    assert reply.status == status
    if status != 200:
        assert reply.content_type == PROBLEM
        assert len(site.conf.reports) == 1  # nothing was reloaded


async def test_a_dry_run_says_what_a_reload_would_do_and_does_nothing(site):
    site.source.set({**VALUES, "message": "changed"})
    report = await site.json("/reload?dry_run=1", method="POST")
    assert (report["outcome"], report["changed"], report["dry_run"]) == ("applied", ["message"], True)
    assert (site.conf.current.message, site.conf.snapshot.generation) == ("hello", 1)


@pytest.mark.parametrize(
    ("query", "status"), [("force=1", 200), ("force=0", 200), ("force=TRUE", 200), ("force=x", 400), ("dry_run", 400)]
)
async def test_force_is_a_flag(site, query, status):
    assert (await site.ask(f"/reload?{query}", "POST")).status == status


async def test_force_overrules_the_guard(site):
    site.source.set({})
    assert (await site.ask("/reload", "POST")).status == 422
    report = await site.json("/reload?force=1", method="POST")
    assert (report["outcome"], site.conf.current.servers) == ("applied", [])


async def test_a_client_that_leaves_aborts_nothing():
    gate, reading = asyncio.Event(), asyncio.Event()

    class Slow:
        name, required, values = "slow", True, {}

        async def read(self):
            if self.values:
                reading.set()
                await gate.wait()
            return Layer(self.name, dict(self.values))

    source = Slow()
    conf = HotConf(App, sources=[source])
    async with conf.running(signals=()), TestClient(TestServer(config_app(conf))) as client:
        source.values = {"message": "changed"}
        asking = asyncio.create_task(client.post("/reload"))
        await reading.wait()
        asking.cancel()
        await asyncio.wait([asking])
        gate.set()
        async with asyncio.timeout(10):
            while conf.current.message != "changed":
                await asyncio.sleep(0.005)


async def test_I7_a_reload_while_draining_is_503_and_says_why(site):
    site.conf.begin_drain()
    reply = await site.ask("/reload", "POST")
    assert (reply.status, reply.content_type) == (503, PROBLEM)
    assert reply.headers["Retry-After"] == "1"
    assert "draining" in reply.json["detail"]
    assert (await site.ask("/config")).status == 200


async def test_I7_a_reload_under_way_when_the_drain_begins_is_503():
    reading = asyncio.Event()

    class Stuck:
        name, required, stuck = "stuck", True, False

        async def read(self):
            if self.stuck:
                reading.set()
                await asyncio.Event().wait()
            return Layer(self.name, {})

    source = Stuck()
    conf = HotConf(App, sources=[source])
    async with conf.running(signals=()), TestClient(TestServer(config_app(conf))) as client:
        source.stuck = True
        asking = asyncio.create_task(client.post("/reload"))
        await reading.wait()
        conf.begin_drain()
        assert (await asyncio.wait_for(asking, 10)).status == 503


# Status and probes


async def test_status_has_what_operators_need(site):
    status = await site.json("/status")
    assert {
        *("state", "generation", "digest", "loaded_at", "last_reload", "consecutive_failures", "sources"),
        *("pending_restart", "held", "degraded", "leased", "uptime"),
    } <= set(status)
    assert (status["state"], status["generation"]) == ("ready", 1)
    assert status["last_reload"]["outcome"] == "applied"


async def test_status_counts_failures_until_one_succeeds(site):
    site.source.set({"port": "many"})
    for _ in range(3):
        await site.conf.reload()
    status = await site.json("/status")
    assert status["consecutive_failures"] == 3
    assert status["degraded"]
    site.source.set(VALUES)
    await site.conf.reload()
    status = await site.json("/status")
    assert (status["consecutive_failures"], status["degraded"]) == (0, [])


async def test_the_probes_of_a_configuration_alone_follow_its_state(site):
    assert (await site.ask("/healthz")).status == 200
    assert await site.json("/readyz") == {"ready": True, "state": "ready"}
    site.conf.begin_drain()
    assert (await site.ask("/healthz")).status == 200
    assert (await site.ask("/readyz")).status == 503
    assert await site.json("/readyz") == {"ready": False, "state": "draining"}


@pytest.mark.parametrize(("calls_itself_ready", "status"), [(True, 200), (False, 503)])
async def test_a_process_that_started_from_the_last_known_good_is_ready_by_option(tmp_path, calls_itself_ready, status):
    file, options = tmp_path / "app.toml", Options(watch=False, last_good=tmp_path / "good.json")
    file.write_text('message = "good"\n')
    async with HotConf(App, files=[file], options=options).running(signals=()):
        pass
    file.write_text("broken")
    options = options.model_copy(update={"ready_when_degraded": calls_itself_ready})
    conf = HotConf(App, files=[file], options=options)
    async with conf.running(signals=()), TestClient(TestServer(config_app(conf))) as client:
        assert (await client.get("/readyz")).status == status
        assert (await (await client.get("/status")).json())["degraded"]
        file.write_text('message = "mended"\n')
        await conf.reload()
        assert (await client.get("/readyz")).status == 200


async def test_before_the_first_load_it_is_alive_but_not_ready():
    conf = HotConf(App, options=Options(watch=False))
    async with TestClient(TestServer(config_app(conf))) as client:
        assert (await client.get("/healthz")).status == 200
        assert (await client.get("/readyz")).status == 503
        assert (await client.get("/status")).status == 200
        reply = await client.get("/config")
        assert (reply.status, reply.content_type) == (503, PROBLEM)
        assert (await reply.json(content_type=None))["detail"] == str(NotLoaded())


@pytest.mark.parametrize("state", ["starting", "draining"])
async def test_a_service_that_starts_more_than_the_configuration_supplies_the_state(site, state):
    async with TestClient(TestServer(config_app(site.conf, state=lambda: state))) as client:
        assert (await client.get("/readyz")).status == 503
        assert (await (await client.get("/status")).json())["state"] == state


# Problems, and being mounted


@pytest.mark.parametrize(
    ("method", "path", "allow"), [("POST", "/config", "GET, HEAD, PATCH"), ("GET", "/reload", "POST")]
)
async def test_a_wrong_method_is_405_and_says_what_is_allowed(site, method, path, allow):
    reply = await site.ask(path, method)
    assert (reply.status, reply.content_type, reply.headers["Allow"]) == (405, PROBLEM, allow)


async def test_an_unknown_path_is_a_problem_document(site):
    reply = await site.ask("/nowhere")
    problem = reply.json
    assert (reply.status, reply.content_type) == (404, PROBLEM)
    assert problem == {**problem, "type": "about:blank", "title": "Not Found", "status": 404, "faults": []}


async def test_it_can_be_mounted_under_a_prefix_and_its_probes_stay_free(site):
    app = web.Application()
    app.add_subapp("/admin/", config_app(site.conf, safety=Safety(token="open sesame")))
    async with TestClient(TestServer(app)) as client:
        pod = {"Host": "10.1.2.3"}
        assert (await client.get("/admin/readyz", headers=pod)).status == 200
        assert (await client.get("/admin/config", headers=pod)).status == 403
        assert (await client.get("/admin/config/healthz")).status == 401
        bearer = {"Authorization": "Bearer open sesame"}
        assert await (await client.get("/admin/config/message", headers=bearer)).json() == "hello"
        assert (await client.get("/admin/nowhere", headers=bearer)).content_type == PROBLEM
