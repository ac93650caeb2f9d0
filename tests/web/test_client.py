"""The client: its URLs, what it makes of responses, and how it follows a part."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json

import pytest
from aiohttp import web
from hypothesis import given, strategies as st

from hotconf.sources.frames import Frames
from hotconf.web.client import Client, Declined, Event, Unreachable, _place
from hotconf.web.server.server import Server


@contextlib.asynccontextmanager
async def serving(*routes, **place):
    app = web.Application()
    app.add_routes(routes)
    server = Server(app, port=0, **place)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://127.0.0.1:8080", (None, "http://127.0.0.1:8080")),
        ("https://conf.example/prefix/?x=1#y", (None, "https://conf.example/prefix/")),
        ("http://[::1]:80", (None, "http://[::1]")),
        ("unix:/run/s", ("/run/s", "http://localhost/")),
        ("unix:s", ("s", "http://localhost/")),
        ("http://unix:/run/s:", ("/run/s", "http://localhost/")),
    ],
)
def test_a_url_names_a_place(url, place):
    socket, base = _place(url)
    assert (socket, str(base)) == place


@pytest.mark.parametrize("url", ["", "unix:", "http://unix::", "ftp://host", "host", "http://", "http://h:p", "//h"])
def test_an_unusable_url_is_a_value_error(url):
    with pytest.raises(ValueError):
        Client(url)


def test_a_password_in_a_url_is_refused_and_not_repeated():
    with pytest.raises(ValueError, match="use a token file") as caught:
        Client("http://user:canary@host")
    assert "canary" not in str(caught.value)


STREAM = (
    ": hello\nretry: 5\n\nid: a.1\nevent: config\ndata: {}\n\nid: a.2\r\nevent: shutdown\r\ndata: ü\r\n\r\ndata: cut"
)


@given(cuts=st.lists(st.integers(0, len(STREAM.encode())), max_size=20))
def test_a_stream_may_be_cut_anywhere(cuts):
    data, frames, found = STREAM.encode(), Frames(), []
    edges = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        found += frames.feed(data[start:end])
    assert [event for event in found if event[0] != "message"] == [("config", "a.1", "{}"), ("shutdown", "a.2", "ü")]


async def test_requests_go_below_the_prefix_with_the_token():
    async def status(request):
        return web.json_response({"path": request.path, "token": request.headers.get("Authorization")})

    async with (
        serving(web.get("/prefix/status", status)) as server,
        Client(f"{server.url}/prefix/", token="sesame") as client,
    ):
        assert (await client.get("status")).document == {"path": "/prefix/status", "token": "Bearer sesame"}


async def test_a_problem_says_what_to_do_and_names_every_fault():
    async def refuse(_request):
        faults = [{"text": "a.toml:1:1: a: no"}, {"text": "b"}, {}, 5]
        return web.json_response({"detail": "mend it", "faults": faults}, status=422)

    async with serving(web.patch("/config", refuse)) as server, Client(server.url) as client:
        with pytest.raises(Declined) as caught:
            await client.report("PATCH", "config", body={})
    assert (caught.value.status, caught.value.faults) == (422, ["a.toml:1:1: a: no", "b"])
    assert str(caught.value) == f"{server.url}: mend it\n  a.toml:1:1: a: no\n  b"


async def test_a_redirect_is_not_followed_with_the_token():
    requests = []

    async def elsewhere(request):
        requests.append(request.path)
        raise web.HTTPFound("/other")

    async with (
        serving(web.get("/status", elsewhere), web.get("/other", elsewhere)) as server,
        Client(server.url, token="sesame") as client,
    ):
        with pytest.raises(Declined, match="responded with 302 Found"):
            await client.get("status")
    assert requests == ["/status"]


# Following


class Feed:
    """Answers each request to /events with the next script."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.tokens = []

    async def stream(self, request):
        self.tokens.append(request.headers.get("Last-Event-ID"))
        script = self.scripts.pop(0) if self.scripts else web.json_response({"detail": "enough"}, status=404)
        if isinstance(script, web.Response):
            return script
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in script:
            await response.write(event)
        return response


def event(token, value, **more):
    data = json.dumps({"generation": 1, "changed": [], "value": value, **more})
    return f"id: {token}\nevent: config\ndata: {data}\n\n".encode()


async def followed(*scripts, monkeypatch):
    """Return what `follow` yields until a script declines for good, and the tokens that it sent."""
    monkeypatch.setattr("hotconf.web.client._RETRIES", (0.001,))
    feed, found = Feed(*scripts), []
    async with serving(web.get("/events", feed.stream)) as server, Client(server.url) as client:
        with pytest.raises(Declined, match="enough"):
            async with asyncio.timeout(10):
                async for item in client.follow(("a", "b c")):
                    found.append(item)  # noqa: PERF401 - what came before the end counts
    return found, feed.tokens


async def test_a_state_is_yielded_once_across_streams(monkeypatch):
    large = "x" * 300_000
    busy = web.json_response({"detail": "draining"}, status=503)
    found, tokens = await followed(
        [event("s.1", 1), event("s.2", large), b"event: shutdown\ndata: {}\n\n"],
        busy,
        [event("t.1", large), event("t.2", None, gone=True), event("t.3", None)],
        [b": nothing new\n\n"],
        monkeypatch=monkeypatch,
    )
    items = [item if isinstance(item, Unreachable) else (item.token, item.data["value"], item.gone) for item in found]
    assert [item for item in items if isinstance(item, tuple)] == [
        ("s.1", 1, False),
        ("s.2", large, False),
        ("t.2", None, True),
        ("t.3", None, False),
    ]
    assert [str(item) for item in items if isinstance(item, Unreachable)] == [str(items[2])]
    assert "draining" in str(items[2])
    assert tokens == [None, "s.2", "s.2", "t.3", "t.3"]


async def test_the_first_attempt_is_not_retried():
    async with Client("unix:/no/such/socket") as client:
        with pytest.raises(Unreachable, match="No such file or directory"):
            await anext(client.follow())


async def test_a_part_is_requested_by_its_dotted_path():
    requests = []

    async def stream(request):
        requests.append(request.query["path"])
        return web.json_response({"detail": "enough"}, status=404)

    async with serving(web.get("/events", stream)) as server, Client(server.url) as client:
        with pytest.raises(Declined):
            await anext(client.follow(("a", "b c")))
    assert requests == ['a."b c"']


def test_an_event_knows_whether_its_part_is_gone():
    assert Event("t", {"gone": True}).gone
    assert not Event("t", {}).gone
