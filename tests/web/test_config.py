"""GET /config: the keys that a URL names, the notations, and when a waiting client is answered."""

from __future__ import annotations

import asyncio
import json
import tomllib
from typing import Any

import pytest
import yaml
from pydantic import RootModel, SecretStr

import tests.web.sites as sites
from hotconf import HotConf, Options, Section
from hotconf.api.representations import written
from hotconf.sources import Memory
from tests.web.clients import client_of
from tests.web.sites import site_of


class Tags(RootModel[list[str]]):
    pass


class Database(Section):
    url: str = "postgres://db"
    pool_size: int = 10
    comment: str | None = None


class App(Section):
    message: str = "hello"
    database: Database = Database()
    servers: list[dict[str, Any]] = []
    labels: dict[str, str] = {}
    tags: Tags = Tags([])
    vault: dict[str, SecretStr] = {}


VALUES = {
    "servers": [{"host": "a"}, {"host": "b"}],
    "labels": {"a/b": "slash", "c.d": "dot", "ü ": "letter", "50%": "percent", "": "empty", "0": "zero"},
    "tags": ["x", "y"],
    "vault": {"key": "hunter2"},
}


@pytest.fixture
async def site():
    async with site_of(App, VALUES) as here:
        yield here


# Paths


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/config/servers/1/host", "b"),
        ("/config/servers/1/", {"host": "b"}),
        ("/config/labels/a%2Fb", "slash"),
        ("/config/labels/a%2fb", "slash"),
        ("/config/labels/c.d", "dot"),
        ("/config/labels/%C3%BC%20", "letter"),
        ("/config/labels/50%25", "percent"),
        ("/config/labels//", "empty"),
        ("/config/labels/0", "zero"),
        ("/config/tags/1", "y"),
        ("/config/vault/key", "**********"),
        ("/%63onfig/message", "hello"),
    ],
)
async def test_a_url_names_a_part(site, path, value):
    assert await site.value(path) == value


@pytest.mark.parametrize(
    ("path", "detail_part"),
    [
        ("/config/mesage", "did you mean 'message'?"),
        ("/config/database/poolsize", "did you mean 'pool_size'?"),
        ("/config/database.url", "write a/b, not a.b"),
        ("/config/database.url", "did you mean 'database'?"),
        ("/config/servers/2", "a list of 2"),
        ("/config/servers/-1", "a list of 2"),
        ("/config/servers/x", "a list of 2"),
        ("/config/servers/%D9%A1", "a list of 2"),  # a digit elsewhere than in ASCII
        ("/config/servers/" + "9" * 5000, "a list of 2"),
        ("/config/message/deeper", "a single value"),
        ("/config/vault/key/deeper", "a single value"),
        ("/config/vault/nokey", "vault has no 'nokey'"),
        ("/config/labels/%FF", "labels has no"),
        ("/config//message", "has no ''"),
    ],
)
async def test_an_unknown_part_is_404_and_names_a_similar_key(site, path, detail_part):
    answer = await site.ask(path)
    assert (answer.status, answer.content_type) == (404, "application/problem+json")
    assert detail_part in answer.json["detail"]


@pytest.mark.parametrize(("count", "suggested"), [(90, True), (5000, False)])
async def test_thousands_of_keys_are_not_searched_for_a_suggestion(site, count, suggested):
    await site.change(labels={f"label_{number}": "x" for number in range(count)})
    detail = (await site.ask("/config/labels/label_x")).json["detail"]
    assert ("did you mean" in detail) is suggested


async def test_a_suggestion_names_no_key_below_a_secret(site):
    class Hidden(Section):
        vault: SecretStr = SecretStr('{"hunter": 2}')

    conf = HotConf(Hidden, options=Options(watch=False))
    async with conf.running(signals=()), sites.serve(conf) as server:
        async with site.session.get(server.url + "/config/vault/hunte") as answer:
            assert (answer.status, "hunter" in (await answer.text()).replace("hunte'", "")) == (404, False)


# Notations


async def test_the_same_document_in_three_notations(site):
    document = await site.value("/config/database")
    toml, yml = await site.ask("/config/database", accept="application/toml"), "application/yaml"
    assert tomllib.loads(toml.text) == {key: value for key, value in document.items() if value is not None}
    answer = await site.ask("/config/database", accept=yml)
    assert (yaml.safe_load(answer.text), answer.content_type) == (document, yml)
    assert toml.content_type == "application/toml"


async def test_tags_are_strong_so_each_notation_has_its_own(site):
    json_tag, toml_tag = await site.tag(), await site.tag(accept="application/toml")
    assert toml_tag == json_tag[:-1] + '.toml"'
    assert await site.tag(accept="application/yaml") == json_tag[:-1] + '.yaml"'
    assert (await site.ask("/config", tag=json_tag)).status == 304
    assert (await site.ask("/config", tag=toml_tag)).status == 200
    answer = await site.ask("/config", tag=toml_tag, accept="application/toml")
    assert (answer.status, answer.headers["ETag"], answer.headers["Vary"]) == (304, toml_tag, "Accept")
    assert answer.text == ""


async def test_a_cached_response_is_not_used_for_another_accept_header(site):
    for accept, kind in [("application/toml", "toml"), ("application/json", "json"), ("application/toml", "toml")] * 2:
        assert (await site.ask("/config", accept=accept)).content_type == f"application/{kind}"


class Floats(Section):
    least: float = float("-inf")
    inner: dict[str, list[float]] = {"a": [1.5, float("inf")]}
    text: str = "Infinity"


async def test_infinity_is_a_number_in_notations_that_have_it():
    async with site_of(Floats, {}) as site:
        for path, part in (("/config", lambda whole: whole), ("/config/inner", lambda whole: whole["inner"])):
            shown = part({"least": float("-inf"), "inner": {"a": [1.5, float("inf")]}, "text": "Infinity"})
            assert tomllib.loads((await site.ask(path, accept="application/toml")).text) == shown
            assert yaml.safe_load((await site.ask(path, accept="application/yaml")).text) == shown
        assert json.loads((await site.ask("/config")).text)["least"] == "-Infinity"


@pytest.mark.parametrize(("path", "accept"), [("/config", "text/html"), ("/config/message", "application/toml")])
async def test_a_part_that_the_notation_cannot_hold_is_406(site, path, accept):
    answer = await site.ask(path, accept=accept)
    assert (answer.status, answer.content_type) == (406, "application/problem+json")


@pytest.mark.parametrize("path", ["/config", "/config/database"])
@pytest.mark.parametrize("accept", ["*/*", "application/toml"])
async def test_head_has_the_headers_of_get(site, path, accept):
    get, head = [await site.ask(path, accept=accept, method=method) for method in ("GET", "HEAD")]
    assert (head.status, head.text) == (200, "")
    kept = [name for name in get.headers if name != "Date"]
    assert [head.headers[name] for name in kept] == [get.headers[name] for name in kept]


# Waiting


async def waiting(site, path, tag, **options):
    """A request that is parked."""
    task = asyncio.create_task(site.ask(path, tag=tag, **options))
    while not task.done() and not (await site.value("/status"))["watchers"]["poll"]:
        await asyncio.sleep(0.005)
    assert not site.conf.leased
    return task


@pytest.mark.parametrize("accept", [None, "application/toml"])
@pytest.mark.parametrize("suffix", ["", ".toml", ".yaml"])
async def test_a_poll_accepts_the_tag_of_any_notation(site, accept, suffix):
    tag = (await site.tag("/config/database"))[:-1] + suffix + '"'
    task = await waiting(site, "/config/database?wait=30", tag, accept=accept)
    assert not task.done()
    await site.change(database={"pool_size": 11})
    answer = await asyncio.wait_for(task, 10)
    assert (answer.status, answer.headers["Hotconf-Generation"]) == (200, "2")
    assert "11" in answer.text


async def test_star_waits_for_the_next_change(site):
    task = await waiting(site, "/config/message?wait=30", "*")
    assert not task.done()
    await site.change(message="new")
    assert (await asyncio.wait_for(task, 10)).json == "new"


async def test_the_same_request_waits_again(site):
    for message in ("one", "two", "three", "four"):
        task = await waiting(site, "/config/message?wait=30", "*")
        assert not task.done()
        await site.change(message=message)
        assert (await asyncio.wait_for(task, 10)).json == message


@pytest.mark.parametrize("other", ['"no-token"', "unquoted", '"0a1b.x"', "*"])
@pytest.mark.parametrize("order", [1, -1])
async def test_a_list_waits_where_one_matches_and_another_cannot_be_read(site, other, order):
    tag = await site.tag("/config/message")
    task = await waiting(site, "/config/message?wait=30", ", ".join([tag, other][::order]))
    assert not task.done()
    await site.change(message="new")
    assert (await asyncio.wait_for(task, 10)).status == 200


@pytest.mark.parametrize("given", ['"no-token"', "unquoted", '"0a1b.7", unquoted', ""])
async def test_a_list_with_what_is_no_tag_is_400_where_none_matches(site, given):
    assert (await site.ask("/config/message?wait=30", tag=given)).status == 400


async def test_a_tag_that_can_be_read_is_enough_for_304(site):
    tag = await site.tag("/config/message")
    assert (await site.ask("/config/message", tag=f"unquoted, {tag}")).status == 304
    assert (await site.ask("/config/message", tag="unquoted")).status == 200


async def test_a_list_waits_where_one_matches(site):
    tag = await site.tag("/config/message")
    task = await waiting(site, "/config/message?wait=30", f'"deadbeef.1", W/{tag}')
    assert not task.done()
    await site.change(message="new")
    assert (await asyncio.wait_for(task, 10)).status == 200


@pytest.mark.parametrize("tag", [None, '"deadbeef.1"', '"deadbeef.1.toml"', '"deadbeef.1", "cafe.2"'])
async def test_a_poll_without_a_current_tag_is_answered_at_once(site, tag):
    answer = await asyncio.wait_for(site.ask("/config/message?wait=300", tag=tag), 10)
    assert (answer.status, answer.json) == (200, "hello")


@pytest.mark.parametrize("tag", ["nonsense", '"nonsense"', '"a.1", garbage', "", '"*"', '"deadbeef.1", "x"'])
async def test_a_tag_that_no_process_issued_is_400_in_a_poll_and_no_match_otherwise(site, tag):
    assert (await site.ask("/config?wait=30", tag=tag)).status == 400
    assert (await site.ask("/config", tag=tag)).status == 200


async def test_a_poll_with_the_tag_of_an_old_state_is_answered_at_once(site):
    old = await site.tag("/config/message")
    await site.change(message="new")
    answer = await asyncio.wait_for(site.ask("/config/message?wait=300", tag=old), 10)
    assert answer.json == "new"
    await site.change()
    answer = await asyncio.wait_for(site.ask("/config/message?wait=300", tag=old), 10)
    assert answer.json == "hello", "A, B, A: it has changed since, twice"


async def test_a_part_that_is_gone_when_its_client_wakes_is_404(site):
    task = await waiting(site, "/config/labels/c.d?wait=30", await site.tag("/config/labels/c.d"))
    await site.change(labels={})
    assert (await asyncio.wait_for(task, 10)).status == 404


@pytest.mark.parametrize("wait", ["0", "0s", "0.0", "0m"])
async def test_a_wait_of_zero_is_answered_at_once(site, wait):
    answer = await asyncio.wait_for(site.ask(f"/config?wait={wait}", tag=await site.tag()), 10)
    assert answer.status == 304


async def test_a_very_long_wait_is_shortened(site):
    assert (await site.ask("/config?wait=86400000s")).status == 200


async def test_a_client_that_flips_between_two_replicas_loses_no_change(site):
    memory = Memory(VALUES)
    other = HotConf(App, sources=[memory], options=Options(watch=False))
    async with other.running(signals=()), sites.serve(other) as server:
        seen, tag = [], None
        for round_ in range(4):
            for conf, source, url in ((site.conf, site.memory, site.server.url), (other, memory, server.url)):
                source.set({**VALUES, "message": str(round_)})
                await conf.reload()
                headers = {"If-None-Match": tag} if tag else {}
                async with site.session.get(f"{url}/config/message?wait=30", headers=headers) as answer:
                    seen.append(await answer.json())
                    tag = answer.headers["ETag"]
        assert seen == [str(round_) for round_ in range(4) for _ in range(2)]


async def test_a_part_is_encoded_once_for_every_spelling_of_its_path(site, monkeypatch):
    bodies = []
    monkeypatch.setattr("hotconf.api.config.written", lambda *given: bodies.append(written(*given)) or bodies[-1])
    for path in ("message", "%6dessage", "%6Dessage", "message/"):
        assert await site.value(f"/config/{path}") == json.loads(bodies[0])
    assert len(bodies) == 1


async def test_an_accept_header_on_several_lines_is_one(site):
    async with client_of(site.server) as client:
        client.send(b"GET /config HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nAccept: application/toml\r\n\r\n")
        reply = await client.reply()
        assert (reply.status, reply.headers["content-type"]) == (200, "application/toml")
