"""Inspection: history, reports, origins, schemas, status, probes and metrics."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from hotconf.api.cache import BuildCache
from hotconf.api.exchange import Problem, Response, encoded, json_response
from hotconf.api.openapi import GenerationEntry, openapi
from hotconf.api.parts import keys_in, keys_of, part_at
from hotconf.errors import UnknownGeneration
from hotconf.jsonschema import json_schema
from hotconf.metrics import CONTENT_TYPE, Metrics
from hotconf.values.keypath import render
from hotconf.values.report import jsonable
from hotconf.values.secrets import mask_credentials

if TYPE_CHECKING:
    from collections.abc import Callable

    from hotconf.api.exchange import Request
    from hotconf.api.feed import Feed
    from hotconf.conf import HotConf
    from hotconf.reload.history import Generation
    from hotconf.schema.explain import Origins
    from hotconf.values.report import Report


class InspectHandlers:
    """Answers questions about one configuration that change nothing.

    `state` says how far the process is; None takes the configuration's own state. `unauthorized` is for the metrics.
    """

    def __init__(
        self,
        conf: HotConf[Any],
        feed: Feed,
        state: Callable[[], str] | None,
        unauthorized: Callable[[], int] | None = None,
    ) -> None:
        self._conf = conf
        self._feed = feed
        self._state = state or (lambda: conf.status.state)
        self._metrics = Metrics(conf, watchers=lambda: feed.watchers, unauthorized=unauthorized)
        # For thousands of keys each of these takes long, and would hold the event loop.
        self._explained: BuildCache[Origins, bytes] = BuildCache(lambda _origins: True, most=100)
        self._reports: BuildCache[Report | None, bytes] = BuildCache(lambda _newest: True)
        self._generations: BuildCache[Generation[Any], bytes] = BuildCache(lambda _generation: True)

    async def history(self, _request: Request) -> Response:
        """Answer with the generations that are kept, the running one last."""
        generations = [_entry(generation) for generation in self._conf.history]
        return json_response({"running": self._conf.snapshot.generation, "generations": generations})

    async def generation(self, request: Request) -> Response:
        """Answer with one generation and its whole configuration, masked."""
        number = _number(request)
        found = next((generation for generation in self._conf.history if generation.generation == number), None)
        if found is None:
            raise UnknownGeneration(number)

        def build() -> bytes:
            return encoded({**_entry(found), "config": found.document})

        return json_response(await self._generations.get(found, None, build))

    async def reloads(self, _request: Request) -> Response:
        """Answer with the reports of the last reloads, the newest last."""
        reports = self._conf.reports

        def build() -> bytes:
            return encoded({"reloads": jsonable(reports)})

        return json_response(await self._reports.get(reports[-1] if reports else None, None, build))

    async def report(self, request: Request) -> Response:
        """Answer with one report."""
        number = _number(request)
        for report in self._conf.reports:
            if report.id == number:
                return json_response(jsonable(report))
        raise Problem(HTTPStatus.NOT_FOUND, f"report {number} is not kept: /reloads lists those that are")

    async def origins(self, _request: Request) -> Response:
        """Answer with every value and the place that it came from."""
        origins, snapshot = self._conf.origins, self._conf.snapshot

        def build() -> bytes:
            values = []
            for path, origin in origins.leaves():
                shown = part_at(snapshot.document, (mask_credentials(str(key)) for key in path)) if path else None
                if shown is not None:
                    values.append({"path": render(path), "value": shown.value, "origin": str(origin)})
            return encoded({"values": values})

        return json_response(await self._explained.get(origins, None, build))

    async def explain(self, request: Request) -> Response:
        """Answer with one value, its origin, and the values that it shadows. The path may be dotted."""
        origins, snapshot = self._conf.origins, self._conf.snapshot
        keys = keys_of(request.tail)

        def build() -> bytes:
            document = snapshot.document
            dotted = len(keys) == 1 and not (isinstance(document, dict) and keys[0] in document)
            path = render(part_at(document, keys_in(keys[0]) if dotted else keys).path)
            try:
                return encoded(jsonable(origins.explain(path)))
            except KeyError:
                detail = f"{path} has no origin of its own: request the value that it is part of"
                raise Problem(HTTPStatus.NOT_FOUND, detail) from None

        return json_response(await self._explained.get(origins, keys, build))

    async def schema(self, _request: Request) -> Response:
        """Answer with the JSON Schema of the configuration."""
        return json_response(json_schema(self._conf.schema))

    async def openapi(self, request: Request) -> Response:
        """Answer with the description of these endpoints, as they are mounted here."""
        prefix = request.path.rpartition("/")[0]
        return json_response(await asyncio.to_thread(openapi, prefix=prefix))  # the first call generates schemas

    async def status(self, _request: Request) -> Response:
        """Answer with the status of the configuration and the process."""
        more = {"state": self._state(), "watchers": self._feed.watchers, "unconfirmed": self._conf.unconfirmed}
        return json_response({**jsonable(self._conf.status), **more})

    async def healthz(self, _request: Request) -> Response:
        """Answer that the process is alive."""
        return json_response({"status": "ok"})

    async def readyz(self, _request: Request) -> Response:
        """Answer whether it is ready: not while starting or draining, nor degraded without `ready_when_degraded`."""
        state = self._state()
        ready = state == "ready" and (self._conf.options.ready_when_degraded or self._conf.recovered is None)
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return json_response({"ready": ready, "state": state}, status=status)

    async def metrics(self, _request: Request) -> Response:
        """Answer with metrics as Prometheus reads them."""
        return Response(self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})


def _entry(generation: Generation[Any]) -> dict[str, Any]:
    return {name: jsonable(getattr(generation, name)) for name in GenerationEntry.__annotations__}


def _number(request: Request) -> int:
    text = unquote(request.tail)
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise Problem(HTTPStatus.NOT_FOUND, "the last part of this path is a number")
    return int(text)
