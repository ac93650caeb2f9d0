"""Problems: every refusal as `application/problem+json` (RFC 9457), saying what to do."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from hotconf.errors import HotconfError, OperationRefused, Stale, UnknownGeneration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.typedefs import Handler


CONTENT_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818 - the standard's word
    """An answer that refuses. `members` are further members of the document, such as `faults`."""

    def __init__(
        self, status: HTTPStatus, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def response(self) -> web.Response:
        """Return the answer."""
        # A lone surrogate, from a file's name that is no UTF-8, comes out as JSON's own escape for it.
        body = self.text().encode("utf-8", "backslashreplace")
        return web.Response(
            status=self.status.value, body=body, content_type=CONTENT_TYPE, charset="utf-8", headers=self.headers
        )

    def text(self) -> str:
        """Return the document."""
        body = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            "faults": [],
            **self.members,
        }
        return json.dumps(body, ensure_ascii=False)


def refusal(error: Exception) -> web.Response:
    """Return the answer to what a handler raised: a Problem, an error of ours or of aiohttp. Raises any other again."""
    if isinstance(error, Problem):
        return error.response()
    if isinstance(error, HotconfError):
        return _unavailable(error).response()
    if not isinstance(error, web.HTTPException) or error.status < 400:
        raise error
    allowed = ", ".join(sorted(getattr(error, "allowed_methods", ())))
    headers = {"Allow": allowed} if allowed else {}
    return Problem(HTTPStatus(error.status), _advice(error, allowed), headers=headers).response()


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what handlers raise into problem documents: ours, aiohttp's, and an engine that is not there."""
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 - what is none of these is raised again
        return refusal(error)


def _unavailable(error: HotconfError) -> Problem:
    status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), None)
    if status is None:
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers={"Retry-After": "1"})
    return Problem(status, str(error))


_STATUSES = {
    UnknownGeneration: HTTPStatus.NOT_FOUND,
    Stale: HTTPStatus.PRECONDITION_FAILED,
    OperationRefused: HTTPStatus.CONFLICT,
}


def _advice(error: web.HTTPException, allowed: str) -> str:
    if allowed:
        return f"allowed here: {allowed}"
    if error.status == HTTPStatus.NOT_FOUND:
        return "nothing is served at this path: /openapi.json lists what is"
    return error.text or error.reason
