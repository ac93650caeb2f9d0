"""Requests of every shape, whole and in pieces, to both faces: no 5xx, flat memory, no descriptor left."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import random
import string
import sys
from pathlib import Path

import pytest

from tests.support import HOTCONF, PATIENCE, Process, environment, wait_until

pytestmark = pytest.mark.soak

CLIENTS = 8
SETTINGS = """
import datetime
from pathlib import Path
from typing import Literal
from pydantic import Field, IPvAnyAddress, SecretStr
from hotconf import HotConf, Options, Section, Settings


class Database(Section):
    url: str = "postgres://localhost/app"
    password: SecretStr = SecretStr("hunter2")
    pool_size: int = Field(3, ge=1, le=50)


class App(Settings):
    message: str = "hello"
    level: Literal["debug", "info"] = "info"
    ratio: float = 0.5
    since: datetime.date = datetime.date(2026, 1, 1)
    address: IPvAnyAddress = "127.0.0.1"
    folder: Path = Path("/tmp")
    limits: dict[str, int] = {}
    tags: set[str] = set()
    either: int | list[str] | None = None
    databases: list[Database] = [Database()]


conf = HotConf(App, files=["app.toml"], options=Options(watch=False, overlay="overlay.toml"))
"""
ASGI = """
import os
import sys
import uvicorn
from app import conf
from hotconf.integrations.asgi import config_app

with conf.running():
    uvicorn.run(config_app(conf), host="127.0.0.1", port=0, log_level="info")
"""
FACES = {
    "aiohttp": ([*HOTCONF, "serve", "app:conf", "--port", "0"], 50_000),
    "asgi": ([sys.executable, "asgi_face.py"], 10_000),
}

PATHS = (
    *("/", "/config", "/config/databases/0", "/config/limits", "/history", "/history/1", "/reloads", "/reloads/1"),
    *("/explain", "/explain/message", "/schema", "/openapi.json", "/status", "/healthz", "/readyz", "/metrics"),
    *("/dashboard", "/dashboard/app.js", "/reload", "/confirm", "/rollback", "/nothing"),
)
METHODS = ("GET", "GET", "GET", "HEAD", "PATCH", "PATCH", "POST", "PUT", "DELETE", "OPTIONS", "get", "BREW")
QUERIES = (
    "",
    "",
    "",
    "wait=0",
    "wait=x",
    "dry_run=1",
    "force=1",
    "confirm=0.01",
    "dry_run=1&dry_run=0",
    "a=%zz",
    "%00=1",
)
HEADERS = {
    "Accept": ("*/*", "application/toml", "application/yaml", "text/html;q=x", ",,;", "a" * 3000),
    "If-None-Match": ("*", '"x"', 'W/"00000000.1", ""', '"', "0.0"),
    "If-Match": ("*", "*", "*", '"00000000.1"', "W/*", ""),
    "Content-Type": ("application/json", "application/json", "application/merge-patch+json", "text/plain", "\xff", ""),
    "Content-Encoding": ("gzip", "deflate", "br", "identity", "gzip, gzip"),
    "Origin": ("null", "http://localhost", "https://evil.example", "://"),
    "Sec-Fetch-Site": ("none", "cross-site", ""),
    "Authorization": ("Bearer x", "Basic eDp5", "Bearer", "\xe9"),
    "Expect": ("100-continue", "100-Continue", "200-ok"),
    "Connection": ("close", "keep-alive", "upgrade, close"),
    "Range": ("bytes=0-1",),
    "X-Forwarded-For": ("10.0.0.1",),
}
KEYS = (
    "message",
    "level",
    "ratio",
    "since",
    "address",
    "folder",
    "limits",
    "tags",
    "either",
    "databases",
    "password",
    "x",
)


def a_value(depth=3):
    kind = random.randrange(10 if depth else 7)
    if kind < 7:
        text = "".join(random.choices(string.printable + "é€\x00\ud800", k=random.randrange(12)))
        return random.choice((None, True, 0, -1, 1e308, 10**30, text, "2026-02-30", "hunter2", "info"))
    if kind == 7:
        return [a_value(depth - 1) for _ in range(random.randrange(4))]
    return {random.choice(KEYS): a_value(depth - 1) for _ in range(random.randrange(4))}


def a_body():
    kind = random.randrange(8)
    if kind == 0:
        return random.randbytes(random.randrange(200))
    text = json.dumps(
        a_value() if kind < 3 else {random.choice(KEYS): a_value() for _ in range(random.randrange(1, 4))}
    )
    body = text.encode()
    return body[: random.randrange(len(body) + 1)] if kind == 3 else body


def a_request():
    """One request as bytes, its method, and whether the server gets all of it."""
    method, path, query = random.choice(METHODS), random.choice(PATHS), random.choice(QUERIES)
    if random.random() < 0.2:
        path += random.choice(("/", "//", "/..", "/%2e%2e/", "/%ff", "/\xe9", "/a" * 500, "%0d%0a", "/message"))
    headers = [("Host", random.choice(("localhost",) * 9 + ("evil.example", "localhost:99999", "", "[::1]")))]
    headers += [(name, random.choice(values)) for name, values in HEADERS.items() if random.random() < 0.25]
    if random.random() < 0.02:
        headers.append(random.choice(headers))
    body = a_body() if method in ("PATCH", "POST", "PUT") or random.random() < 0.05 else b""
    if ("Content-Encoding", "gzip") in headers and random.random() < 0.7:
        body = gzip.compress(body)
    whole = True
    if body and random.random() < 0.3:
        headers.append(("Transfer-Encoding", "chunked"))
        cut = random.randrange(len(body) + 1)
        chunks = [piece for piece in (body[:cut], body[cut:]) if piece]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in chunks) + b"0\r\n\r\n"
        if random.random() < 0.1:
            body, whole = b"zz\r\n" + body, False
    elif body or random.random() < 0.1:
        extra = random.choice((0,) * 20 + (5, 10**12))
        headers.append(("Content-Length", str(len(body) + extra)))
        whole = not extra
    lines = [f"{method} {path}{'?' if query else ''}{query} HTTP/1.{random.choice((1,) * 9 + (0,))}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body, method, whole


async def answer(reader, method):
    """The status of one response, and whether the connection goes on."""
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split()[1])
        if status >= 200:
            break
    if method == "HEAD" or status in (204, 304):
        pass
    elif "transfer-encoding: chunked" in head:
        while await reader.readuntil(b"\r\n") != b"0\r\n":
            await reader.readuntil(b"\r\n")
        await reader.readuntil(b"\r\n")
    elif "content-length: " in head:
        await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
    else:
        await reader.read()
        return status, False
    return status, "connection: close" not in head


async def client(port, count, statuses):
    writer = None
    for _ in range(count):
        request, method, whole = a_request()
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            cuts = sorted(random.randrange(len(request)) for _ in range(random.choice((0, 0, 0, 1, 3))))
            for start, end in zip([0, *cuts], [*cuts, len(request)], strict=True):
                writer.write(request[start:end])
                await asyncio.sleep(0)
            goes_on = False
            if whole:
                async with asyncio.timeout(PATIENCE):
                    status, goes_on = await answer(reader, method)
                statuses[status] = statuses.get(status, 0) + 1
                assert status < 500, request
        except (ConnectionError, asyncio.IncompleteReadError):
            goes_on = False  # a request that cannot be parsed may end the connection
            statuses["closed"] = statuses.get("closed", 0) + 1
        if not goes_on and writer is not None:
            writer.transport.abort()
            writer = None
    if writer is not None:
        writer.close()


def descriptors(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def resident(process):
    return int(Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1]) * 4096


@pytest.mark.parametrize("face", FACES)
def test_no_request_is_answered_5xx_or_leaves_anything(tmp_path, face):
    if face == "asgi":
        pytest.importorskip("uvicorn")
    (tmp_path / "app.py").write_text(SETTINGS)
    (tmp_path / "asgi_face.py").write_text(ASGI)
    (tmp_path / "app.toml").write_text('message = "from the file"\n')
    command, count = FACES[face]
    env = environment()
    process = Process(command, cwd=tmp_path, env={**env, "PYTHONPATH": f"{tmp_path}:{env['PYTHONPATH']}"})
    try:
        with contextlib.suppress(AssertionError):
            process.stdout.find(r"http://127\.0\.0\.1:\d+", 5 if face == "asgi" else PATIENCE)
        output = process.stdout if face == "aiohttp" else process.stderr
        port = int(output.find(r"http://127\.0\.0\.1:(\d+)")[1])
        random.seed(20261130)
        statuses, before = {}, descriptors(process)

        async def run(share):
            each = int(count * share / CLIENTS)
            await asyncio.gather(*(client(port, each, statuses) for _ in range(CLIENTS)))

        asyncio.run(run(0.3))
        warm = resident(process)
        asyncio.run(run(0.7))
        assert statuses.get(200, 0) > count / 20, statuses
        assert resident(process) - warm < 16 * 2**20, statuses
        wait_until(lambda: descriptors(process) <= before)
        assert process.alive
        # uvicorn logs with a traceback that it has answered 400 by itself to what turned out to be malformed.
        assert face == "asgi" or "Traceback" not in process.stderr.text
    finally:
        process.kill()
