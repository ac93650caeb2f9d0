"""The endpoints: every method and path of the configuration service, with the function that answers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from hotconf.api.commands import CommandHandlers
from hotconf.api.config import ConfigHandlers
from hotconf.api.dashboard import Dashboard
from hotconf.api.exchange import Problem, Response, Stream
from hotconf.api.feed import Feed
from hotconf.api.inspect import InspectHandlers
from hotconf.errors import HotconfError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hotconf.api.exchange import Request
    from hotconf.conf import HotConf

    Handler: TypeAlias = Callable[[Request], Awaitable[Response | Stream]]

BODY_LIMIT = 1024 * 1024
"""Bytes that the body of a request may have."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method and path with its handler. A face routes to it, and applies `Safety.check` before.

    A placeholder at the end of the path stands for the rest of the path, with slashes and line breaks: `Request.tail`.
    A GET whose response lasts does not answer HEAD. `holds_no_data` means that every client gets the same response.
    """

    method: str
    path: str
    handler: Handler
    allow_head: bool = True
    holds_no_data: bool = False

    async def answer(self, request: Request) -> Response | Stream:
        """Return what the handler returns, or the problem document that it raises."""
        try:
            return await self.handler(request)
        except Problem as problem:
            return problem.response()
        except HotconfError as error:
            return Problem.of(error).response()


def endpoints(
    conf: HotConf[Any],
    *,
    state: Callable[[], str] | None,
    heartbeat: float,
    max_watchers: int,
    unauthorized: Callable[[], int] | None = None,
) -> list[Endpoint]:
    """Return every endpoint of one configuration, for one event loop."""
    feed = Feed(conf, heartbeat=heartbeat, max_watchers=max_watchers)
    config, inspect, dashboard = (
        ConfigHandlers(conf, feed),
        InspectHandlers(conf, feed, state, unauthorized),
        Dashboard(),
    )
    commands = CommandHandlers(conf, config)
    return [
        Endpoint("GET", "/config", config.read),
        Endpoint("GET", "/config/{path}", config.read),
        Endpoint("PATCH", "/config", commands.patch),
        Endpoint("GET", "/events", feed.stream, allow_head=False),
        Endpoint("POST", "/reload", commands.reload),
        Endpoint("POST", "/confirm", commands.confirm),
        Endpoint("POST", "/rollback", commands.rollback),
        Endpoint("GET", "/history", inspect.history),
        Endpoint("GET", "/history/{number}", inspect.generation),
        Endpoint("GET", "/reloads", inspect.reloads),
        Endpoint("GET", "/reloads/{number}", inspect.report),
        Endpoint("GET", "/explain", inspect.origins),
        Endpoint("GET", "/explain/{path}", inspect.explain),
        Endpoint("GET", "/schema", inspect.schema),
        Endpoint("GET", "/openapi.json", inspect.openapi),
        Endpoint("GET", "/status", inspect.status),
        Endpoint("GET", "/healthz", inspect.healthz),
        Endpoint("GET", "/readyz", inspect.readyz),
        Endpoint("GET", "/metrics", inspect.metrics),
        Endpoint("GET", "/dashboard", dashboard.page, holds_no_data=True),
        Endpoint("GET", "/dashboard/{path}", dashboard.file, holds_no_data=True),
    ]
