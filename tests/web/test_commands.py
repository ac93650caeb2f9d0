"""Commands over HTTP: what a patch needs, what it does, and which of two writers is refused."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import zlib

import aiohttp
import pytest
from pydantic import SecretStr

import tests.web.sites as sites
from hotconf import HotConf, Options, Refuse, Section
from hotconf.web import Safety
from tests.web.clients import until
from tests.web.sites import PROBLEM, site_of

MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


class Database(Section):
    url: str = "postgres://db"
    pool_size: int = 10
    password: SecretStr = SecretStr("")


class App(Section):
    message: str = "hello"
    database: Database = Database()


VALUES = {"message": "one"}


@pytest.fixture
async def site(tmp_path):
    options = {"overlay": tmp_path / "overlay.toml", "audit_log": tmp_path / "audit.jsonl"}
    async with site_of(App, VALUES, **options) as here:
        here.overlay, here.audit = options.values()
        yield here


async def patch(site, values, *, tag=None, query="", **headers):
    named = {**MERGE_PATCH, "If-Match": tag or await site.tag(), **headers}
    return await site.ask(f"/config{query}", method="PATCH", headers=named, data=json.dumps(values))


async def post(site, path, body=None, **headers):
    options = {"json": body} if body is not None else {}
    return await site.ask(path, method="POST", headers=headers, **options)


# What a patch does


async def test_a_patch_is_in_force_on_disk_and_an_origin_of_its_own(site):
    answer = await patch(site, {"database": {"pool_size": 20}})
    assert (answer.status, answer.json["outcome"], answer.json["changed"]) == (200, "applied", ["database.pool_size"])
    assert answer.headers["ETag"] == await site.tag()
    assert answer.headers["Hotconf-Generation"] == "2"
    assert await site.value("/config/database/pool_size") == 20
    assert "pool_size = 20" in site.overlay.read_text()
    found = await site.value("/explain/database/pool_size")
    assert found["origin"].startswith(str(site.overlay))


async def test_null_removes_a_value(site):
    await patch(site, {"message": "patched"})
    assert (await patch(site, {"message": None})).status == 200
    assert await site.value("/config/message") == "one"
    assert "message" not in site.overlay.read_text()


@pytest.mark.parametrize("content_type", ["application/json", "application/merge-patch+json", "Application/JSON"])
async def test_both_content_types_are_accepted(site, content_type):
    answer = await patch(site, {"message": "two"}, **{"Content-Type": content_type})
    assert answer.status == 200


async def test_a_patch_that_changes_nothing_is_unchanged(site):
    answer = await patch(site, {"message": "one"})
    assert (answer.status, answer.json["outcome"]) == (200, "unchanged")


async def test_a_dry_run_reports_the_outcome_and_changes_nothing(site):
    answer = await patch(site, {"message": "two"}, query="?dry_run=1")
    assert (answer.status, answer.json["dry_run"], answer.json["changed"]) == (200, True, ["message"])
    assert await site.value("/config/message") == "one"
    assert not site.overlay.exists() or "two" not in site.overlay.read_text()
    refused = await patch(site, {"database": {"pool_size": "many"}}, query="?dry_run=1")
    assert (refused.status, refused.json["report"]["dry_run"]) == (422, True)


# Conditions


@pytest.mark.parametrize("form", ["{}", '"other", {}', "*"])
async def test_the_tag_of_the_state_in_force_passes(site, form):
    assert (await patch(site, {"message": "two"}, tag=form.format(await site.tag()))).status == 200


@pytest.mark.parametrize("accept", ["application/toml", "application/yaml"])
async def test_the_notation_of_the_tag_does_not_matter(site, accept):
    assert (await patch(site, {"message": "two"}, tag=await site.tag(accept=accept))).status == 200


@pytest.mark.parametrize(
    ("tag", "status"),
    [
        ('"deadbeef.1"', 412),
        ("W/{}", 412),  # weak: no write may rely on it
        ('"nonsense"', 412),
        ("nonsense", 400),
        ("", 400),
        ('{}, "', 400),
    ],
)
async def test_any_other_tag_is_412(site, tag, status):
    answer = await patch(site, {"message": "two"}, tag=tag.format(await site.tag()) or " ")
    assert (answer.status, answer.content_type) == (status, PROBLEM)
    assert await site.value("/config/message") == "one"


async def test_without_a_tag_it_is_428_and_says_what_to_do(site):
    answer = await site.ask("/config", method="PATCH", headers=MERGE_PATCH, data="{}")
    assert (answer.status, answer.content_type) == (428, PROBLEM)
    assert "If-Match" in answer.json["detail"]


async def test_of_two_writers_with_one_tag_exactly_one_wins(site):
    tag = await site.tag()
    writers = [patch(site, {"message": f"writer {number}"}, tag=tag) for number in range(8)]
    answers = await asyncio.gather(*writers)
    won = [number for number, answer in enumerate(answers) if answer.status == 200]
    assert len(won) == 1
    assert {answer.status for number, answer in enumerate(answers) if number not in won} == {412}
    assert await site.value("/config/message") == f"writer {won[0]}"
    assert site.conf.snapshot.generation == 2


async def test_a_reload_in_between_makes_a_tag_stale(site):
    tag = await site.tag()
    await site.change(message="two")
    assert (await patch(site, {"message": "three"}, tag=tag)).status == 412


# Refusals


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'"text"', 400),
        (b"null", 400),
        (b'{"message": NaN}', 400),
        (b'{"message": "a", "message": "b"}', 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"a":' * 100_000, 400),
        (b'{"nowhere": 1}', 422),
        (b'{"mesage": "near"}', 422),
        (b'{"database": {"pool_size": "many"}}', 422),
        (b'{"database": null}', 200),
        (b'{"message": "' + b"x" * (1 << 20) + b'"}', 413),
    ],
)
async def test_a_body_that_cannot_be_a_patch(site, body, status):
    headers = {**MERGE_PATCH, "If-Match": "*"}
    answer = await site.ask("/config", method="PATCH", headers=headers, data=io.BytesIO(body))
    assert answer.status == status
    assert answer.content_type == (PROBLEM if status != 200 else "application/json")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/toml", "x"])
async def test_any_other_content_type_is_415_and_names_the_right_one(site, content_type):
    answer = await patch(site, {"message": "two"}, **{"Content-Type": content_type})
    assert (answer.status, answer.content_type) == (415, PROBLEM)
    assert "application/merge-patch+json" in answer.headers["Accept-Patch"]
    assert await site.value("/config/message") == "one"


@pytest.mark.parametrize("encoding", ["aws-chunked", "x-gzip", "gzip, gzip"])
async def test_an_unsupported_content_encoding_is_415_and_names_the_supported_ones(site, encoding):
    for ask in (patch, lambda site, body, **headers: post(site, "/rollback", body, **headers)):
        answer = await ask(site, {}, **{"Content-Encoding": encoding})
        assert (answer.status, answer.content_type) == (415, PROBLEM)
        assert answer.headers["Accept-Encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("encoding", "encode"), [("gzip", gzip.compress), ("Deflate", zlib.compress), ("identity", bytes)]
)
async def test_a_supported_content_encoding_is_decoded(site, encoding, encode):
    headers = {**MERGE_PATCH, "If-Match": "*", "Content-Encoding": encoding}
    body = io.BytesIO(encode(b'{"message": "two"}'))
    assert (await site.ask("/config", method="PATCH", headers=headers, data=body)).status == 200
    assert await site.value("/config/message") == "two"


async def test_every_fault_of_a_patch_is_named(site):
    answer = await patch(site, {"database": {"pool_size": "many", "url": 5}})
    assert {fault["path"] for fault in answer.json["faults"]} == {"database.pool_size", "database.url"}
    assert answer.json["report"]["outcome"] == "rejected"
    assert not site.overlay.exists() or "many" not in site.overlay.read_text()


async def test_I11_secrets_are_not_written_and_not_quoted(site):
    answer = await patch(site, {"database": {"password": "hunter2"}})
    assert (answer.status, "hunter2" in answer.text) == (422, False)
    assert answer.json["faults"][0]["path"] == "database.password"


async def test_a_subscriber_can_refuse_a_patch(site):
    def refuse(change):
        raise Refuse("not on my watch")

    site.conf.prepare("message")(refuse)
    answer = await patch(site, {"message": "two"})
    assert (answer.status, "not on my watch" in answer.text) == (422, True)
    assert await site.value("/config/message") == "one"


async def test_without_an_overlay_there_are_no_patches():
    async with site_of(App, VALUES) as here:
        answer = await patch(here, {"message": "two"})
        assert (answer.status, answer.content_type) == (409, PROBLEM)
        assert "overlay" in answer.json["detail"]


@pytest.mark.parametrize("path", ["/config/message", "/config/"])
async def test_only_the_whole_is_patched(site, path):
    headers = {**MERGE_PATCH, "If-Match": "*"}
    answer = await site.ask(path, method="PATCH", headers=headers, data="{}")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


# To be confirmed


async def test_a_patch_to_be_confirmed_is_in_no_file_until_then(site):
    answer = await patch(site, {"message": "risky"}, query="?confirm=1m")
    assert answer.status == 200
    assert await site.value("/config/message") == "risky"
    assert 50 < (await site.value("/status"))["unconfirmed"] <= 60
    assert not site.overlay.exists() or "risky" not in site.overlay.read_text()
    assert (await patch(site, {"message": "another"})).status == 409
    assert (await post(site, "/confirm")).status == 200
    assert "risky" in site.overlay.read_text()
    assert (await site.value("/status"))["unconfirmed"] is None


async def test_an_unconfirmed_patch_is_undone(site):
    await patch(site, {"message": "risky"}, query="?confirm=0.2")
    await until(lambda: site.conf.current.message == "one")
    answer = await post(site, "/confirm")
    assert (answer.status, answer.content_type) == (409, PROBLEM)


@pytest.mark.parametrize("confirm", ["0", "soon", "-1", "1h", "99999m", ""])
async def test_an_invalid_confirm_time_is_400(site, confirm):
    assert (await patch(site, {"message": "two"}, query=f"?confirm={confirm}")).status == 400


# Rolling back


async def test_rollback_goes_to_the_generation_before_or_to_a_named_one(site):
    for message in ("two", "three"):
        await site.change(message=message)
    answer = await post(site, "/rollback")
    assert (answer.status, await site.value("/config/message")) == (200, "two")
    answer = await post(site, "/rollback", {"generation": 1})
    assert (answer.status, await site.value("/config/message")) == (200, "one")
    assert answer.headers["ETag"] == await site.tag()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"generation": 99}, 404),
        ({"generation": "1"}, 400),
        ({"generation": True}, 400),
        ({"generaton": 1}, 400),
        ([1], 400),
        ({}, 404),
    ],
)
async def test_an_invalid_generation_is_refused(site, body, status):
    answer = await post(site, "/rollback", body)
    assert (answer.status, answer.content_type) == (status, PROBLEM)


@pytest.mark.parametrize("path", ["/rollback", "/confirm", "/reload"])
async def test_a_body_that_is_not_json_is_415(site, path):
    answer = await site.ask(path, method="POST", data="generation=1", headers={"Content-Type": "text/plain"})
    assert (answer.status, answer.headers["Accept"]) == (415, "application/json")


# Work for a client before it is known whether it may ask, and how much of it


async def raw(site, head, body=b""):
    """Send a head; yield what came before the body was sent, then what came behind it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    writer.write(head)
    first = await reader.readuntil(b"\r\n\r\n")
    writer.write(body)
    rest = await reader.read() if b"close" in first.lower() else await reader.readuntil(b"}")
    writer.close()
    return first, rest


EXPECT = (
    b"PATCH /config HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nIf-Match: %b\r\n"
    b"Content-Type: application/json\r\nContent-Length: 18\r\n%b\r\n"
)
BODY = b'{"message": "two"}'


async def test_a_client_is_told_to_send_its_body_when_that_is_wanted(site):
    first, rest = await raw(site, EXPECT % (b"*", b""), BODY)
    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
    assert site.conf.current.message == "two"


@pytest.mark.parametrize(
    ("etag", "header", "status"),
    [
        (b"nonsense", b"", b"400"),
        (b"*", b"Origin: http://evil.example\r\n", b"403"),
        (b"*", b"Content-Encoding: nonsense\r\n", b"415"),
    ],
)
async def test_a_client_is_told_a_refusal_before_it_sends_its_body(site, etag, header, status):
    first, rest = await raw(site, EXPECT % (etag, header), BODY)
    assert first.startswith(b"HTTP/1.1 " + status)
    assert b"\r\nconnection: close\r\n" in first.lower(), "the body may follow, and is no request"
    assert b"HTTP/1.1" not in rest


async def test_an_unknown_expectation_is_417(site):
    answer = await patch(site, {}, Expect="200-ok")
    assert answer.status == 417


@pytest.mark.parametrize("values", [{f"key{n}": n for n in range(10_000)}, {"a": [[1] * 100] * 100}])
async def test_a_patch_of_too_many_values_is_413(site, values):
    answer = await patch(site, values)
    assert (answer.status, answer.content_type) == (413, PROBLEM)
    assert "at most 10000 values" in answer.json["detail"]


async def test_a_patch_of_many_values_is_refused_with_the_first_faults_and_the_number_of_the_rest(site):
    answer = await patch(site, {f"key{n:05}": n for n in range(9_999)})
    assert answer.status == 422
    assert len(answer.json["faults"]) + answer.json["report"]["more_faults"] == 9_999
    assert answer.json["report"]["outcome"] == "rejected"


# The audit log


async def test_the_audit_log_has_the_client_the_command_and_the_report(tmp_path):
    audit = tmp_path / "audit.jsonl"
    served = {"safety": Safety(token="sesame", known_as="deploy-key")}
    options = {"overlay": tmp_path / "overlay.toml", "audit_log": audit, "served": served}
    async with site_of(App, VALUES, **options) as site:
        bearer = {"Authorization": "Bearer sesame"}
        tag = (await site.ask("/config", headers=bearer)).headers["ETag"]
        report = (await patch(site, {"message": "two"}, tag=tag, **bearer)).json
        await patch(site, {"message": "three"}, tag=tag, **bearer)
        await post(site, "/reload", **bearer)
        await post(site, "/reload")  # without the token
        await site.ask("/config", headers=bearer)
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert [(line["action"], line["peer"], line["token"]) for line in requests] == [
        ("PATCH /config", "127.0.0.1", "deploy-key"),
        ("PATCH /config", "127.0.0.1", "deploy-key"),
        ("POST /reload", "127.0.0.1", "deploy-key"),
    ]
    assert requests[0]["report"] == report["id"]
    assert requests[1]["report"] is None, "stale: no reload"
    assert {line["id"] for line in lines if line["event"] == "reload"} >= {report["id"], requests[2]["report"]}
    assert "sesame" not in audit.read_text()


async def test_a_client_that_leaves_during_a_patch_aborts_nothing(site):
    entered, release = asyncio.Event(), asyncio.Event()

    async def slow(change):
        entered.set()
        await release.wait()

    site.conf.prepare("message")(slow)
    asking = asyncio.create_task(patch(site, {"message": "two"}, tag="*"))
    await entered.wait()
    asking.cancel()
    await asyncio.wait([asking])
    release.set()
    await until(lambda: site.conf.current.message == "two")
    await until(lambda: "two" in site.overlay.read_text())


async def test_a_reload_requested_during_another_waits_for_the_next_one(site):
    entered, release = asyncio.Event(), asyncio.Event()

    async def slow(change):
        entered.set()
        await release.wait()

    site.conf.prepare("message")(slow)
    site.memory.set({"message": "two"})
    first = asyncio.create_task(post(site, "/reload"))
    await entered.wait()
    site.memory.set({"message": "three"})
    others = [asyncio.create_task(post(site, "/reload")) for _ in range(5)]
    await until(lambda: [len(queued.waiters) for queued in site.conf._host.queue._queued] == [5])
    release.set()
    reports = [answer.json for answer in await asyncio.gather(first, *others)]
    assert len({report["id"] for report in reports[1:]}) == 1, "one more reload answers all of them"
    assert (reports[0]["generation"], reports[1]["generation"]) == (2, 3)
    assert await site.value("/config/message") == "three"


async def test_no_request_holds_the_snapshot_that_it_replaces(site):
    assert (await patch(site, {"message": "two"})).status == 200
    assert site.conf.leased == {}


@pytest.mark.parametrize(
    "path", ["/reload?dryrun=1", "/reload?dry_run=0&dry_run=1", "/confirm?x=1", "/rollback?generation=1"]
)
async def test_an_unknown_parameter_is_refused_and_nothing_happens(site, path):
    reports = len(site.conf.reports)
    answer = await post(site, path)
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (400, PROBLEM)
    assert len(site.conf.reports) == reports


async def test_a_patch_with_an_unknown_parameter_is_refused(site):
    assert (await patch(site, {"message": "two"}, query="?dryrun=1")).status == 400
    assert not site.overlay.exists()


async def test_a_fault_in_a_file_whose_name_is_not_utf_8_is_shown(tmp_path):
    path = tmp_path / "\udcff.toml"
    path.write_text("pool_size = 1")
    conf = HotConf(Database, files=[path], options=Options(watch=False))
    async with conf.running(signals=()), sites.serve(conf) as server, aiohttp.ClientSession() as session:
        path.write_text("pool_size = ")
        async with session.post(f"{server.url}/reload") as answer:
            assert (answer.status, answer.headers["Content-Type"]) == (422, "application/problem+json; charset=utf-8")
            assert "/\udcff.toml:1" in (await answer.json(content_type=PROBLEM))["faults"][0]["origin"]
