"""The configuration service: what operators and other services ask over HTTP."""

from __future__ import annotations

import json
import re
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

import hotconf.keypath as keypath
from hotconf.explain import part
from hotconf.redact import shown
from hotconf.web.dashboard import dashboard_routes
from hotconf.web.feed import Feed
from hotconf.web.pin import GENERATION, release_snapshot
from hotconf.web.problem import Problem, problems
from hotconf.web.ready import Ready
from hotconf.web.safety import Safety

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hotconf.conf import HotConf
    from hotconf.keypath import KeyPath
    from hotconf.snapshot import Snapshot

_TOKEN = re.compile(r"[0-9a-f]+\.[0-9]+(\.[a-z]+)?")
_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(s|m)?")
_LONGEST_WAIT = 300.0
_MOST_VIEWS = 1000
_FLAGS = {"": False, "0": False, "false": False, "1": True, "true": True}


def config_app(
    conf: HotConf[Any], *, safety: Safety | None = None, state: Callable[[], str] | None = None
) -> web.Application:
    """Return an application with every endpoint, to run alone or to mount with `add_subapp` under any prefix."""
    app = web.Application(middlewares=[problems, (safety or Safety()).middleware()])
    app.add_routes(config_routes(conf, state=state))
    return app


def config_routes(
    conf: HotConf[Any],
    *,
    state: Callable[[], str] | None = None,
    heartbeat: float = 15.0,
    max_watchers: int = 10_000,
) -> list[web.RouteDef]:
    """Return the endpoints as routes, for an application that has middlewares of its own.

    `state` says how far the process is, for `/readyz` and `/status`: `lambda: service.state` where a service starts
    more than the configuration. Without it they tell the configuration's own state. Streams carry a sign of life every
    `heartbeat` seconds; beyond `max_watchers` parked requests and streams a client is told to come back.
    """
    service = _ConfigService(conf, state or (lambda: conf.status.state), heartbeat=heartbeat, max_watchers=max_watchers)
    return [
        web.get("/config", service.config),
        web.get("/config/{path:.*}", service.config),
        web.get("/events", service.feed.stream, allow_head=False),
        web.post("/reload", service.reload),
        web.get("/status", service.status),
        web.get("/healthz", service.healthz),
        web.get("/readyz", service.readyz),
        *dashboard_routes(),
    ]


class _View(NamedTuple):
    """One part of one snapshot, as clients see it. `changed_in` is the generation in which its values last changed."""

    path: KeyPath
    changed_in: int
    tag: str
    found: Ready
    unchanged: Ready


class _ConfigService:
    def __init__(self, conf: HotConf[Any], state: Callable[[], str], *, heartbeat: float, max_watchers: int) -> None:
        self._conf = conf
        self._state = state
        # Names this life of this process: a token from another one must never look like one of ours.
        self._store = secrets.token_hex(4)
        self._views: tuple[Snapshot[Any], dict[str, _View]] | None = None
        self.feed = Feed(conf, self._store, heartbeat=heartbeat, max_watchers=max_watchers)

    async def config(self, request: web.Request) -> web.Response:
        path = request.match_info.get("path", "").strip("/")
        seconds = _wait(request)
        view = self._view(path)
        if seconds is not None and self._is_current(request, view):
            release_snapshot(request)  # a parked request must not keep an old snapshot's resources open
            await self.feed.park(request, view.path, view.changed_in, seconds=seconds)
            seen, view = view, self._view(path)
            if view.changed_in <= seen.changed_in:
                return view.unchanged.response()
            return view.found.response()
        if seconds is None and _matches(request, view.tag):
            return view.unchanged.response()
        return view.found.response()

    def _view(self, path: str) -> _View:
        """Return a part as clients see it. Built once for each snapshot, and shared by all of them."""
        snapshot = self._conf.snapshot  # read once: tag, generation and body must be of the same one
        if self._views is None or self._views[0] is not snapshot or len(self._views[1]) > _MOST_VIEWS:
            self._views = snapshot, {}
        views = self._views[1]
        if path not in views:
            views[path] = self._build_view(snapshot, path)
        return views[path]

    def _build_view(self, snapshot: Snapshot[Any], path: str) -> _View:
        try:
            at, value = part(snapshot, keypath.render(tuple(path.split("/")) if path else ()))
        except (KeyError, ValueError):
            raise Problem(HTTPStatus.NOT_FOUND, f"the configuration has no {path!r}") from None
        changed_in = snapshot.changed_in(at)
        tag = f"{self._store}.{changed_in}"
        headers = {
            GENERATION: str(snapshot.generation),
            "ETag": f'"{tag}"',
            "Cache-Control": "no-cache",
            "Vary": "Accept",
        }
        body = _encoded(shown(self._conf.schema, at, value))

        def holds() -> bool:
            return self._conf.snapshot is snapshot

        found = Ready(HTTPStatus.OK, {**headers, "Content-Type": "application/json"}, body, holds=holds)
        return _View(at, changed_in, tag, found, Ready(HTTPStatus.NOT_MODIFIED, headers, holds=holds))

    def _is_current(self, request: web.Request, view: _View) -> bool:
        """Whether a client that wants to wait has what is in force; a foreign token has nothing of ours."""
        tags = [etag.value for etag in request.if_none_match or ()]
        unreadable = "If-None-Match" in request.headers and not tags
        if unreadable or any(tag != "*" and not _TOKEN.fullmatch(tag) for tag in tags):
            raise Problem(HTTPStatus.BAD_REQUEST, "If-None-Match holds no token of this service: leave it out once")
        return any(tag in ("*", view.tag) for tag in tags)

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


def _wait(request: web.Request) -> float | None:
    """Return how long a client wants to wait, in seconds: `30`, `30s` or `2m`; None where it does not."""
    if "?" not in request.raw_path:
        return None  # most do not, and a query is dear to read
    text = request.query.get("wait")
    if text is None:
        return None
    found = _DURATION.fullmatch(text)
    if found is None:
        raise Problem(HTTPStatus.BAD_REQUEST, "wait must be a time such as 30, 30s or 2m")
    return min(float(found[1]) * (60 if found[2] == "m" else 1), _LONGEST_WAIT)


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
    given = request.headers.get("If-None-Match")
    if given is None or given == f'"{tag}"':
        return given is not None
    return any(etag.value in (tag, "*") for etag in request.if_none_match or ())


def _encoded(value: Any) -> bytes:
    # A lone surrogate, from an environment variable that is no UTF-8, comes out as JSON's own escape for it.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _json(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
