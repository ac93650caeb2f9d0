"""FastAPI and Starlette with `setup`."""

import ast
import contextlib
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import hotconf.integrations.starlette
from hotconf import HotConf, Options, Section
from hotconf.integrations.asgi import request_snapshot
from hotconf.integrations.fastapi import Pinned, setup
from hotconf.integrations.starlette import setup as starlette_setup
from hotconf.sources import Memory
from tests.support import ROOT
from tests.transcripts import blocks


class App(Section):
    message: str = "one"


@pytest.fixture
def memory():
    return Memory({"message": "one"})


@pytest.fixture
def conf(memory):
    return HotConf(App, sources=[memory], options=Options(watch=False))


def client_of(app):
    return TestClient(app, base_url="http://localhost")


def test_a_request_has_its_settings_and_a_middleware_that_came_later_has_the_same(conf, memory):
    app = FastAPI()
    setup(app, conf)
    seen = []

    @app.middleware("http")
    async def late(request, call_next):
        seen.append(request_snapshot(request.scope).settings.message)
        memory.set({"message": "two"})
        await conf.reload()
        return await call_next(request)

    @app.get("/")
    async def root(settings: Annotated[App, Depends(Pinned(conf))]):
        return settings.message

    @app.websocket("/ws")
    async def talk(websocket: WebSocket, settings: Annotated[App, Depends(Pinned(conf))]):
        await websocket.accept()
        await websocket.send_text(settings.message)

    with client_of(app) as client:
        answer = client.get("/")
        assert (answer.json(), answer.headers["Hotconf-Generation"], seen) == ("one", "1", ["one"])
        assert client.get("/").json() == "two"
        with client.websocket_connect("/ws") as websocket:
            assert websocket.receive_text() == "two"
        assert client.get("/hotconf/status").json()["generation"] == 2
        assert client.get("/hotconf/dashboard").status_code == 200
        assert "hotconf_reloads_total" in client.get("/hotconf/metrics").text
        assert "/hotconf" not in client.get("/openapi.json").text
    assert conf.status.state == "stopped"


def test_the_applications_own_lifespan_runs_while_the_configuration_is_live(conf):
    seen = []

    @contextlib.asynccontextmanager
    async def own(_app):
        seen.append(conf.status.state)
        yield {"database": "open"}
        seen.append(conf.status.state)

    async def root(request):
        return PlainTextResponse(request.state.database + request_snapshot(request.scope).settings.message)

    app = Starlette(routes=[Route("/", root)], lifespan=own)
    starlette_setup(app, conf, admin=None)
    with client_of(app) as client:
        assert client.get("/").text == "openone"
        assert client.get("/hotconf/status").status_code == 404
    assert seen == ["ready", "ready"]


def test_the_admin_is_where_it_is_wanted_behind_its_token(conf, tmp_path):
    token = tmp_path / "token"
    token.write_text("sesame")
    app = FastAPI()
    setup(app, conf, admin="/internal/config", token_file=token)
    with client_of(app) as client:
        assert client.get("/internal/config/status").status_code == 401
        headers = {"Authorization": "Bearer sesame"}
        assert client.get("/internal/config/status", headers=headers).json()["state"] == "ready"
        assert client.get("/internal/config/readyz").status_code == 200
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="must hold a token"):
        setup(FastAPI(), conf, token_file=tmp_path / "empty")


def test_without_setup_the_dependency_says_what_is_missing(conf):
    app = FastAPI()

    @app.get("/")
    async def root(settings: Annotated[App, Depends(Pinned(conf))]):
        return settings.message

    with pytest.raises(KeyError, match="put PinSnapshot around the application"):
        client_of(app).get("/")


def test_an_override_is_seen_by_the_next_request(conf):
    app = FastAPI()
    setup(app, conf)

    @app.get("/")
    async def root(settings: Annotated[App, Depends(Pinned(conf))]):
        return settings.message

    with client_of(app) as client:
        with conf.override(message="test"):
            assert client.get("/").json() == "test"
        assert client.get("/").json() == "one"


def test_the_page_adopts_it_in_four_lines():
    """The lines that speak of the configuration, beside imports, the settings class and the handler's own."""
    (recipe, *_) = blocks((ROOT / "docs/hosts/fastapi.md").read_text("utf-8"), "python")
    names = {"conf", "setup", "Pinned"}
    lines = {
        node.lineno
        for statement in ast.parse(recipe).body
        if not isinstance(statement, (ast.Import, ast.ImportFrom, ast.ClassDef))
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and node.id in names
    }
    assert len(lines) <= 4


def test_the_module_of_starlette_needs_no_fastapi():
    assert "fastapi" not in vars(hotconf.integrations.starlette)
