"""Records: what was, what is and why. History, reports, explanations, and the schemas of both sides."""

from __future__ import annotations

import functools
from datetime import datetime  # noqa: TC003 - the OpenAPI document reads it
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from hotconf.errors import UnknownGeneration
from hotconf.schema.jsonschema import json_schema
from hotconf.values.keypath import render
from hotconf.values.report import jsonable
from hotconf.web.answers import encoded_answer, json_answer
from hotconf.web.builds import Builds
from hotconf.web.openapi import openapi
from hotconf.web.parts import keys_in, keys_of, part_at
from hotconf.web.problem import Problem
from hotconf.web.reading import tail_of
from hotconf.web.representations import encoded

if TYPE_CHECKING:
    from aiohttp import web

    from hotconf.conf import HotConf
    from hotconf.reload.history import Generation
    from hotconf.reload.snapshot import Snapshot
    from hotconf.schema.explain import Origins


class Records:
    """Answers questions about one configuration that change nothing."""

    def __init__(self, conf: HotConf[Any]) -> None:
        self._conf = conf
        # For thousands of keys each of these takes a while, in which the event loop has others to serve.
        self._explained: Builds[Origins, bytes] = Builds(lambda _origins: True, most=100)

    async def history(self, _request: web.Request) -> web.Response:
        """Answer with the generations that are kept, the running one last."""
        generations = [_entry(generation) for generation in self._conf.history]
        return json_answer({"running": self._conf.snapshot.generation, "generations": generations})

    async def generation(self, request: web.Request) -> web.Response:
        """Answer with one generation and its whole configuration, masked."""
        number = _number(request)
        for generation in self._conf.history:
            if generation.generation == number:
                return json_answer({**_entry(generation), "config": generation.document})
        raise UnknownGeneration(number)

    async def reloads(self, _request: web.Request) -> web.Response:
        """Answer with the reports of the last reloads, the newest last."""
        return json_answer({"reloads": jsonable(self._conf.reports)})

    async def report(self, request: web.Request) -> web.Response:
        """Answer with one report."""
        number = _number(request)
        for report in self._conf.reports:
            if report.id == number:
                return json_answer(jsonable(report))
        raise Problem(HTTPStatus.NOT_FOUND, f"no report {number} is kept: /reloads lists those that are")

    async def origins(self, _request: web.Request) -> web.Response:
        """Answer with every value and the place that it came from."""
        origins, snapshot = self._conf.origins, self._conf.snapshot
        build = functools.partial(_explained, origins, snapshot)
        return encoded_answer(await self._explained.get(origins, None, build))

    async def explain(self, request: web.Request) -> web.Response:
        """Answer with one value, its origin, and what it shadows. The path may be dotted."""
        origins, snapshot = self._conf.origins, self._conf.snapshot
        keys = keys_of(tail_of(request))
        build = functools.partial(_explanation, origins, snapshot, keys)
        return encoded_answer(await self._explained.get(origins, keys, build))

    async def schema(self, _request: web.Request) -> web.Response:
        """Answer with the JSON Schema of the configuration."""
        return json_answer(json_schema(self._conf.schema))

    async def openapi(self, request: web.Request) -> web.Response:
        """Answer with the description of these endpoints, as they are mounted here."""
        return json_answer(openapi(prefix=request.rel_url.raw_path.rpartition("/")[0]))


def _explanation(origins: Origins, snapshot: Snapshot[Any], keys: tuple[str, ...]) -> bytes:
    document = snapshot.document
    if len(keys) == 1 and not (isinstance(document, dict) and keys[0] in document):
        keys = keys_in(keys[0])
    path = render(part_at(document, keys).path)
    try:
        return encoded(jsonable(origins.explain(path)))
    except KeyError:
        raise Problem(HTTPStatus.NOT_FOUND, f"{path} has no origin of its own: ask for what it is in") from None


def _explained(origins: Origins, snapshot: Snapshot[Any]) -> bytes:
    document = snapshot.document
    values = (
        {"path": render(path), "value": part_at(document, map(str, path)).value, "origin": str(origin)}
        for path, origin in origins.leaves()
        if path
    )
    return encoded({"values": list(values)})


class GenerationEntry(TypedDict):
    """One generation, as the history shows it."""

    generation: int
    loaded_at: datetime
    triggers: tuple[str, ...]
    changed: tuple[str, ...]
    note: str
    digest: str


def _entry(generation: Generation[Any]) -> dict[str, Any]:
    return {name: jsonable(getattr(generation, name)) for name in GenerationEntry.__annotations__}


def _number(request: web.Request) -> int:
    text = request.match_info["number"]
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise Problem(HTTPStatus.NOT_FOUND, "what is asked for here has a number")
    return int(text)
