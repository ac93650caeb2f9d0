"""The dashboard: one page that shows how a configuration fares, and lets operators steer it.

The page and its files hold no data, so they need no token, which a browser could not send when it opens a page. What
they show they ask of the other endpoints, by URLs relative to the page: it works under any prefix.
"""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING

from aiohttp import ETag, web

from hotconf.web.safety import holds_no_data

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

_PAGE = "index.html"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src data:",  # the empty icon, so that no browser asks for one elsewhere
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",  # text never becomes markup, whoever edits the scripts
)
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "; ".join(_POLICY),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def dashboard_routes() -> list[web.RouteDef]:
    """Return the page at `/dashboard` and its files below, for the application that has the other endpoints."""
    assets = {path.name: path.read_bytes() for path in files(__name__).iterdir() if _suffix(path.name) in _TYPES}
    page = web.get("/dashboard", _serving(_PAGE, assets.pop(_PAGE)))
    return [page, web.get("/dashboard/", _page), *[_route(name, body) for name, body in sorted(assets.items())]]


def _route(name: str, body: bytes) -> web.RouteDef:
    return web.get(f"/dashboard/{name}", _serving(name, body))


def _serving(name: str, body: bytes) -> Handler:
    etag = ETag(hashlib.sha256(body).hexdigest()[:16])
    content_type = _TYPES[_suffix(name)]

    @holds_no_data
    async def serve(request: web.Request) -> web.Response:
        known = any(tag.value in (etag.value, "*") for tag in request.if_none_match or ())
        if known:
            response = web.Response(status=HTTPStatus.NOT_MODIFIED, headers=_HEADERS)
        else:
            response = web.Response(body=body, content_type=content_type, charset="utf-8", headers=_HEADERS)
        response.etag = etag
        return response

    return serve


@holds_no_data
async def _page(_request: web.Request) -> web.Response:
    """Lead to the page: its relative URLs count from the name without a slash."""
    return web.Response(status=HTTPStatus.PERMANENT_REDIRECT, headers={"Location": "../dashboard"})


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]
