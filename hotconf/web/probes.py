"""Probes: what orchestrators, monitors and operators ask about the process itself."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from hotconf.metrics import CONTENT_TYPE, Metrics
from hotconf.values.report import jsonable
from hotconf.web.answers import json_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from hotconf.conf import HotConf
    from hotconf.web.feed import Feed


class Probes:
    """Answers from the status of one configuration. `state` says how far the process is; None: the configuration's."""

    def __init__(self, conf: HotConf[Any], feed: Feed, state: Callable[[], str] | None) -> None:
        self._conf = conf
        self._feed = feed
        self._state = state or (lambda: conf.status.state)
        self._metrics = Metrics(conf, watchers=lambda: feed.watchers)

    async def status(self, _request: web.Request) -> web.Response:
        """Answer with everything there is to know at a glance."""
        more = {"state": self._state(), "watchers": self._feed.watchers, "unconfirmed": self._conf.unconfirmed}
        return json_answer({**jsonable(self._conf.status), **more})

    async def healthz(self, _request: web.Request) -> web.Response:
        """Answer that the process lives."""
        return json_answer({"status": "ok"})

    async def readyz(self, _request: web.Request) -> web.Response:
        """Answer whether it is ready: not while starting or draining, nor degraded where that is asked for."""
        state = self._state()
        ready = state == "ready" and (self._conf.options.ready_when_degraded or self._conf.recovered is None)
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return json_answer({"ready": ready, "state": state}, status=status)

    async def metrics(self, _request: web.Request) -> web.Response:
        """Answer with metrics as Prometheus reads them."""
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})
