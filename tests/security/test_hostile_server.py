"""A server of any make cannot fill the memory of a client, nor keep it busy."""

import asyncio
import gzip
import json
import time

import pytest

import hotconf.sources.frames as frames
import hotconf.web.client as client
from hotconf.web.client import Client, Declined, Unreachable

SMALL = 1 << 20


async def answered(head, body, ask):
    """Let a client ask a server that says this, whatever it is asked, the body again and again."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        for _ in range(200):  # more than any bound
            writer.write(body)
            await writer.drain()
        writer.close()

    async def serve_quietly(reader, writer):
        try:
            await serve(reader, writer)
        except ConnectionError:
            writer.close()

    async with await asyncio.start_server(serve_quietly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}") as asking:
            return await ask(asking)


@pytest.fixture(autouse=True)
def _bounds(monkeypatch):
    monkeypatch.setattr(client, "_LARGEST", SMALL)
    monkeypatch.setattr(frames, "LONGEST_LINE", SMALL)


@pytest.mark.parametrize(
    "ask", [lambda asking: asking.get("config"), lambda asking: asking.text("config", "text/toml")]
)
async def test_a_response_without_an_end_is_left(ask):
    with pytest.raises(Unreachable, match="larger than"):
        await answered(b"Content-Type: text/toml", b"x" * 65536, ask)


async def test_a_response_is_not_inflated():
    bomb = gzip.compress(json.dumps({"a": "b" * (100 << 20)}).encode())
    head = b"Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: %d" % len(bomb)
    began = time.process_time()
    with pytest.raises(Declined):
        await answered(head, bomb, lambda asking: asking.get("config"))
    assert time.process_time() - began < 2


async def test_a_stream_without_a_line_end_is_left():
    async def follow(asking):
        async for _ in asking.follow():
            raise AssertionError

    with pytest.raises(Unreachable, match="no event"):
        await answered(b"Content-Type: text/event-stream", b"data: " + b"x" * 65536, follow)


def test_pieces_of_a_line_cost_what_they_are(monkeypatch):
    monkeypatch.setattr(frames, "LONGEST_LINE", 64 << 20)
    split, began = frames.Frames(), time.process_time()
    for _ in range(20_000):
        assert not list(split.feed(b"data: " + b"x" * 1000))
    assert [event[0] for event in split.feed(b"\nevent: config\n\n")] == ["config"]
    assert time.process_time() - began < 5
