"""The demo service: the smallest thing that shows a configuration changing under load."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import math
import os
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from aiohttp import web
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from hotconf.api.exchange import Problem
from hotconf.conf import HotConf
from hotconf.schema.settings import Section, Settings
from hotconf.web.app import config_routes
from hotconf.web.pin import pin_snapshot, request_snapshot
from hotconf.web.server.drain import iter_messages
from hotconf.web.server.limits import Limits
from hotconf.web.server.server import Server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from hotconf.process.service import Service
    from hotconf.values.change import Change
    from hotconf.web.safety import Safety

log = logging.getLogger("hotconf.demo")

_LONGEST = 3600.0

_Count: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000)]
_Seconds: TypeAlias = Annotated[float, Field(gt=0, le=86_400)]


class LimitsSettings(Section):
    """Limits on connections, in seconds, and in bytes: the server's `Limits`, in the file.

    They apply to the next connection or request; no restart is needed. The defaults are far above what a well-behaved
    client needs. Behind a proxy all clients share its address.
    """

    connections: _Count = 10_000
    per_address: _Count = 5_000
    header_timeout: _Seconds = 30.0
    body_timeout: _Seconds = 60.0
    body_rate: Annotated[float, Field(gt=0, le=1_000_000)] = 240.0
    send_timeout: _Seconds = 60.0
    idle_timeout: _Seconds = 3630.0
    header_size: Annotated[int, Field(ge=1024, le=1024 * 1024)] = 32 * 1024
    body_size: Annotated[int, Field(ge=0, le=1024 * 1024 * 1024)] = 1024 * 1024

    @functools.cached_property
    def limits(self) -> Limits:
        """The same for the server. It is built once for each configuration, since every request reads it."""
        return Limits(**self.model_dump())


class Demo(Settings):
    """The demo's settings. `DEMO_MESSAGE` in the environment overrides the file."""

    model_config = SettingsConfigDict(env_prefix="DEMO_")

    message: str = "Before hot reload"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    limits: LimitsSettings = LimitsSettings()


def demo_conf(path: Path) -> HotConf[Demo]:
    """Return the demo's configuration; its log level follows the file."""
    conf = HotConf(Demo, files=[path])

    @conf.on_change("log_level")
    def follow_log_level(change: Change[Demo]) -> None:
        _set_log_level(change.new)

    return conf


def demo_server(service: Service, conf: HotConf[Demo], *, host: str, port: int, safety: Safety) -> Server:
    """Add the demo's server and jobs to a service, and return the server."""
    app = web.Application(middlewares=[safety.middleware(), pin_snapshot(conf)])
    app.add_routes([web.get("/", _message), web.get("/slow", _slow), web.get("/ws", _echo)])
    app.add_routes(config_routes(conf, app=app, safety=safety, state=lambda: service.state))
    server = Server(app, host=host, port=port, limits=lambda: conf.current.limits.limits)
    service.add(server)
    service.every(1.0, _run_of("every second"), name="every second")
    service.every(60.0, _run_of("every minute"), name="every minute")
    service.on_ready(lambda: _set_log_level(conf.current))  # on_change is not called for the first configuration
    return server


def greeting(url: str, path: Path) -> str:
    """Return what to try with the demo that serves at a URL and reads a file."""
    pid = os.getpid()
    advice = {
        f"curl {url}/": "the message, as configured",
        f"edit {path}": "the message changes",
        f"kill -HUP {pid}": "reloads, and logs the report",
        "break the file": "the old message stays in force; the log names the line",
        f"curl {url}/status": "the state and the reports as JSON",
        f"open {url}/dashboard": "the same in a browser",
        f"curl '{url}/slow?seconds=10'": "then press Ctrl-C here: the request finishes first",
    }
    width = max(map(len, advice))
    lines = [f"  {what:<{width}}  {outcome}" for what, outcome in advice.items()]
    return "\n".join([f"hotconf demo: {url} with {path}, pid {pid}", "", "Try, in another terminal:", *lines, ""])


def _set_log_level(settings: Demo) -> None:
    logging.getLogger("hotconf").setLevel(settings.log_level)


async def _message(request: web.Request) -> web.Response:
    return web.Response(text=_settings(request).message)


async def _slow(request: web.Request) -> web.Response:
    """Wait for the requested time, and answer from the snapshot that was in force at the start."""
    settings = _settings(request)
    await asyncio.sleep(_seconds(request))
    return web.Response(text=settings.message)


async def _echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async with contextlib.aclosing(iter_messages(socket, request)) as received:
        async for message in received:
            if message.type is web.WSMsgType.TEXT:
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
    return socket


def _run_of(job: str) -> Callable[[], Awaitable[None]]:
    runs = itertools.count(1)

    async def run() -> None:
        log.info("job %s: run %d", job, next(runs))

    return run


def _settings(request: web.Request) -> Any:
    return request_snapshot(request).settings


def _seconds(request: web.Request) -> float:
    try:
        seconds = float(request.query.get("seconds", "10"))
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _LONGEST:
        raise Problem(HTTPStatus.BAD_REQUEST, f"seconds must be a number from 0 to {_LONGEST:.0f}")
    return seconds
