"""A configuration that is served by this process, and a client that sends paths as they are written."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from hotconf import HotConf, Options
from hotconf.sources import Memory
from hotconf.web import Server, config_app

PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Any
    content_type: str
    text: str

    @property
    def json(self):
        return json.loads(self.text)


class Site:
    def __init__(self, conf, memory, values, server, session):
        self.conf, self.memory, self.values, self.server, self.session = conf, memory, values, server, session

    async def change(self, **values):
        """Reload with these values merged over the first ones."""
        self.memory.set({**self.values, **values})
        return await self.conf.reload()

    async def ask(self, path, *, tag=None, accept=None, method="GET", **options):
        named = {"If-None-Match": tag, "Accept": accept, **options.pop("headers", {})}
        options["headers"] = {name: value for name, value in named.items() if value is not None}
        url = URL(self.server.url + path, encoded=True)
        async with self.session.request(method, url, **options) as answer:
            return Reply(answer.status, answer.headers, answer.content_type, await answer.text())

    async def value(self, path, **options):
        answer = await self.ask(path, **options)
        assert answer.status == 200, answer.text
        return answer.json

    async def tag(self, path="/config", **options):
        return (await self.ask(path, **options)).headers["ETag"]


@contextlib.asynccontextmanager
async def serve(conf, **options):
    """Serve the endpoints on aiohttp, with options of `config_app`. `tests/hosts/faces` puts other hosts here."""
    server = Server(config_app(conf, **options), port=0)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def site_of(schema, values, *, served=None, **options):
    """Serve settings of a class. `served` are options of `config_app`, all others of the configuration."""
    memory = Memory(values)
    conf = HotConf(schema, sources=[memory], options=Options(watch=False, **{"guard": None, **options}))
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(conf.running(signals=()))
        server = await stack.enter_async_context(serve(conf, **(served or {})))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Site(conf, memory, values, server, session)
