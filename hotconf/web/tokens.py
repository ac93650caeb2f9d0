"""Tokens: the one name under which ETag, long poll, stream and If-Match know what a client has.

A token is `<store>.<generation>`: the life of the process that gave it, and the generation in which the values of the
part last changed. As an ETag it has a suffix where the same part is served in several representations.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

ANY = " * "
"""What a condition names that is satisfied with anything. No tag can hold a space."""

_TOKEN = re.compile(r"([0-9a-f]+\.[0-9]+)(?:\.[a-z]+)?")
_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")
_ONE = re.compile(r'(W/)?"([^"]*)"')


def token_of(tag: str) -> str | None:
    """Return the token in an ETag's value, without its suffix; None where it is none, of whatever process."""
    found = _TOKEN.fullmatch(tag)
    return found[1] if found else None


def tags_in(request: web.Request, header: str, *, strong: bool = False) -> tuple[str, ...] | None:
    """Return the values of the tags that a condition names, ANY for `*`; None without such a header.

    `strong` leaves weak ones out, which no write may rely on. Raises ValueError for what cannot be read as a whole.
    """
    lines = request.headers.getall(header, ())
    if not lines:
        return None
    text = ",".join(lines)
    if text.strip() == "*":
        return (ANY,)
    if _TAGS.fullmatch(text) is None:
        raise ValueError(f"{header} holds no list of tags")
    return tuple(value for weak, value in _ONE.findall(text) if not (strong and weak))
