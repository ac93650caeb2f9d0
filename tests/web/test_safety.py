"""Safety: which requests get through at all."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, strategies as st

from hotconf.web import Server
from hotconf.web.problem import problems
from hotconf.web.safety import Safety, _host_name, is_loopback

TOKEN = "open sesame"


def app_with(safety):
    async def hello(request):
        return web.Response(text="hello")

    app = web.Application(middlewares=[problems, safety.middleware()])
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
    ],
)
async def test_a_host_that_is_ours_passes(host):
    assert await status(Safety.read(token_file=None, hosts=["Config.Example"]), Host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"),
        *("localhost@evil.example", "evil.example@localhost", "localhost/evil", "evil.example#@localhost"),
        *("[::1", "localhost:99999", "localhost:x", "0", "0.0.0.0", "2130706433", "::ffff:127.0.0.1", "a b", "ü"),
        *("config.example.", "xn--a"),
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


async def test_over_a_socket_file_any_host_will_do(tmp_path):
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
    ],
)
async def test_our_own_page_passes(host, origin):
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
async def test_what_the_browser_says_of_the_page_counts(site, expected):
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
async def test_what_only_looks_like_a_probe_is_not_free(path):
    assert await status(Safety(token=TOKEN), path) == 401


def test_the_token_is_what_the_file_holds_without_its_line_end(tmp_path):
    path = tmp_path / "token"
    path.write_text(f" {TOKEN}\n")
    assert Safety.read(token_file=path).token == TOKEN


def test_I11_the_token_is_in_no_text_of_its_holder():
    assert TOKEN not in repr(Safety(token=TOKEN))


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
