"""Documents behind HTTP: any URL, and another hotconf."""

import asyncio
import contextlib
import json

import pytest
from aiohttp import web

from hotconf import HotConf, Options, Settings
from hotconf.errors import SourceError, SourceUnreachable
from hotconf.sources import Http
from hotconf.testing.faults import free_port
from hotconf.web import config_app
from tests.engine.test_engine import until


class App(Settings):
    port: int = 1
    message: str = "none"
    tags: list[str] = []
    password: str = "own"
    database: dict[str, str] = {}


class Site:
    """A server of one document, which counts what it is asked and answers as it is told."""

    def __init__(self):
        self.body, self.status, self.headers = b"port = 1\n", 200, {}
        self.asked = []
        self.delay = 0.0

    async def handle(self, request):
        self.asked.append(request)
        await asyncio.sleep(self.delay)
        headers = dict(self.headers)
        if request.headers.get("If-None-Match") == headers.get("ETag") and "ETag" in headers:
            return web.Response(status=304, headers=headers)
        return web.Response(body=self.body, status=self.status, headers=headers)


@contextlib.asynccontextmanager
async def served(app, port=0):
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def site():
    found = Site()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", found.handle)
    async with served(app) as found.url:
        yield found


def quick(source):
    return HotConf(App, sources=[source], options=Options(watch=False))


async def test_a_document_has_places_and_a_revision(site):
    site.headers = {"ETag": 'W/"seven"'}
    site.body = b"# shop\nport = 7\n"
    source = Http(f"{site.url}/shop/app.toml?secret=1")
    conf = quick(source)
    async with conf.running(signals=()):
        assert conf.current.port == 7
        assert str(conf.explain("port").origin) == f"{site.url}/shop/app.toml:2:1"
        assert conf.status.revisions == {source.name: "seven"}
        assert "secret" not in json.dumps(conf.status.sources, default=str)
        await conf.reload()
    assert [request.headers.get("If-None-Match") for request in site.asked][:2] == [None, 'W/"seven"']


@pytest.mark.parametrize(
    ("body", "path", "headers", "options"),
    [
        (b'{"port": 7}', "/app", {"Content-Type": "application/json"}, {}),
        (b"port: 7", "/app.yaml", {}, {}),
        (b"port: 7", "/app.txt", {}, {"format": "yaml"}),
    ],
)
async def test_suffix_type_or_option_tells_the_format(site, body, path, headers, options):
    site.body, site.headers = body, headers
    assert (await Http(site.url + path, **options).read()).values == {"port": 7}


async def test_a_document_of_no_known_format_is_refused(site):
    with pytest.raises(SourceError, match="give format="):
        await Http(f"{site.url}/app").read()


async def test_a_malformed_document_is_refused_at_its_place(site):
    site.body = b"port = \n"
    with pytest.raises(SourceError, match=r"app\.toml:1:8"):
        await Http(f"{site.url}/app.toml").read()


@pytest.mark.parametrize("status", [404, 410])
async def test_what_is_absent_is_no_outage(site, status):
    conf = quick(Http(f"{site.url}/app.toml"))
    async with conf.running(signals=()):
        site.status = status
        report = await conf.reload()
        assert (report.outcome, report.faults[0].message) == ("rejected", "does not exist")
    assert (await Http(f"{site.url}/app.toml", required=False).read()).values == {}


@pytest.mark.parametrize(
    ("status", "words"), [(401, "unauthorized (401)"), (403, "forbidden (403)"), (503, "responded with 503")]
)
async def test_I16_what_is_denied_is_kept(site, status, words):
    conf = quick(Http(f"{site.url}/app.toml"))
    async with conf.running(signals=()):
        site.status = status
        assert (await conf.reload()).outcome == "unchanged"
        assert conf.status.sources[0]["state"] == "stale"
        assert words in conf.status.sources[0]["error"]


async def test_a_server_that_is_down_is_an_outage():
    with pytest.raises(SourceUnreachable, match="Connection refused"):
        await Http(f"http://127.0.0.1:{free_port()}/app.toml").read()


async def test_a_document_that_is_too_large_is_refused(site):
    site.body = b"#" * 2000
    with pytest.raises(SourceError, match="larger than 1000 bytes"):
        await Http(f"{site.url}/app.toml", size_limit=1000).read()


async def test_redirects_are_followed_only_where_that_is_wanted(site):
    async def move(request):
        raise web.HTTPFound(f"{site.url}/app.toml")

    app = web.Application()
    app.router.add_get("/app.toml", move)
    async with served(app) as url:
        with pytest.raises(SourceError, match=r"redirects \(302\)"):
            await Http(f"{url}/app.toml").read()
        assert (await Http(f"{url}/app.toml", redirects=True).read()).values == {"port": 1}


async def test_a_url_is_asked_again_at_its_interval(site):
    conf = quick(Http(f"{site.url}/app.toml", interval=0.02))
    async with conf.running(signals=()):
        await until(lambda: len(site.asked) > 3)
        assert len(conf.reports) == 1, "the same document causes no reload"
        site.body = b"port = 2\n"
        await until(lambda: conf.current.port == 2)


async def test_the_token_is_read_for_each_request(site, tmp_path):
    token = tmp_path / "token"
    token.write_text("first\n")
    source = Http(f"{site.url}/app.toml", token_file=token)
    await source.read()
    token.write_text("second\n")
    await source.read()
    assert [request.headers["Authorization"] for request in site.asked] == ["Bearer first", "Bearer second"]
    token.write_text("")
    with pytest.raises(SourceUnreachable, match="cannot be read"):
        await source.read()


@pytest.mark.parametrize(
    "url", ["http://user:hunter2@host/a.toml", "ftp://host/a.toml", "http://", "app.toml", "http://["]
)
def test_a_url_is_one_of_http_without_a_password(url):
    with pytest.raises(ValueError) as raised:
        Http(url)
    assert "hunter2" not in str(raised.value)


class Upstream(Settings):
    port: int = 1
    message: str = "up"
    password: str = "hunter2"
    database: dict[str, str] = {"url": "db://user:hunter2@host", "name": "shop"}


@contextlib.asynccontextmanager
async def upstream(port=0):
    conf = HotConf(Upstream, options=Options(watch=False))
    async with conf.running(signals=()), served(config_app(conf), port) as url:
        yield conf, url


async def test_another_hotconf_is_followed_by_its_stream_and_masked_values_are_left_out():
    async with upstream() as (up, url):
        conf = quick(Http(url))
        async with conf.running(signals=()):
            assert (conf.current.message, conf.current.password) == ("up", "own")
            assert conf.current.database == {"name": "shop"}
            assert str(conf.explain("message").origin) == f"{url}/config"
            async with up.override(message="new"):
                await until(lambda: conf.current.message == "new")
            await until(lambda: conf.current.message == "up")
            assert conf.status.sources[0]["following"]


async def test_a_part_of_another_hotconf():
    async with upstream() as (_, url):
        assert (await Http(f"{url}/config/database").read()).values == {"name": "shop"}


async def test_I14_another_hotconf_that_comes_back_is_read():
    port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(upstream(port))
        conf = quick(Http(f"http://127.0.0.1:{port}"))
        async with conf.running(signals=()):
            await stack.aclose()
            await until(lambda: conf.status.sources[0]["state"] == "stale")
            async with upstream(port) as (up, _), up.override(message="back"):
                await until(lambda: conf.current.message == "back")
                assert conf.status.sources[0]["state"] == "fresh"
