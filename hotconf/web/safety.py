"""Safety on aiohttp: the middleware that checks every request, and turns what is refused into problem documents."""

from __future__ import annotations

import functools
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

import hotconf.api.safety as api
from hotconf.api.exchange import Problem
from hotconf.errors import HotconfError

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware
    from multidict import MultiMapping

    from hotconf.api.exchange import Response

_GRANT = web.RequestKey("grant", api.Grant)


class Safety(api.Safety):  # noqa: D101 - the next line
    __doc__ = api.Safety.__doc__

    def middleware(self) -> Middleware:
        """Return the middleware that refuses what must not pass. Errors of handlers become problem documents too."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            headers = request.headers
            endpoint, holds_no_data = _facts_of(request.match_info.route)
            try:
                grant = self.check(
                    functools.partial(header, headers),
                    method=request.method,
                    reach=reach_of(request.protocol.sockname),
                    endpoint=endpoint,
                    holds_no_data=holds_no_data,
                    peer=peer_of(request),
                )
                if grant is not None:
                    request[_GRANT] = grant
                return await handler(request)
            except Exception as error:  # noqa: BLE001 - what is no refusal is raised again
                response = to_aiohttp(_problem(error).response())
                if hdrs.EXPECT in headers:
                    response.force_close()  # a client that was not told to go on may leave its body out
                return response

        return check


def grant_of(request: web.Request) -> api.Grant | None:
    """Return what allowed a request, None where no token was asked for."""
    return request.get(_GRANT)


def peer_of(request: web.Request) -> str:
    """Return the address of the client, for logs."""
    return request.remote or "unix socket"


def header(headers: MultiMapping[str], name: str) -> str | None:
    """Return a header, the values of several lines joined by commas; None without it."""
    lines = headers.getall(name, None)
    return None if lines is None else ",".join(lines)


@functools.lru_cache(maxsize=256)
def _facts_of(route: web.AbstractRoute) -> tuple[str | None, bool]:
    """Return the path of a route, placeholders unfilled, and whether its response is the same for every client."""
    path = None if route.resource is None else route.resource.canonical
    return path, getattr(route.handler, "holds_no_data", False)


@functools.lru_cache(maxsize=256)
def reach_of(sockname: object) -> api.Reach:
    """Return the reach of the address to which a client connected. An unknown one counts as `network`."""
    if isinstance(sockname, (str, bytes)):
        return "file"
    return "machine" if isinstance(sockname, tuple) and api.is_loopback(str(sockname[0])) else "network"


def to_aiohttp(response: Response) -> web.Response:
    """Return a response as aiohttp sends it."""
    return web.Response(body=response.body, status=response.status, headers=response.headers)


def _problem(error: Exception) -> Problem:
    """Return the problem that answers an error of a handler or of aiohttp. Raises any other error again."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HotconfError):
        return Problem.of(error)
    if not isinstance(error, web.HTTPException) or error.status < 400:
        raise error
    if isinstance(error, web.HTTPMethodNotAllowed):
        return Problem.not_allowed(error.allowed_methods)
    if error.status == HTTPStatus.NOT_FOUND:
        return Problem.not_found()
    return Problem(HTTPStatus(error.status), error.text or error.reason)
