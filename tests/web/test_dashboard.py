"""The files of the dashboard: their headers, the token, and what they must not hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

import hotconf.api.dashboard as dashboard
from hotconf import HotConf, Options, Section
from hotconf.sources import Memory
from hotconf.web import Safety, config_app

FOLDER = Path(dashboard.__file__).parent
FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".html", ".css", ".js"))
URLS = ["/dashboard" if name == "index.html" else f"/dashboard/{name}" for name in FILES]


@pytest.fixture
async def client():
    conf = HotConf(Section, sources=[Memory({})], options=Options(watch=False))
    async with conf.running(signals=()), TestClient(TestServer(config_app(conf))) as client:
        yield client


@pytest.mark.parametrize("url", URLS)
async def test_every_file_comes_with_the_strictest_policy(client, url):
    async with client.get(url) as answer:
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert answer.status == 200
        assert answer.charset == "utf-8"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
    none = {"default-src", "base-uri", "form-action", "frame-ancestors"}
    assert {name for name, value in policy.items() if value == "'none'"} == none
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"


@pytest.mark.parametrize("url", URLS)
async def test_a_file_that_is_known_is_not_sent_again(client, url):
    async with client.get(url) as answer:
        tag, body = answer.headers["ETag"], await answer.read()
        assert answer.headers["Cache-Control"] == "no-cache"
    async with client.get(url, headers={"If-None-Match": f'"other", {tag}'}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
        assert "Content-Security-Policy" in answer.headers
    async with client.get(url, headers={"If-None-Match": '"other"'}) as answer:
        assert (answer.status, await answer.read()) == (200, body)


async def test_the_name_with_a_slash_leads_to_the_page(client):
    async with client.get("/dashboard/", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (308, "../dashboard")
    for name in ("nothing.js", "index.html", "__init__.py", "../safety.py", "%2e%2e/safety.py"):
        async with client.get(f"/dashboard/{name}") as answer:
            assert answer.status == 404


@pytest.mark.parametrize("name", FILES)
def test_the_files_name_no_other_place_and_make_no_markup(name):
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=", text)


async def test_the_page_needs_no_token_and_the_data_do():
    conf = HotConf(Section, sources=[Memory({})], options=Options(watch=False))
    app = config_app(conf, safety=Safety(token="t0ken"))
    async with conf.running(signals=()), TestClient(TestServer(app)) as client:
        for url in (*URLS, "/dashboard/"):
            async with client.get(url, headers={"Sec-Fetch-Site": "cross-site"}) as answer:
                assert answer.status == 200, "a link from elsewhere leads here"
            async with client.get(url, headers={"Host": "evil.example"}) as answer:
                assert answer.status == 403, "another name for us is another site"
        for url in ("/config", "/status", "/events", "/explain"):
            async with client.get(url) as answer:
                assert answer.status == 401
        async with client.post("/dashboard") as answer:
            assert answer.status == 401


async def test_a_route_of_that_name_is_not_free_of_the_token():
    async def secret(request):
        return web.Response(text="secret")

    app = web.Application(middlewares=[Safety(token="t0ken").middleware()])
    app.router.add_get("/dashboard", secret)
    async with TestClient(TestServer(app)) as client, client.get("/dashboard") as answer:
        assert answer.status == 401


def palette(scheme):
    """The colours of a scheme, by name."""
    light, dark = re.findall(r":root \{(.*?)\}", (FOLDER / "style.css").read_text(encoding="utf-8"), re.DOTALL)
    blocks = light if scheme == "light" else light + dark
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks))


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_on_what_is_below_it(scheme):
    colours = palette(scheme)
    grounds = ("page", "panel", "plain-tint", "warn-tint")
    pairs = {(text, ground) for text in ("text", "quiet") for ground in grounds}
    pairs |= {(tone, f"{tone}-tint") for tone in ("good", "warn", "bad")}
    pairs |= {(tone, ground) for tone in ("good", "warn", "bad", "strong") for ground in ("page", "panel")}
    pairs |= {("on-strong", "strong")}
    faint = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: round(ratio, 2) for pair, ratio in faint.items() if ratio < 4.5} == {}
