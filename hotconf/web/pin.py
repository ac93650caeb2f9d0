"""Pinning: one snapshot for one request, from its first instruction to its last."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from aiohttp import web

from hotconf.api.exchange import GENERATION
from hotconf.reload.snapshot import Snapshot

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

    from hotconf.conf import HotConf

_LEASES: web.RequestKey[contextlib.ExitStack] = web.RequestKey("leases", contextlib.ExitStack)
_SNAPSHOT: web.RequestKey[Snapshot[Any]] = web.RequestKey("snapshot", Snapshot)


def pin_snapshot(conf: HotConf[Any]) -> Middleware:
    """Return a middleware that pins the snapshot in force for each request, and names its generation in the answer.

    An answer that names a generation itself keeps it; one that its handler has begun to send goes out without.
    """

    @web.middleware
    async def pin(request: web.Request, handler: Handler) -> web.StreamResponse:
        with contextlib.ExitStack() as leases:
            request[_SNAPSHOT] = snapshot = leases.enter_context(conf.pin())
            request[_LEASES] = leases
            response = await handler(request)
            if not response.prepared:
                response.headers.setdefault(GENERATION, str(snapshot.generation))
            return response

    return pin


def release_snapshot(request: web.BaseRequest) -> None:
    """End the lease of a request that is about to wait for long. The snapshot stays readable, its resources may close.

    Without effect where `pin_snapshot` is not installed.
    """
    leases = request.get(_LEASES)
    if leases is not None:
        leases.close()


def request_snapshot(request: web.BaseRequest) -> Snapshot[Any]:
    """Return the snapshot that this request is pinned to. Raises KeyError where `pin_snapshot` is not installed."""
    return request[_SNAPSHOT]
