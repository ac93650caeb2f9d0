"""The configuration service: what operators and other services ask over HTTP."""

from __future__ import annotations

import json
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from hotconf import keypath
from hotconf.explain import part
from hotconf.redact import shown
from hotconf.web.pin import GENERATION
from hotconf.web.problem import Problem, problems
from hotconf.web.safety import Safety

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hotconf.conf import HotConf
    from hotconf.snapshot import Snapshot

_FLAGS = {"": False, "0": False, "false": False, "1": True, "true": True}


def config_app(
    conf: HotConf[Any], *, safety: Safety | None = None, state: Callable[[], str] | None = None
) -> web.Application:
    """Return an application with every endpoint, to run alone or to mount with `add_subapp` under any prefix."""
    app = web.Application(middlewares=[problems, (safety or Safety()).middleware()])
    app.add_routes(config_routes(conf, state=state))
    return app


def config_routes(conf: HotConf[Any], *, state: Callable[[], str] | None = None) -> list[web.RouteDef]:
    """Return the endpoints as routes, for an application that has middlewares of its own.

    `state` says how far the process is, for `/readyz` and `/status`: `lambda: service.state` where a service starts
    more than the configuration. Without it they tell the configuration's own state.
    """
    service = _ConfigService(conf, state or (lambda: conf.status.state))
    return [
        web.get("/config", service.config),
        web.get("/config/{path:.*}", service.config),
        web.post("/reload", service.reload),
        web.get("/status", service.status),
        web.get("/healthz", service.healthz),
        web.get("/readyz", service.readyz),
    ]


class _ConfigService:
    def __init__(self, conf: HotConf[Any], state: Callable[[], str]) -> None:
        self._conf = conf
        self._state = state
        # Names this life of this process: a token from another one must never look like one of ours.
        self._store = secrets.token_hex(4)
        self._built: tuple[Snapshot[Any], bytes] | None = None

    async def config(self, request: web.Request) -> web.Response:
        snapshot = self._conf.snapshot  # read once: tag, generation and body must be of the same one
        tag = f"{self._store}.{snapshot.generation}"
        headers = {
            GENERATION: str(snapshot.generation),
            "ETag": f'"{tag}"',
            "Cache-Control": "no-cache",
            "Vary": "Accept",
        }
        body = self._body(snapshot, request.match_info.get("path", "").strip("/"))
        if _matches(request, tag):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        return _json(body, headers=headers)

    def _body(self, snapshot: Snapshot[Any], path: str) -> bytes:
        """Return a part as JSON. The whole, which everybody asks for, is built once for each snapshot."""
        if path:
            return _encoded(self._part(snapshot, path))
        if self._built is None or self._built[0] is not snapshot:
            self._built = snapshot, _encoded(snapshot.document)
        return self._built[1]

    def _part(self, snapshot: Snapshot[Any], path: str) -> Any:
        try:
            at, value = part(snapshot, keypath.render(tuple(path.split("/"))))
        except (KeyError, ValueError):
            raise Problem(HTTPStatus.NOT_FOUND, f"the configuration has no {path!r}") from None
        return shown(self._conf.schema, at, value)

    async def reload(self, request: web.Request) -> web.Response:
        await _require_json(request)
        if _flag(request, "dry_run"):
            raise Problem(HTTPStatus.NOT_IMPLEMENTED, "a dry run is not offered yet; nothing was reloaded")
        report = await self._conf.reload(force=_flag(request, "force"), trigger="http")
        if report.outcome == "rejected":
            members = {key: value for key, value in report.as_dict().items() if key != "faults"}
            detail = "the reload was rejected; what was running stays in force: mend the faults and reload again"
            faults = [fault.as_dict() for fault in report.faults]
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, faults=faults, report=members)
        return _json(_encoded(report.as_dict()))

    async def status(self, _request: web.Request) -> web.Response:
        return _json(_encoded({**self._conf.status.as_dict(), "state": self._state()}))

    async def healthz(self, _request: web.Request) -> web.Response:
        return _json(_encoded({"status": "ok"}))

    async def readyz(self, _request: web.Request) -> web.Response:
        state = self._state()
        ready = state == "ready"
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return _json(_encoded({"ready": ready, "state": state}), status=status)


async def _require_json(request: web.Request) -> None:
    """Refuse a body that is no JSON: what a form on another site can send never is."""
    body = await request.read()
    if not body:
        return
    if request.content_type != "application/json":
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send no body, or one with `Content-Type: application/json`")
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None


def _flag(request: web.Request, name: str) -> bool:
    try:
        return _FLAGS[request.query.get(name, "").lower()]
    except KeyError:
        raise Problem(HTTPStatus.BAD_REQUEST, f"{name} must be 1 or 0") from None


def _matches(request: web.Request, tag: str) -> bool:
    return any(etag.value in (tag, "*") for etag in request.if_none_match or ())


def _encoded(value: Any) -> bytes:
    # A lone surrogate, from an environment variable that is no UTF-8, comes out as JSON's own escape for it.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _json(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
