"""Ready answers, and repeating them to those who ask the same again: what may be spared, and what never."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus

import pytest
from aiohttp import web

from hotconf.web.problem import problems
from hotconf.web.safety import Safety
from hotconf.web.server.limits import Limits
from hotconf.web.server.ready import Ready
from hotconf.web.server.repeats import Repeats
from tests.web.clients import client_of, draining, serving

HEAD = "GET {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n"


class Place:
    """One ready answer behind a handler that counts how often it is asked."""

    def __init__(self, **options):
        self.asked = 0
        self.current = True
        headers = {"Content-Type": "text/plain", "ETag": '"1"'}
        self.ready = Ready(HTTPStatus.OK, headers, b"hello", holds=lambda: self.current)
        self.touch = lambda response: None
        self.app = web.Application(**options)
        self.app.router.add_get("/", self.handle)
        self.app.router.add_get("/other", self.other)

    async def handle(self, request):
        self.asked += 1
        response = self.ready.response()
        self.touch(response)
        return response

    async def other(self, request):
        return web.Response(text="other")


@contextlib.asynccontextmanager
async def place_and_client(place=None, **options):
    place = place or Place()
    async with serving(place.app, **options) as server, client_of(server) as client:
        yield place, server, client


def head(path="/", *lines):
    return HEAD.format(path, "".join(f"{line}\r\n" for line in lines)).encode()


async def ask(client, data=None):
    client.send(data or head())
    return await client.reply()


async def teach(client, data=None):
    """Ask twice: what comes back is worth to be known."""
    await ask(client, data)
    return await ask(client, data)


async def test_what_came_back_is_answered_without_asking_the_handler():
    async with place_and_client() as (place, server, client):
        first = await teach(client)
        assert (first.status, first.body) == (200, b"hello")
        async with client_of(server) as another:
            for again in (await ask(client), await ask(another)):
                assert {**again.headers, "date": ""} == {**first.headers, "date": ""}
                assert (again.status, again.body) == (first.status, first.body)
        assert place.asked == 2


async def test_what_is_never_asked_twice_in_a_row_costs_nothing():
    async with place_and_client() as (place, server, client):
        for _ in range(3):
            await ask(client, head("/", "X: 1"))
            await ask(client, head("/", "X: 2"))
        assert place.asked == 6
        assert not server._repeats._known


async def test_once_it_does_not_hold_any_more_the_handler_is_asked():
    async with place_and_client() as (place, _, client):
        await teach(client)
        place.current = False
        place.ready = Ready(HTTPStatus.OK, {}, b"newer", holds=lambda: True)
        assert (await ask(client)).body == b"newer"
        assert (await ask(client)).body == b"newer"
        assert place.asked == 3


@pytest.mark.parametrize(
    "again",
    [
        head("/", "X-Request-Id: 2"),
        head("/?"),
        head("/") + head("/"),
        head("/", "Content-Length: 2") + b"{}",
        head("/").replace(b"HTTP/1.1", b"HTTP/1.0"),
        head("/", "Connection: close"),
        head("/").replace(b"GET", b"HEAD"),
    ],
)
async def test_a_request_that_differs_in_one_byte_is_another_one(again):
    async with place_and_client() as (place, _, client):
        await teach(client)
        client.send(again)
        await client.head()
        assert place.asked >= 3


@pytest.mark.parametrize(
    "asked",
    [
        head("/", "Connection: close"),
        head("/").replace(b"HTTP/1.1", b"HTTP/1.0"),
        head("/").replace(b"GET", b"HEAD"),
        head("/", "X: " + "x" * 3000),
        head("/", "Content-Length: 2") + b"{}",
    ],
)
async def test_what_may_mean_more_than_its_head_says_is_never_repeated(asked):
    async with place_and_client() as (place, server, client):
        for count in (1, 2, 3):
            client.send(asked)
            _, headers = await client.head()
            if headers.get("content-length") and not asked.startswith(b"HEAD"):
                await client.reader.readexactly(int(headers["content-length"]))
            assert place.asked == count
            if ends(headers, asked):
                break
        assert not server._repeats._known


def ends(headers, asked):
    """Whether a connection ends with this answer."""
    return headers.get("connection") == "close" or (b"HTTP/1.0" in asked and "connection" not in headers)


async def test_a_body_behind_a_head_that_came_alone_is_no_request():
    async with place_and_client() as (place, server, client):
        for count in (1, 2, 3):
            client.send(head("/", "Content-Length: 2"))
            assert (await client.reply()).body == b"hello"
            client.send(b"{}")
            assert place.asked == count
        assert not server._repeats._known
        assert (await ask(client, head("/other"))).body == b"other"


async def test_pipelined_requests_in_pieces_keep_their_own_answers():
    class Slow(Place):
        async def handle(self, request):
            await self.gate.wait()
            return await super().handle(request)

    place = Slow()
    place.gate = asyncio.Event()
    async with place_and_client(place) as (_, server, client):
        client.send(head("/"))
        while not server._in_flight:
            await asyncio.sleep(0)
        client.send(head("/other"))
        await asyncio.sleep(0.05)
        place.gate.set()
        assert [(await client.reply()).body for _ in range(2)] == [b"hello", b"other"]
        assert [(await ask(client, head(path))).body for path in ("/other", "/", "/other")] == [
            b"other",
            b"hello",
            b"other",
        ]


async def test_what_goes_on_with_a_head_is_no_request_of_its_own():
    async with place_and_client() as (_, _, client):
        await teach(client)
        await ask(client, head("/other"))
        client.send(head("/other") + b"GET /other HTTP/1.1\r\nX: ")
        assert (await client.reply()).body == b"other"
        await asyncio.sleep(0.05)
        assert (await ask(client, head("/"))).body == b"other"


async def test_a_head_in_two_pieces_is_read_as_ever():
    async with place_and_client() as (place, _, client):
        await teach(client)
        whole = head("/")
        client.send(whole[:9])
        await asyncio.sleep(0.05)
        client.send(whole[9:])
        assert (await client.reply()).body == b"hello"
        assert place.asked == 3


async def test_in_a_drain_every_answer_says_that_it_is_the_last():
    async with place_and_client(idle_linger=5.0) as (place, server, client):
        await teach(client)
        server.begin_drain()
        reply = await ask(client)
        assert (reply.body, reply.closes, place.asked) == (b"hello", True, 3)
        await draining(server)


async def test_a_drain_that_begins_while_an_answer_leaves_is_no_exception():
    place = Place()
    place.ready = Ready(HTTPStatus.OK, {}, b"x" * 8_000_000, holds=lambda: True)
    async with place_and_client(place, idle_linger=5.0) as (_, server, client):
        await ask(client)
        client.send(head())
        await client.head()  # the rest of it waits for us to read on
        server.begin_drain()
        await client.reader.readexactly(8_000_000)
        async with client_of(server) as another:
            assert (await ask(another)).closes


async def test_a_limit_that_shrank_holds_for_who_asks_again():
    limits = Limits()
    place = Place()
    async with serving(place.app, limits=lambda: limits) as server, client_of(server) as client:
        long = head("/", "X: " + "x" * 1500)
        await teach(client, long)
        limits = Limits(header_size=1024)
        assert (await ask(client, long)).status == 431


@web.middleware
async def foreign(request, handler):
    request.config_dict[SEEN].append(request.path)
    return await handler(request)


SEEN = web.AppKey("seen", list)


async def test_a_middleware_that_is_not_ours_sees_every_request():
    place = Place(middlewares=[problems, foreign])
    place.app[SEEN] = []
    async with place_and_client(place) as (_, _, client):
        await teach(client)
        await ask(client)
    assert place.app[SEEN] == ["/", "/", "/"]


async def test_our_own_middlewares_decide_once():
    place = Place(middlewares=[problems, Safety().middleware()])
    async with place_and_client(place) as (_, _, client):
        await teach(client)
        await ask(client)
        assert place.asked == 2
        assert (await ask(client, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")).status == 403
    assert place.asked == 2


async def test_mounted_in_another_application_its_middlewares_see_every_request():
    inner, outer = Place(), web.Application(middlewares=[foreign])
    outer[SEEN] = []
    outer.add_subapp("/inner", inner.app)
    async with serving(outer) as server, client_of(server) as client:
        for _ in range(3):
            assert (await ask(client, head("/inner/"))).body == b"hello"
    assert (inner.asked, outer[SEEN]) == (3, ["/inner/"] * 3)


async def test_a_signal_sees_every_answer_and_may_change_it():
    place = Place()

    async def sign(request, response):
        response.headers["X-Signed"] = "yes"

    place.app.on_response_prepare.append(sign)
    async with place_and_client(place) as (_, _, client):
        for _ in range(3):
            assert (await ask(client)).headers["x-signed"] == "yes"
    assert place.asked == 3


async def test_with_an_access_log_every_request_is_in_it(caplog):
    caplog.set_level("INFO", logger="aiohttp.access")
    async with place_and_client(access_log=True) as (_, _, client):
        for _ in range(3):
            reply = await ask(client)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert all('"GET / HTTP/1.1" 200 ' in line for line in lines)
    assert reply.body == b"hello"


async def test_an_answer_that_names_no_end_is_never_repeated():
    place = Place()
    place.ready = Ready(HTTPStatus.OK, {}, b"hello")
    async with place_and_client(place) as (_, _, client):
        await teach(client)
        await ask(client)
    assert place.asked == 3


@pytest.mark.parametrize(
    ("touch", "seen"),
    [
        (lambda response: response.headers.update({"X-Own": "1"}), ("x-own", "1")),
        (lambda response: response.headers.pop("ETag"), ("etag", None)),
        (lambda response: response.set_cookie("a", "b"), ("set-cookie", "a=b; Path=/")),
        (lambda response: setattr(response, "body", b"other"), ("content-length", "5")),
        (lambda response: setattr(response, "text", "longer than before"), ("content-length", "18")),
        (lambda response: response.force_close(), ("connection", "close")),
        (lambda response: response.enable_compression(web.ContentCoding.gzip), ("content-encoding", "gzip")),
        (lambda response: response.set_status(203), ("etag", '"1"')),
    ],
)
async def test_an_answer_that_was_touched_is_an_answer_of_its_own(touch, seen):
    place = Place()
    place.touch = touch
    async with place_and_client(place) as (_, server, client):
        reply = await ask(client)
        assert reply.headers.get(seen[0]) == seen[1]
        assert "date" in reply.headers
        assert "server" in reply.headers
        place.touch = lambda response: None
        async with client_of(server) as another:
            clean = await ask(another)
    assert (clean.status, clean.body, clean.headers["etag"]) == (200, b"hello", '"1"')
    assert "x-own" not in clean.headers


async def test_ready_or_not_it_says_the_same():
    """Ours against aiohttp's own response, byte for byte but for the order of the headers."""
    ready = Ready(HTTPStatus.OK, {"Content-Type": "text/plain", "ETag": '"1"'}, b"hello")
    bodiless = Ready(HTTPStatus.NOT_MODIFIED, {"ETag": '"1"'})

    async def plain(request):
        return web.Response(body=b"hello", headers={"Content-Type": "text/plain", "ETag": '"1"'})

    async def plain_bodiless(request):
        return web.Response(status=304, headers={"ETag": '"1"'})

    async def ours(request):
        return (bodiless if "bodiless" in request.path else ready).response()

    app = web.Application()
    for path, handler in {"/": ours, "/plain": plain, "/bodiless": ours, "/plain-bodiless": plain_bodiless}.items():
        app.router.add_get(path, handler)
    async with serving(app) as server:
        for method, version, mine, theirs in [
            ("GET", "1.1", "/", "/plain"),
            ("GET", "1.0", "/", "/plain"),
            ("HEAD", "1.1", "/", "/plain"),
            ("GET", "1.1", "/bodiless", "/plain-bodiless"),
            ("GET", "1.0", "/bodiless", "/plain-bodiless"),
            ("HEAD", "1.1", "/bodiless", "/plain-bodiless"),
        ]:
            answers = []
            for path in (mine, theirs):
                async with client_of(server) as client:
                    keep = "Connection: keep-alive\r\n" if version == "1.0" else ""
                    client.send(f"{method} {path} HTTP/{version}\r\nHost: x\r\n{keep}\r\n".encode())
                    status, headers = await client.head()
                    length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
                    answers.append((status, {**headers, "date": ""}, await client.reader.readexactly(length)))
            assert answers[0] == answers[1]


def test_what_is_kept_has_a_bound_and_nothing_that_does_not_hold():
    repeats, current = Repeats(), [True]
    old, new = (Ready(HTTPStatus.OK, {}, holds=holds) for holds in (lambda: current[0], lambda: True))
    for number in range(5000):
        repeats._keep(("machine", b"%d" % number), old)
    assert len(repeats._known) <= 1024
    current[0] = False
    repeats._keep(("machine", b"new"), new)
    assert repeats._known == {("machine", b"new"): new}
