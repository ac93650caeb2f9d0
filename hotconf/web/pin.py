"""Pinning on aiohttp: one snapshot for one request, from its first instruction to its last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web
from multidict import istr

from hotconf.api.exchange import GENERATION

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

    from hotconf.conf import HotConf
    from hotconf.reload.holder import Lease
    from hotconf.reload.snapshot import Snapshot

_PINNED: web.RequestKey[tuple[Lease[Any], Snapshot[Any]]] = web.RequestKey("pinned", tuple)
_GENERATION = istr(GENERATION)


def pin_snapshot(conf: HotConf[Any]) -> Middleware:
    """Return a middleware that pins the snapshot in force for each request, and names its generation in the response.

    A response that names a generation itself keeps it. One that its handler has begun to send goes out without.

    Args:
        conf: The configuration.

    Returns:
        The middleware. With it, `request_snapshot` returns the snapshot of a request.
    """

    @web.middleware
    async def pin(request: web.Request, handler: Handler) -> web.StreamResponse:
        with (lease := conf.pin()) as snapshot:
            request[_PINNED] = lease, snapshot
            response = await handler(request)
            if not response.prepared:
                response.headers.setdefault(_GENERATION, str(snapshot.generation))
            return response

    return pin


def release_snapshot(request: web.BaseRequest) -> None:
    """End the lease of a request that is about to wait. The snapshot stays readable; its resources may close.

    Does nothing without `pin_snapshot`.
    """
    if _PINNED in request:
        request[_PINNED][0].__exit__(None, None, None)


def request_snapshot(request: web.BaseRequest) -> Snapshot[Any]:
    """Return the snapshot that a request is pinned to.

    Args:
        request: The request, in a handler or a middleware inside `pin_snapshot`.

    Returns:
        The snapshot that was in force when the request began.

    Raises:
        KeyError: `pin_snapshot` is not installed.
    """
    return request[_PINNED][1]
