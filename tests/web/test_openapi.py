"""The OpenAPI document: it has every route and nothing else, and the responses are as it describes them."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from pydantic import SecretStr
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from hotconf import HotConf, Options, Section
from hotconf.api.openapi import openapi
from hotconf.integrations.asgi import UvicornServer, config_app as asgi_app
from hotconf.sources import Memory
from hotconf.web import Server, config_app, config_routes

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    unsupported_method,
]
NORMAL, SOAK = 300, 10_000
_TICK = 0.05


class Database(Section):
    url: str = "postgres://db"
    password: SecretStr = SecretStr("hunter2")


class App(Section):
    message: str = "hello"
    ticks: int = 0
    database: Database = Database()
    servers: list[str] = ["a", "b"]


def documented():
    """Every method and path of the document."""
    return {(method.upper(), path) for path, item in openapi()["paths"].items() for method in item}


def routed():
    """Every method and path that is served, as a document writes them."""
    routes = {(route.method, route.path) for route in config_routes(HotConf(App))}
    return {(method, re.sub(r":[^}]*", "", path)) for method, path in routes if not path.startswith("/dashboard")}


def test_it_has_every_route_and_nothing_else():
    heads = {("HEAD", path) for method, path in documented() if method == "HEAD"}
    assert documented() - heads == routed()
    assert heads == {("HEAD", "/config"), ("HEAD", "/config/{path}")}


def test_every_refusal_is_a_problem_document():
    for path, item in openapi()["paths"].items():
        for method, operation in item.items():
            for status, answer in operation["responses"].items():
                if int(status) >= 400 and path != "/readyz":
                    assert list(answer["content"]) == ["application/problem+json"], (method, path, status)


# Requests as it describes them

# A stream never ends: other tests request it.
OPERATIONS = sorted(documented() - {("GET", "/events")})


class Served(threading.Thread):
    """A service whose configuration changes all the time, so that no poll waits for long."""

    def __init__(self, folder, face):
        super().__init__(daemon=True)
        self._folder = folder
        self._face = face
        self._ready, self._over = threading.Event(), threading.Event()
        self.start()
        assert self._ready.wait(20)

    def run(self):
        asyncio.run(self._serve())

    async def _serve(self):
        memory = Memory()
        options = Options(watch=False, guard=None, overlay=self._folder / "overlay.toml", history=5)
        conf = HotConf(App, sources=[memory], options=options)
        async with conf.running(signals=()):
            server = self._face(conf)
            await server.start()
            self.url = server.url
            self._ready.set()
            ticks = 0
            while not self._over.is_set():
                ticks += 1
                memory.set({"ticks": ticks})
                await conf.reload()
                await asyncio.sleep(_TICK)
            await server.drain(deadline=asyncio.get_running_loop().time() + 5)
            await server.stop()

    def close(self):
        self._over.set()
        self.join(20)
        assert not self.is_alive()


FACES = {
    "aiohttp": lambda conf: Server(config_app(conf), port=0),
    "asgi": lambda conf: UvicornServer(asgi_app(conf), port=0),
}


@pytest.fixture(scope="module", params=["aiohttp", pytest.param("asgi", marks=pytest.mark.soak)])
def served(request, tmp_path_factory):
    service = Served(tmp_path_factory.mktemp("openapi"), FACES[request.param])
    try:
        yield schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    finally:
        service.close()


def send_as_documented(schema, method, path, *, mode, examples):
    """Send requests as the document describes them, or in violation of it. Returns their number."""
    operation, sent = schema[path][method], 0

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        nonlocal sent
        case.call_and_validate(checks=CHECKS, timeout=30)
        sent += 1

    try:
        ask()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "without parameters there are no invalid requests"
    return sent


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_responses_match_the_document(served, method, path, mode):
    send_as_documented(served, method, path, mode=mode, examples=NORMAL // len(OPERATIONS) // 2)


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("served", ["aiohttp"], indirect=True)
def test_responses_match_the_document_ten_thousand_times(served):
    sent = 0
    while sent < SOAK:
        for method, path in OPERATIONS:
            for mode in GenerationMode:
                sent += send_as_documented(served, method, path, mode=mode, examples=300)
