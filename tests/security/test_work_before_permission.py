"""Nothing is worked on for a client before it is known that it may ask, and that a handler wants it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging

import pytest
from aiohttp import web

from hotconf import Settings
from hotconf.api.endpoints import BODY_LIMIT
from hotconf.web import Safety
from hotconf.web.server import connection as module
from tests.web.clients import client_of, serving, until
from tests.web.server.test_limits import SOON
from tests.web.sites import site_of

PATIENCE = 8


@pytest.fixture(autouse=True)
def silence(caplog):
    """Nothing that a client does wrong is logged as an error."""
    yield
    during = caplog.get_records("call")
    assert [record.getMessage() for record in during if record.levelno >= logging.ERROR] == []


@pytest.fixture(scope="module")
def bomb():
    return gzip.compress(b"\0" * 200_000_000)


def compressed(path, body, *, length=True):
    size = b"Content-Length: %d" % len(body) if length else b"Transfer-Encoding: chunked"
    raw = body if length else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n%s\r\n\r\n" % (path, size) + raw


@pytest.mark.parametrize("length", [True, False], ids=["Content-Length", "chunked"])
@pytest.mark.parametrize("path", [b"/", b"/missing", b"/raises", b"/read"])
async def test_a_compressed_body_that_no_handler_reads_is_not_inflated(gates, bomb, path, length, monkeypatch):
    inflated = []
    begin = module.Connection.begin

    def note(self, *args):
        inflated.append(args[2])
        return begin(self, *args)

    monkeypatch.setattr(module.Connection, "begin", note)

    async def raises(request):
        raise web.HTTPConflict

    app = gates.app(middlewares=[Safety(token="open sesame").middleware()] if path == b"/" else [])
    app.router.add_post("/raises", raises)
    app.router.add_post("/read", gates.upload)
    async with serving(app) as server, client_of(server) as client:
        client.send(compressed(path, bomb, length=length))
        reply = await client.reply()
        assert (reply.status, reply.closes) == (
            {b"/": 401, b"/missing": 404, b"/raises": 409, b"/read": 413}[path],
            True,
        )
        async with asyncio.timeout(PATIENCE):
            assert await client.ended(), "and no reset"
            await until(lambda: not server._connections())
    (payload,) = inflated
    assert payload.total_bytes < 10_000_000


async def test_a_handler_that_fails_inflates_nothing(gates, bomb, caplog, monkeypatch):
    inflated = []
    begin = module.Connection.begin
    monkeypatch.setattr(module.Connection, "begin", lambda self, *args: inflated.append(args[2]) or begin(self, *args))

    async def fails(request):
        raise ValueError("a bug")

    app = gates.app()
    app.router.add_post("/fails", fails)
    async with serving(app) as server, client_of(server) as client:
        client.send(compressed(b"/fails", bomb))
        assert (await client.reply()).status == 500
        await until(lambda: not server._connections())
    assert "a bug" in caplog.text
    caplog.clear()
    assert inflated[0].total_bytes < 10_000_000


async def test_a_small_compressed_body_keeps_its_connection(gates):
    async with serving(gates.app()) as server, client_of(server) as client:
        for _ in range(2):
            client.send(compressed(b"/upload", gzip.compress(b"x" * 1000)))
            reply = await client.reply()
            assert (reply.status, reply.body, reply.closes) == (200, b"1000", False)


async def test_a_client_that_goes_on_sending_a_refused_body_is_closed(gates, bomb, monkeypatch):
    monkeypatch.setattr(module, "_DISCARDING_TIME", 5 * SOON)
    async with serving(gates.app()) as server, client_of(server) as client:
        client.send(b"POST /missing HTTP/1.1\r\nHost: test\r\nContent-Encoding: gzip\r\n")
        client.send(b"Content-Length: 100000000\r\n\r\n")
        assert (await client.reply()).status == 404
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                while server._connections():
                    client.send(b"x" * 100)
                    await asyncio.sleep(SOON / 4)
        assert not server._connections()


async def test_a_declared_body_that_is_too_large_is_refused_before_it_comes(tmp_path):
    async with site_of(Settings, {}, overlay=tmp_path / "o.toml") as site:
        for size in (BODY_LIMIT + 1, 1 << 63):
            async with client_of(site.server) as client:
                client.send(b"PATCH /config HTTP/1.1\r\nHost: localhost\r\nIf-Match: *\r\n")
                client.send(b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size)
                async with asyncio.timeout(PATIENCE):
                    reply = await client.reply()
                assert (reply.status, json.loads(reply.body)["status"]) == (413, 413)
