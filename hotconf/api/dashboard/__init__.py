"""The dashboard: one page that shows the state of a configuration, and lets operators change it.

The page and its files hold no data, so they need no token, which a browser could not send when it opens a page. The
data come from the other endpoints, by URLs relative to the page: it works under any prefix.
"""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import unquote

from hotconf.api.exchange import Problem, Response
from hotconf.api.parameters import ANY, tags_in

if TYPE_CHECKING:
    from hotconf.api.exchange import Request

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}

_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src data:",  # the empty icon, so that no browser requests one elsewhere
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",  # text never becomes markup, also after a mistake in a script
)
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "; ".join(_POLICY),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Dashboard:
    """The page at `/dashboard` and its files below."""

    def __init__(self) -> None:
        self._files: dict[str, Response] = {}
        for path in files(__name__).iterdir():
            content_type = _TYPES.get(path.name[path.name.rfind(".") :])
            if content_type is not None:
                body = path.read_bytes()
                tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
                self._files[path.name] = Response(body, headers={"Content-Type": content_type, "ETag": tag, **_HEADERS})
        self._page = self._files.pop("index.html")

    async def page(self, request: Request) -> Response:
        """Answer with the page."""
        return _answer(request, self._page)

    async def file(self, request: Request) -> Response:
        """Answer with one of its files."""
        name = unquote(request.tail)
        if not name:  # the page's relative URLs count from its name without a slash
            return Response(status=HTTPStatus.PERMANENT_REDIRECT, headers={"Location": "../dashboard"})
        if name not in self._files:
            raise Problem(HTTPStatus.NOT_FOUND, "the dashboard has no such file: open /dashboard")
        return _answer(request, self._files[name])


def _answer(request: Request, asset: Response) -> Response:
    try:
        known = tags_in(request.header("If-None-Match")) or ()
    except ValueError:
        known = ()
    if asset.headers["ETag"].strip('"') not in known and ANY not in known:
        return asset
    return Response(status=HTTPStatus.NOT_MODIFIED, headers={"ETag": asset.headers["ETag"], **_HEADERS})
