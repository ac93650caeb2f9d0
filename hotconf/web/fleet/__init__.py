"""A fleet over HTTP: its status, its instances and releases, a page to watch it on, and what operators do."""

from __future__ import annotations

import contextlib
import hashlib
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs, web

from hotconf.fleet.control import Control, instance_row, status_of
from hotconf.fleet.metrics import FleetMetrics
from hotconf.fleet.operations import Declined
from hotconf.fleet.plan import Plan, PlanUnreadable
from hotconf.fleet.store import StoreError
from hotconf.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from hotconf.fleet.judge import Judge
    from hotconf.fleet.report import InstanceReport
    from hotconf.web.safety import Safety

_VERBS = ("pause", "resume", "abort", "promote", "approve")
_ROWS = 500
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'"


def fleet_app(judge: Judge, *, safety: Safety, by: str = "page") -> web.Application:
    """Return an application with the interface of a judge's fleet.

    Args:
        judge: The judge, which runs in this process. What it has seen is shown; while it does not lead, the store is
            asked.
        safety: What may pass.
        by: What the audit calls an operator who uses it.
    """
    face = _Face(judge, by)
    app = web.Application(middlewares=[safety.middleware()])
    app.add_routes(
        [
            web.get("/fleet", face.status),
            web.get("/fleet/instances", face.instances),
            web.get("/fleet/releases", face.releases),
            web.get("/fleet/releases/{release:[0-9]{1,9}}", face.document),
            web.post(f"/fleet/rollout/{{verb:{'|'.join(_VERBS)}}}", face.operate),
            web.post("/fleet/rollback", face.roll_back),
            web.get("/metrics", face.metrics),
            web.get("/", face.page),
            web.get("/{name:page\\.js|style\\.css}", face.page),
        ]
    )
    return app


class _Face:
    def __init__(self, judge: Judge, by: str) -> None:
        self._judge = judge
        self._by = by
        self._metrics = FleetMetrics(judge)

    @contextlib.asynccontextmanager
    async def _control(self) -> AsyncIterator[Control]:
        """Open the store for one request, and turn its errors into answers."""
        try:
            async with self._judge.store.connect(self._judge.fleet) as session:
                yield Control(session, self._by)
        except Declined as error:
            raise web.HTTPConflict(text=f"{error}\n") from None
        except (StoreError, PlanUnreadable) as error:
            raise web.HTTPServiceUnavailable(text=f"{error}\n") from None

    async def _seen(self) -> tuple[Plan, Mapping[str, InstanceReport], dict[str, Any]]:
        """Return plan, reports and status, from the judge's memory where it leads."""
        judge = self._judge
        if judge.leads and judge.plan is not None:
            silent = sorted({report.id for report in judge.members.gone.values()})
            silence = {"silent": silent, "silent_count": len(silent)}
            status = status_of(judge.plan, judge.members.alive, silence) | {"judge": judge.name}
            return judge.plan, judge.members.alive, status
        async with self._control() as control:
            return await control.plan(), await control.reports(), await control.status()

    async def status(self, request: web.Request) -> web.Response:
        """Answer with the status of the fleet, and with 304 where it has not changed."""
        plan, _, found = await self._seen()
        found |= {"fleet": self._judge.fleet, "audit": [line.model_dump() for line in plan.last]}
        body = json.dumps(found).encode()
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {hdrs.ETAG: tag, hdrs.CACHE_CONTROL: "no-cache"}
        if request.headers.get(hdrs.IF_NONE_MATCH) == tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def instances(self, request: web.Request) -> web.Response:
        """Answer with a page of instances: `?state=`, `?cursor=` of the page before."""
        plan, reports, _ = await self._seen()
        cursor, state = request.query.get("cursor", ""), request.query.get("state")
        rows = []
        for key in sorted(key for key in reports if key > cursor):
            row = instance_row(reports[key], plan)
            if state in (None, row["state"]):
                rows.append(row | {"key": key})
            if len(rows) == _ROWS:
                break
        return web.json_response({"instances": rows, "cursor": rows[-1]["key"] if len(rows) == _ROWS else None})

    async def releases(self, _request: web.Request) -> web.Response:
        """Answer with every release."""
        async with self._control() as control:
            return web.json_response({"releases": [release.model_dump() for release in await control.releases()]})

    async def document(self, request: web.Request) -> web.Response:
        """Answer with the document of a release, which never changes; 404 where there is none."""
        async with self._control() as control:
            try:
                release = await control.release(int(request.match_info["release"]))
                data = await control.document(release.digest)
            except Declined as error:
                raise web.HTTPNotFound(text=f"{error}\n") from None
        headers = {hdrs.CACHE_CONTROL: "public, max-age=31536000, immutable", hdrs.ETAG: f'"{release.digest}"'}
        return web.Response(body=data, content_type="text/plain", charset="utf-8", headers=headers)

    async def operate(self, request: web.Request) -> web.Response:
        """Pause, resume, abort, promote or approve the rollout. 409 where that is declined."""
        async with self._control() as control:
            plan = await control.act(request.match_info["verb"], "on the page")
        return web.json_response({"state": plan.state, "seq": plan.seq})

    async def roll_back(self, _request: web.Request) -> web.Response:
        """Go back to the stable release before."""
        async with self._control() as control:
            plan = await control.roll_back(None, "on the page")
        return web.json_response({"state": plan.state, "seq": plan.seq})

    async def metrics(self, _request: web.Request) -> web.Response:
        """Answer with the metrics of the judge."""
        return web.Response(body=self._metrics.exposition(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})

    async def page(self, request: web.Request) -> web.Response:
        """Answer with the page or one of its files."""
        name = request.match_info.get("name", "index.html")
        body = files(__name__).joinpath(name).read_bytes()
        kind = _TYPES[name[name.rfind(".") :]]
        headers = {"Content-Security-Policy": _POLICY, hdrs.CACHE_CONTROL: "no-cache", "Referrer-Policy": "no-referrer"}
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)
