"""The configuration service: what operators and other services ask over HTTP."""

from __future__ import annotations

import json
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from hotconf import keypath
from hotconf.explain import part
from hotconf.redact import document, masked
from hotconf.web.pin import GENERATION
from hotconf.web.problem import Problem, problems
from hotconf.web.safety import Safety

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hotconf.conf import HotConf


def config_app(conf: HotConf[Any], *, safety: Safety | None = None) -> web.Application:
    """Return an application with every endpoint, to run alone or to mount with `add_subapp` under any prefix."""
    app = web.Application(middlewares=[problems, (safety or Safety()).middleware()])
    app.add_routes(config_routes(conf))
    return app


def config_routes(conf: HotConf[Any]) -> list[web.RouteDef]:
    """Return the endpoints as routes, for an application that has middlewares of its own."""
    service = _ConfigService(conf)
    return [
        web.get("/config", service.config),
        web.get("/config/{path:.*}", service.config),
        web.post("/reload", service.reload),
        web.get("/status", service.status),
        web.get("/healthz", service.healthz),
        web.get("/readyz", service.readyz),
    ]


class _ConfigService:
    def __init__(self, conf: HotConf[Any]) -> None:
        self._conf = conf
        # Names this life of this process: a token from another one must never look like one of ours.
        self._store = secrets.token_hex(4)

    async def config(self, request: web.Request) -> web.Response:
        with self._conf.pin() as snapshot:
            tag = f"{self._store}.{snapshot.generation}"
            headers = {
                GENERATION: str(snapshot.generation),
                "ETag": f'"{tag}"',
                "Cache-Control": "no-cache",
                "Vary": "Accept",
            }
            shown = self._part(request.match_info.get("path", ""))
            if _matches(request, tag):
                return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
            return _json(shown, headers=headers)

    def _part(self, path: str) -> Any:
        snapshot = self._conf.snapshot
        dotted = keypath.render(tuple(path.strip("/").split("/"))) if path.strip("/") else ""
        try:
            at, value = part(snapshot, dotted)
        except (KeyError, ValueError):
            raise Problem(HTTPStatus.NOT_FOUND, f"the configuration has no {path!r}") from None
        hidden = at and value is not None and masked(self._conf.schema, at, "")
        return hidden or document(value)

    async def reload(self, request: web.Request) -> web.Response:
        force = request.query.get("force", "") in ("1", "true")
        report = await self._conf.reload(force=force, trigger="http")
        if report.outcome == "rejected":
            members = {key: value for key, value in report.as_dict().items() if key != "faults"}
            detail = "the reload was rejected; what was running stays in force: mend the faults and reload again"
            faults = [fault.as_dict() for fault in report.faults]
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, faults=faults, report=members)
        return _json(report.as_dict())

    async def status(self, _request: web.Request) -> web.Response:
        return _json(self._conf.status.as_dict())

    async def healthz(self, _request: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def readyz(self, _request: web.Request) -> web.Response:
        state = self._conf.status.state
        ready = state == "ready"
        return _json({"ready": ready, "state": state}, status=200 if ready else HTTPStatus.SERVICE_UNAVAILABLE)


def _matches(request: web.Request, tag: str) -> bool:
    return any(etag.value in (tag, "*") for etag in request.if_none_match or ())


def _json(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    text = json.dumps(value, ensure_ascii=False)
    return web.Response(status=status, text=text, content_type="application/json", headers=headers)
