"""The configuration service: what operators and other services ask over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from hotconf.web.dashboard import dashboard_routes
from hotconf.web.feed import Feed
from hotconf.web.probes import Probes
from hotconf.web.reading import SourceReading
from hotconf.web.records import Records
from hotconf.web.safety import Safety
from hotconf.web.writing import Writing

if TYPE_CHECKING:
    from collections.abc import Callable

    from hotconf.conf import HotConf

BODY_LIMIT = 1024 * 1024
"""Bytes that a patch may have."""

_PATH = "{path:(?s:.*)}"  # keys may hold line breaks, too


def config_app(
    conf: HotConf[Any],
    *,
    safety: Safety | None = None,
    state: Callable[[], str] | None = None,
    heartbeat: float = 15.0,
    max_watchers: int = 10_000,
) -> web.Application:
    """Return an application with every endpoint, to run alone or to mount with `add_subapp` under any prefix.

    Without `safety` it answers to loopback names alone, and asks for no token. The other options are those of
    `config_routes`.
    """
    app = web.Application(middlewares=[(safety or Safety()).middleware()], client_max_size=BODY_LIMIT)
    app.add_routes(config_routes(conf, state=state, heartbeat=heartbeat, max_watchers=max_watchers))
    return app


def config_routes(
    conf: HotConf[Any],
    *,
    state: Callable[[], str] | None = None,
    heartbeat: float = 15.0,
    max_watchers: int = 10_000,
) -> list[web.RouteDef]:
    """Return the endpoints as routes, for an application that has middlewares of its own.

    Among those must be `Safety.middleware`, or the application answers whoever reaches it. `state` says how far the
    process is, for `/readyz` and `/status`: `lambda: service.state` where a service starts more than the configuration.
    Without it they tell the configuration's own state. Streams carry a sign of life every `heartbeat` seconds; beyond
    `max_watchers` parked requests and streams a client is told to come back.
    """
    feed = Feed(conf, heartbeat=heartbeat, max_watchers=max_watchers)
    reading, records, probes = SourceReading(conf, feed), Records(conf), Probes(conf, feed, state)
    writing = Writing(conf, reading)
    return [
        web.get("/config", reading.config),
        web.get(f"/config/{_PATH}", reading.config),
        web.patch("/config", writing.patch),
        web.get("/events", feed.stream, allow_head=False),
        web.post("/reload", writing.reload),
        web.post("/confirm", writing.confirm),
        web.post("/rollback", writing.rollback),
        web.get("/history", records.history),
        web.get("/history/{number}", records.generation),
        web.get("/reloads", records.reloads),
        web.get("/reloads/{number}", records.report),
        web.get("/explain", records.origins),
        web.get(f"/explain/{_PATH}", records.explain),
        web.get("/schema", records.schema),
        web.get("/openapi.json", records.openapi),
        web.get("/status", probes.status),
        web.get("/healthz", probes.healthz),
        web.get("/readyz", probes.readyz),
        web.get("/metrics", probes.metrics),
        *dashboard_routes(),
    ]
