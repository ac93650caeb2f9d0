"""Safety: which requests are answered."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, strategies as st

from hotconf import HotConf, Options, Section
from hotconf.api.safety import _host_name, is_loopback
from hotconf.web import Server, config_app, config_routes
from hotconf.web.safety import Safety, reach_of

TOKEN = "open sesame"


def app_with(safety):
    async def hello(request):
        return web.Response(text="hello")

    app = web.Application(middlewares=[safety.middleware()])
    for path in ("/", "/healthz", "/readyz", "/healthz/deeper", "/config/{path:.*}"):
        app.router.add_get(path, hello)
    return app


async def status(safety, path="/", **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with TestClient(TestServer(app_with(safety))) as client:
        async with client.get(path, headers=names) as reply:
            if reply.status >= 400:
                assert reply.content_type == "application/problem+json"
                assert (await reply.json(content_type=None))["detail"]
            return reply.status


# Host


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8080",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.9.9.9",
        "[::1]",
        "[::1]:8080",
        "config.example:80",
        *("localhost.", "LocalHost.:8080", "127.0.0.1.", "config.example."),  # with the dot of the root
    ],
)
async def test_an_allowed_host_passes(host):
    assert await status(Safety.read(token_file=None, hosts=["Config.Example"]), Host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"),
        *("localhost@evil.example", "evil.example@localhost", "localhost/evil", "evil.example#@localhost"),
        *("[::1", "localhost:99999", "localhost:x", "0", "0.0.0.0", "2130706433", "::ffff:127.0.0.1", "a b", "ü"),
        *("localhost..", ".", ".localhost", "config.example..", "xn--a"),
    ],
)
async def test_any_other_host_is_403(host):
    assert await status(Safety.read(token_file=None, hosts=["config.example"]), Host=host) == 403


@given(st.text(max_size=40))
def test_a_host_header_never_raises(header):
    assert isinstance(_host_name(header), str)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "host:x", "user@host", "http://host"])
def test_a_name_that_could_never_match_is_refused_at_once(name):
    with pytest.raises(ValueError, match="host name"):
        Safety.read(token_file=None, hosts=[name])


@pytest.mark.parametrize(("given", "kept"), [("A.Example:8080", "a.example"), ("[fe80::1]", "fe80::1"), ("::1", "::1")])
def test_a_name_is_kept_without_port_and_case(given, kept):
    assert Safety.read(token_file=None, hosts=[given]).hosts == {kept}


async def test_over_a_socket_file_any_host_passes(tmp_path):
    path = tmp_path / "admin.sock"
    server = Server(app_with(Safety()), unix_socket=path)
    await server.start()
    try:
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector) as session:
            for headers in ({"Host": "whatever"}, {"Host": "[::1"}):
                async with session.get("http://ignored/", headers=headers) as reply:
                    assert reply.status == 200
            for headers in ({"Host": "x", "Origin": "null"}, {"Host": "", "Origin": ""}, {"Host": "[", "Origin": "["}):
                async with session.get("http://ignored/", headers=headers) as reply:
                    assert reply.status == 403
    finally:
        await server.drain(deadline=asyncio.get_running_loop().time() + 1)
        await server.stop()


# Browsers


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8080", "http://localhost:8080"),
        ("LOCALHOST:8080", "http://localhost:8080"),
        ("localhost", "http://localhost:80"),
        ("localhost", "https://localhost"),  # behind a proxy that ends TLS
        ("[::1]:8080", "http://[::1]:8080"),
        ("localhost.:8080", "http://localhost.:8080"),
    ],
)
async def test_the_services_own_page_passes(host, origin):
    assert await status(Safety(), Host=host, Origin=origin) == 200


@pytest.mark.parametrize(
    "origin",
    [
        *("http://evil.example", "http://localhost:9090", "http://localhost", "null", "", "nonsense", "http://["),
        *("https://localhost", "file://", "http://localhost:8080.evil.example", "http://evil.example@localhost:8081"),
    ],
)
async def test_another_page_is_403(origin):
    assert await status(Safety(), Host="localhost:8080", Origin=origin) == 403


@pytest.mark.parametrize(
    ("site", "expected"),
    [("none", 200), ("same-origin", 200), ("same-site", 403), ("cross-site", 403), ("nonsense", 403)],
)
async def test_sec_fetch_site_counts(site, expected):
    assert await status(Safety(), Sec_Fetch_Site=site) == expected


# Token


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Bearer  {TOKEN} "])
async def test_the_token_passes(header):
    assert await status(Safety(token=TOKEN), Authorization=header) == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        TOKEN,
        f"Basic {TOKEN}",
        "Bearer",
        "Bearer ",
        "Bearer open",
        f"Bearer {TOKEN}x",
        "Bearer sésame",
        "Bearer \udcff",
    ],
)
async def test_anything_else_is_401_and_says_how(header):
    safety = Safety(token=TOKEN)
    async with TestClient(TestServer(app_with(safety))) as client:
        reader, writer = await asyncio.open_connection(client.host, client.port)
        raw = header.encode("utf-8", "surrogateescape")
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: " + raw + b"\r\n\r\n")
        answer = (await reader.read()).decode()
        writer.close()
    assert answer.startswith("HTTP/1.1 401 ")
    assert "WWW-Authenticate: Bearer" in answer
    assert TOKEN not in answer


async def test_no_header_at_all_is_401():
    assert await status(Safety(token=TOKEN)) == 401


@pytest.mark.parametrize(("path", "expected"), [("/healthz", 200), ("/readyz", 200)])
async def test_probes_are_free_of_token_and_host(path, expected):
    assert await status(Safety(token=TOKEN), path, Host="10.1.2.3") == expected


@pytest.mark.parametrize("path", ["/healthz/deeper", "/config/healthz", "/config/a/readyz", "/nowhere/healthz"])
async def test_a_key_named_like_a_probe_is_not_free(path):
    assert await status(Safety(token=TOKEN), path) == 401


def test_the_token_is_what_the_file_holds_without_its_line_end(tmp_path):
    path = tmp_path / "token"
    path.write_text(f" {TOKEN}\n")
    assert Safety.read(token_file=path).token == TOKEN


def test_I11_the_token_is_in_no_text_of_its_holder():
    assert TOKEN not in repr(Safety(token=TOKEN, read_token=TOKEN))


@pytest.mark.parametrize("options", [{"token": ""}, {"read_token": ""}, {"token": TOKEN, "token_file": "token"}])
def test_a_token_that_is_empty_or_given_twice_is_refused(options):
    with pytest.raises(ValueError, match="token"):
        Safety(**options)


async def test_wrong_tokens_are_counted_and_logged_at_a_pace(caplog):
    safety = Safety(token=TOKEN)
    async with TestClient(TestServer(app_with(safety))) as client:
        for guess in range(50):
            async with client.get("/", headers={"Authorization": f"Bearer {guess}"}) as reply:
                assert reply.status == 401
        async with client.get("/") as reply:
            assert reply.status == 401
    assert safety.unauthorized == 51
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "requests with a wrong token: 1, the last one from 127.0.0.1"
    ]


# Token files, and the token for reading

READ = "just looking"


async def test_a_token_file_is_followed_and_emptied_it_opens_nothing(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN)
    async with TestClient(TestServer(app_with(Safety(token_file=path)))) as client:

        async def accepted(*tokens):
            found = []
            for token in tokens:
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                async with client.get("/", headers=headers) as reply:
                    found += [token] if reply.status == 200 else []
            return found

        assert await accepted(TOKEN, "new", "") == [TOKEN]
        path.write_text("new\n")
        assert await accepted(TOKEN, "new", "") == ["new"]
        path.write_text("")
        assert await accepted(TOKEN, "new", "") == ["new"]
        path.write_text(f"{TOKEN}\nnew\n")
        assert await accepted(TOKEN, "new", "") == [TOKEN, "new"]


@pytest.mark.parametrize("in_files", [False, True])
async def test_the_token_for_reading_reads(tmp_path, in_files):
    options = {"token": TOKEN, "read_token": READ}
    if in_files:
        for name, token in options.items():
            (tmp_path / name).write_text(token)
        options = {f"{name}_file": tmp_path / name for name in options}
    async with service(**options) as client:
        for method in ("GET", "HEAD"):
            async with client.request(method, "/config", headers={"Authorization": f"Bearer {READ}"}) as reply:
                assert reply.status == 200


async def test_the_token_for_reading_is_403_at_every_writing_endpoint_before_anything_else():
    """Neither the body, nor a parameter or header is looked at: it must not tell what would be said otherwise."""
    bearer = {"Authorization": f"Bearer {READ}"}
    writing = [(method, path) for method, path in [*GUARDED, ("PUT", "/config")] if method not in ("GET", "HEAD")]
    assert len(writing) == 5
    async with service(token=TOKEN, read_token=READ) as client:
        for method, path in writing:
            for options in (
                {},
                {"params": {"nonsense": "1"}},
                {"data": b"no JSON", "headers": {"Content-Type": "text/plain"}},
                {"data": io.BytesIO(b"x" * 2_000_000)},
                {"headers": {"If-Match": "nonsense"}},
            ):
                headers = {**bearer, **options.pop("headers", {})}
                async with client.request(method, path, headers=headers, **options) as reply:
                    assert (reply.status, reply.content_type) == (403, "application/problem+json"), (method, path)
                    assert (await reply.json(content_type=None))["detail"] == "this token may only read"


async def test_with_a_token_for_reading_alone_no_request_writes():
    safety = Safety(read_token=READ)
    safety.check_bind("0.0.0.0")
    assert await status(safety) == 401
    assert await status(safety, Authorization=f"Bearer {READ}") == 200


async def test_streams_and_polls_of_a_token_that_was_replaced_end(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN)
    headers = {"Authorization": f"Bearer {TOKEN}", "If-None-Match": "*"}
    async with service(token_file=path) as client:
        poll = asyncio.create_task(client.get("/config?wait=300", headers=headers))
        async with client.get("/events", headers=headers) as stream:
            assert (await stream.content.readline()).startswith(b"retry:")
            path.write_text("new")
            assert (await stream.content.read()).endswith(b"event: shutdown\ndata: {}\n\n")
        assert (await poll).status == 304
        async with client.get("/events", headers=headers) as reply:
            assert reply.status == 401


async def test_refused_requests_are_a_metric():
    async with service(token=TOKEN) as client:
        await client.get("/config")
        async with client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}) as reply:
            assert "hotconf_http_unauthorized_total 1.0" in await reply.text()


# Binding


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST"])
def test_loopback_needs_no_token(host):
    Safety().check_bind(host)
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "config.example", "localhost.example", "0"])
def test_any_other_address_needs_one(host):
    with pytest.raises(ValueError, match="--token-file"):
        Safety().check_bind(host)
    Safety(token=TOKEN).check_bind(host)


# Everywhere


class Nothing(Section):
    pass


def endpoints():
    """Every endpoint, with its placeholder filled in."""
    for route in config_routes(HotConf(Nothing)):
        path, placeholder, _ = route.path.partition("{")
        named = {"/dashboard/": "app.js", "/config/": "message", "/explain/": "message"}
        yield route.method, path + (named.get(path, "1") if placeholder else "")


OPEN = {"/healthz", "/readyz"}
GUARDED = sorted((method, path) for method, path in endpoints() if path not in OPEN)
PAGES = {path for _, path in GUARDED if path.startswith("/dashboard")}
"""Pages hold no data and need no token, which a browser cannot send when it opens a page."""


@contextlib.asynccontextmanager
async def service(**options):
    conf = HotConf(Nothing, options=Options(watch=False))
    async with conf.running(signals=()), TestClient(TestServer(config_app(conf, safety=Safety(**options)))) as client:
        yield client


async def every_status(client, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    found = {}
    for method, path in GUARDED:
        async with client.request(method, path, headers=named) as reply:
            found[method, path] = reply.status
            assert reply.status < 400 or reply.content_type == "application/problem+json", (method, path)
    return found


async def test_no_endpoint_answers_to_a_foreign_host():
    async with service() as client:
        assert set((await every_status(client, Host="evil.example")).values()) == {403}


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}])
async def test_no_endpoint_with_data_answers_to_another_site(headers):
    async with service() as client:
        statuses = await every_status(client, **headers)
        assert {status for (_, path), status in statuses.items() if path not in PAGES} == {403}


async def test_no_endpoint_with_data_answers_without_the_token():
    async with service(token=TOKEN) as client:
        statuses = await every_status(client)
        assert {status for (_, path), status in statuses.items() if path not in PAGES} == {401}
        assert {status for (_, path), status in statuses.items() if path in PAGES} == {200}


async def test_the_probes_answer_without_host_and_token():
    async with service(token=TOKEN) as client:
        for path in OPEN:
            async with client.get(path, headers={"Host": "10.1.2.3"}) as reply:
                assert reply.status == 200


@pytest.mark.parametrize(("option", "status"), [(True, 200), (False, 403)])
async def test_metrics_are_open_by_option(option, status):
    async with service(token=TOKEN, open_metrics=option) as client:
        async with client.get("/metrics", headers={"Host": "10.1.2.3"}) as reply:
            assert reply.status == status
        async with client.get("/config", headers={"Host": "10.1.2.3"}) as reply:
            assert reply.status == 403


async def test_at_an_address_that_other_machines_reach_nothing_is_answered_without_a_token(monkeypatch):
    """The client writes the Host, so that it is no protection against the network."""
    monkeypatch.setattr("hotconf.web.safety.reach_of", lambda _sockname: "network")
    async with service() as client:
        statuses = await every_status(client)
        assert set(statuses.values()) == {403}
        async with client.get("/config") as reply:
            assert "token" in (await reply.json(content_type=None))["detail"]
        async with client.get("/healthz") as reply:
            assert reply.status == 200
    async with service(token=TOKEN) as client:
        async with client.get("/config", headers={"Authorization": f"Bearer {TOKEN}"}) as reply:
            assert reply.status == 200


@pytest.mark.parametrize(
    ("name", "reach"),
    [
        (("127.0.0.1", 8080), "machine"),
        (("127.9.9.9", 8080), "machine"),
        (("::1", 8080, 0, 0), "machine"),
        (("10.0.0.1", 8080), "network"),
        (("fe80::1", 8080, 0, 2), "network"),
        ("/run/app.sock", "file"),
        ("", "file"),
        (b"\0abstract", "file"),
        (None, "network"),
    ],
)
def test_the_reach_is_that_of_the_address_that_was_called(name, reach):
    assert reach_of(name) == reach


@pytest.mark.parametrize("pattern", ["*", "*.example", ".example", "a/b", "a b", ""])
def test_a_pattern_is_no_host_name(pattern):
    with pytest.raises(ValueError, match="not a host name"):
        Safety.read(token_file=None, hosts=[pattern])


async def test_letters_that_fold_into_localhost_are_not_localhost():
    folded = "\N{CIRCLED LATIN SMALL LETTER L}ocalhost"
    async with service() as client, client.get("/config", headers={"Host": folded}) as reply:
        assert reply.status == 403
