"""Representations: the same document as JSON, TOML or YAML, whichever Accept prefers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import hotconf.formats as formats
from hotconf.api.exchange import Problem, encoded
from hotconf.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Representation:
    """One notation. `suffix` ends the ETags of documents in it; `also` are further names of its media type."""

    name: str
    media_type: str
    suffix: str
    also: tuple[str, ...] = ()

    @property
    def media_types(self) -> tuple[str, ...]:
        """Every name that Accept may use for it."""
        return self.media_type, *self.also


JSON = Representation("json", "application/json", "", ("text/json",))
TOML = Representation("toml", "application/toml", ".toml", ("text/toml", "text/x-toml"))
YAML = Representation("yaml", "application/yaml", ".yaml", ("text/yaml", "application/x-yaml", "text/x-yaml"))
ALL = (JSON, TOML, YAML)


@functools.lru_cache(maxsize=256)
def accepted(header: str | None) -> tuple[Representation, ...]:
    """Return what an Accept header allows, the most preferred first; JSON first where it has no preference.

    Parts of the header that cannot be read are passed over; None and an empty header allow everything.
    """
    if not (header or "").strip(" \t,"):
        return ALL
    ranges = tuple(_ranges(header or ""))
    qualities = [(_quality(ranges, one), one) for one in ALL]
    return tuple(one for quality, one in sorted(qualities, key=lambda entry: -entry[0]) if quality > 0)


def best(header: str | None) -> Representation:
    """Return what to answer with. Raises Problem (406) where Accept allows nothing that is served."""
    allowed = accepted(header)
    if not allowed:
        known = ", ".join(one.media_type for one in ALL)
        raise Problem(HTTPStatus.NOT_ACCEPTABLE, f"Accept allows no representation that is served; served: {known}")
    if allowed[0] is not YAML or _has_yaml():
        return allowed[0]
    if len(allowed) > 1:
        return allowed[1]
    raise Problem(
        HTTPStatus.NOT_ACCEPTABLE,
        "the server has no YAML library: pip install 'hotconf[yaml]' there, or accept JSON or TOML",
    )


def written(representation: Representation, value: Any) -> bytes:
    """Return a document, or a part of one, in a notation. Raises Problem (406) for what it cannot hold.

    TOML has tables at its root and no null: a null is left out of a table.
    """
    if representation is JSON:
        return encoded(value)
    if not isinstance(value, dict):
        raise Problem(
            HTTPStatus.NOT_ACCEPTABLE,
            f"this part is not a table, and {representation.name.upper()} is served for tables only: accept JSON",
        )
    try:
        shown = formats.without_null(value) if representation is TOML else value
        return formats.dump(representation.name, shown).encode()
    except (FormatError, UnicodeEncodeError):
        detail = (
            f"{representation.name.upper()} cannot hold all of these values: accept JSON, or request a smaller part"
        )
        raise Problem(HTTPStatus.NOT_ACCEPTABLE, detail) from None


@functools.cache
def _has_yaml() -> bool:
    try:
        formats.dump("yaml", {})
    except FormatError:
        return False
    return True


def _ranges(header: str) -> Iterator[tuple[str, float]]:
    """Yield each media range of an Accept header with its quality."""
    for entry in header.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        qualities = [part[2:] for part in parameters if part.startswith("q=")]
        quality = _number(qualities[0]) if qualities else 1.0
        if name.count("/") == 1 and quality is not None:
            yield name, quality


def _number(text: str) -> float | None:
    try:
        quality = float(text)
    except ValueError:
        return None
    return quality if 0 <= quality <= 1 else None


def _quality(ranges: tuple[tuple[str, float], ...], one: Representation) -> float:
    """Return the quality of a notation: that of the most specific ranges that include it, 0 where none does."""
    for names in (one.media_types, (f"{one.media_type.partition('/')[0]}/*",), ("*/*",)):
        found = [quality for name, quality in ranges if name in names]
        if found:
            return max(found)
    return 0.0
