"""Problems: every refusal as `application/problem+json` (RFC 9457), saying what to do."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from hotconf.errors import HotconfError
from hotconf.web.repeats import by_head_alone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.typedefs import Handler


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
        body = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            "faults": [],
            **self.members,
        }
        return web.Response(
            status=self.status.value,
            text=json.dumps(body, ensure_ascii=False),
            content_type="application/problem+json",
            headers=self.headers,
        )


@by_head_alone
@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what handlers raise into problem documents: ours, aiohttp's, and an engine that is not there."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except HotconfError as error:
        retry = {"Retry-After": "1"}
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers=retry).response()
    except web.HTTPException as error:
        if error.status < 400:
            raise
        headers = {name: value for name, value in error.headers.items() if name == "Allow"}
        return Problem(HTTPStatus(error.status), error.text or error.reason, headers=headers).response()
