"""The dashboard: one page that shows how a configuration fares, and lets operators steer it.

The page and its files hold no data, so they need no token, which a browser could not send when it opens a page. What
they show they ask of the other endpoints, by URLs relative to the page: it works under any prefix.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING

from aiohttp import ETag, web

from hotconf.web.problem import Problem
from hotconf.web.safety import holds_no_data

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

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


@dataclass(frozen=True, slots=True)
class _Asset:
    body: bytes
    content_type: str
    etag: ETag

    @classmethod
    def read(cls, path: Traversable) -> _Asset:
        body = path.read_bytes()
        return cls(body, _TYPES[_suffix(path.name)], ETag(hashlib.sha256(body).hexdigest()[:16]))

    def answer(self, request: web.Request) -> web.Response:
        if any(tag.value in (self.etag.value, "*") for tag in request.if_none_match or ()):
            response = web.Response(status=HTTPStatus.NOT_MODIFIED, headers=_HEADERS)
        else:
            response = web.Response(body=self.body, content_type=self.content_type, charset="utf-8", headers=_HEADERS)
        response.etag = self.etag
        return response


def dashboard_routes() -> list[web.RouteDef]:
    """Return the page at `/dashboard` and its files below, for the application that has the other endpoints."""
    assets = {path.name: _Asset.read(path) for path in files(__name__).iterdir() if _suffix(path.name) in _TYPES}
    page = assets.pop("index.html")

    @holds_no_data
    async def show_page(request: web.Request) -> web.Response:
        return page.answer(request)

    @holds_no_data
    async def show_file(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if not name:  # the relative URLs of the page count from its name without a slash
            return web.Response(status=HTTPStatus.PERMANENT_REDIRECT, headers={"Location": "../dashboard"})
        if name not in assets:
            raise Problem(HTTPStatus.NOT_FOUND, "the dashboard has no such file: open /dashboard")
        return assets[name].answer(request)

    return [web.get("/dashboard", show_page), web.get("/dashboard/{name:.*}", show_file)]


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]
