"""Parameters: what a request says besides its path, read strictly. Every function here raises Problem for nonsense."""

from __future__ import annotations

import asyncio
import functools
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import hotconf.formats as formats
import hotconf.formats.json  # noqa: F401 - the first patch must need no import: it fails without a free descriptor
from hotconf.api.exchange import JSON, Problem
from hotconf.errors import FormatError
from hotconf.values.times import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hotconf.api.exchange import Request

LONGEST_WAIT = 300.0
MOST_VALUES = 10_000
"""Values of one patch, tables and lists included: each is looked at several times before it is known to be refused."""

MERGE_PATCH = "application/merge-patch+json"

_LARGE_BODY = 64 * 1024  # bytes that take about a millisecond to parse

_FLAGS = {"0": False, "false": False, "1": True, "true": True}

_SUPPORTED = "gzip, deflate"
_DECODED = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})
"""The codings that a face has undone by now. Without a library for the last two, it has refused them."""

# A state token names the state that a client has, in ETag, long poll, stream and If-Match alike. It is
# <store>.<generation>: the run of the process that issued it, and the generation in which the values of the part last
# changed. An ETag adds a suffix where the same part is served in several representations.

ANY = " * "
"""The tag of a condition that everything satisfies. No real tag can hold a space."""

_TOKEN = re.compile(r"([0-9a-f]+\.[0-9]+)(?:\.[a-z]+)?")
_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")
_ONE = re.compile(r'(W/)?"([^"]*)"')


def parameter(request: Request, name: str) -> str | None:
    """Return the text of a parameter; None without it."""
    return next((value for key, value in parse_qsl(request.query, keep_blank_values=True) if key == name), None)


def duration(request: Request, name: str) -> float | None:
    """Return the seconds that a parameter names, `30`, `30s` or `2m`; None without it."""
    text = parameter(request, name)
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, f"{name} {error}") from None


def flag(request: Request, name: str) -> bool:
    """Return whether a parameter is 1 or true, and not 0, false or missing."""
    text = parameter(request, name)
    try:
        return text is not None and _FLAGS[text.lower()]
    except KeyError:
        raise Problem(HTTPStatus.BAD_REQUEST, f"{name} must be 1 or 0") from None


def only_parameters(request: Request, *names: str) -> None:
    """Refuse any other parameter, and one that comes twice: a misspelt `dry_run` must not start a real reload."""
    given = [name for name, _ in parse_qsl(request.query, keep_blank_values=True)]
    if set(given) - set(names):
        allowed = f"allowed: {', '.join(names)}" if names else "none is allowed here"
        raise Problem(HTTPStatus.BAD_REQUEST, f"unknown query parameter; {allowed}")
    if len(given) > len(set(given)):
        raise Problem(HTTPStatus.BAD_REQUEST, "duplicate query parameter")


async def json_body(request: Request, *members: str) -> Mapping[str, Any]:
    """Return the JSON object of a body, an empty one where there is no body. It may have these members alone.

    Any other content type is refused (415): what a form on another site can send is never JSON. So is any other member
    (400): a `dry_run` in the body must not start a real reload.
    """
    body = await _object(request, JSON) if await request.read() else {}
    if body.keys() - set(members):
        allowed = f"allowed: {', '.join(members)}" if members else "none is allowed here; parameters go into the URL"
        raise Problem(HTTPStatus.BAD_REQUEST, f"unknown member in the body; {allowed}")
    return body


async def merge_patch(request: Request) -> Mapping[str, Any]:
    """Return the merge patch that a body holds. It must be there, with a bounded number of values."""
    patch = await _object(request, MERGE_PATCH, JSON)
    left: list[Any] = [patch]
    count = 0
    while left and count <= MOST_VALUES:
        value = left.pop()
        count += 1
        if isinstance(value, dict | list):
            left.extend(value.values() if isinstance(value, dict) else value)
    if count > MOST_VALUES:
        advice = f"a patch may have at most {MOST_VALUES} values: send several, or edit a file"
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, advice)
    return patch


async def _object(request: Request, *content_types: str) -> Mapping[str, Any]:
    if (request.header("Content-Type") or "").partition(";")[0].strip().lower() not in content_types:
        advice = f"send the body with `Content-Type: {content_types[0]}`"
        header = "Accept-Patch" if request.method == "PATCH" else "Accept"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, advice, headers={header: ", ".join(content_types)})
    if (request.header("Content-Encoding") or "").lower() not in _DECODED:
        raise unsupported_encoding()
    body = await request.read()
    parse = functools.partial(formats.parse, "json", body)
    try:
        return parse() if len(body) < _LARGE_BODY else await asyncio.to_thread(parse)
    except FormatError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, f"the body must be a JSON object: {error}") from None


def unsupported_encoding() -> Problem:
    """Return the problem that answers a Content-Encoding which is not undone."""
    advice = f"send the body without Content-Encoding, or with one of: {_SUPPORTED}"
    return Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, advice, headers={"Accept-Encoding": _SUPPORTED})


def token_of(tag: str) -> str | None:
    """Return the token in an ETag's value, without its suffix; None for a tag that no hotconf process issued."""
    found = _TOKEN.fullmatch(tag)
    return found[1] if found else None


def tags_in(header: str | None, *, strong: bool = False) -> tuple[str, ...] | None:
    """Return the values of the tags that a condition names, ANY for `*`; None without the header.

    `strong` leaves weak tags out, which no write may rely on. Raises ValueError for what cannot be read as a whole.
    """
    if header is None:
        return None
    if header.strip() == "*":
        return (ANY,)
    if _TAGS.fullmatch(header) is None:
        raise ValueError("not a list of entity tags")
    return tuple(value for weak, value in _ONE.findall(header) if not (strong and weak))


def readable_tags(header: str | None) -> tuple[tuple[str, ...], bool]:
    """Return the values of the tags that can be read in a condition on a read, and whether all of it could be read."""
    try:
        return tags_in(header) or (), True
    except ValueError:
        return tuple(value for _, value in _ONE.findall(header or "")), False
