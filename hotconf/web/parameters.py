"""Parameters: what requests say beside their path, read strictly. Each of these raises Problem for nonsense."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import hotconf.formats as formats
from hotconf.errors import FormatError
from hotconf.values.times import parse_duration
from hotconf.web.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

LONGEST_WAIT = 300.0

_FLAGS = {"0": False, "false": False, "1": True, "true": True}
_JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

_UNDERSTOOD = "gzip, deflate"
_DECODED = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})
"""What aiohttp has decoded by now. Without a library for the last two, its parser has refused them."""


def parameter(request: web.Request, name: str) -> str | None:
    """Return the text of a parameter; None without it."""
    # Most requests have no query, and reading one is dear, in time and in memory.
    return request.query.get(name) if "?" in request.raw_path else None


def duration(request: web.Request, name: str) -> float | None:
    """Return the seconds that a parameter names, `30`, `30s` or `2m`; None without it."""
    text = parameter(request, name)
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, f"{name} {error}") from None


def flag(request: web.Request, name: str) -> bool:
    """Return whether a parameter is 1 or true, and not 0, false or missing."""
    text = parameter(request, name)
    try:
        return text is not None and _FLAGS[text.lower()]
    except KeyError:
        raise Problem(HTTPStatus.BAD_REQUEST, f"{name} must be 1 or 0") from None


def only_parameters(request: web.Request, *names: str) -> None:
    """Refuse any other parameter, and one that comes twice: who misspells `dry_run` is not to get a real reload."""
    given = set(request.query)
    if given - set(names):
        known = f"nothing but {', '.join(names)}" if names else "none here"
        raise Problem(HTTPStatus.BAD_REQUEST, f"the parameters may be {known}")
    if len(request.query) > len(given):
        raise Problem(HTTPStatus.BAD_REQUEST, "each parameter may be there once: which one counts nobody can tell")


async def json_body(request: web.Request, *members: str) -> Mapping[str, Any]:
    """Return the JSON object of a body, an empty one where there is no body. It may have these members alone.

    Refused is any other content type (415): what a form on another site can send is never JSON. And any other member
    (400): whoever sends `dry_run` here is not to get a real reload.
    """
    body = await _object(request, _JSON) if await request.read() else {}
    if body.keys() - set(members):
        known = f"nothing but {', '.join(members)}" if members else "no members here: parameters go into the URL"
        raise Problem(HTTPStatus.BAD_REQUEST, f"the body may have {known}")
    return body


async def merge_patch(request: web.Request) -> Mapping[str, Any]:
    """Return the merge patch that a body holds. It must be there."""
    return await _object(request, MERGE_PATCH, _JSON)


async def _object(request: web.Request, *content_types: str) -> Mapping[str, Any]:
    if request.content_type not in content_types:
        advice = f"send the body with `Content-Type: {content_types[0]}`"
        header = "Accept-Patch" if request.method == "PATCH" else "Accept"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, advice, headers={header: ", ".join(content_types)})
    if request.headers.get("Content-Encoding", "").lower() not in _DECODED:
        advice = f"send the body as it is, or with one of these as its Content-Encoding: {_UNDERSTOOD}"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, advice, headers={"Accept-Encoding": _UNDERSTOOD})
    try:
        return formats.parse("json", await request.read())
    except FormatError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, f"the body must be a JSON object: {error}") from None
