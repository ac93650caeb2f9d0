"""Representations: the same document as JSON, TOML or YAML, whichever Accept prefers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import hotconf.formats as formats
from hotconf.api.exchange import Problem, encoded
from hotconf.errors import FormatError


@dataclass(frozen=True, slots=True)
class Representation:
    """One notation. `suffix` ends the ETags of documents in it; `also` are further names of its media type."""

    name: str
    media_type: str
    suffix: str
    also: tuple[str, ...] = ()


JSON = Representation("json", "application/json", "", ("text/json",))
TOML = Representation("toml", "application/toml", ".toml", ("text/toml", "text/x-toml"))
YAML = Representation("yaml", "application/yaml", ".yaml", ("text/yaml", "application/x-yaml", "text/x-yaml"))
ALL = (JSON, TOML, YAML)


@functools.lru_cache(maxsize=256)
def accepted(header: str | None) -> tuple[Representation, ...]:
    """Return what an Accept header allows, the most preferred first; JSON first where it has no preference.

    Parts of the header that cannot be read are ignored; None and an empty header allow everything.
    """
    if not (header or "").strip(" \t,"):
        return ALL
    ranges: dict[str, float] = {}
    for entry in (header or "").lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        given = [part.removeprefix("q=") for part in parameters if part.startswith("q=")]
        try:
            quality = float(given[0]) if given else 1.0
        except ValueError:
            continue
        if name.count("/") == 1 and 0 <= quality <= 1:
            ranges[name] = max(quality, ranges.get(name, 0.0))

    def quality_of(one: Representation) -> float:
        for names in ((one.media_type, *one.also), (f"{one.media_type.partition('/')[0]}/*",), ("*/*",)):
            matching = [ranges[name] for name in names if name in ranges]
            if matching:
                return max(matching)  # the most specific ranges decide
        return 0.0

    return tuple(one for one in sorted(ALL, key=quality_of, reverse=True) if quality_of(one))


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
    except (FormatError, UnicodeEncodeError) as error:
        name = representation.name.upper()
        reason = error.reason if isinstance(error, FormatError) else f"{name} cannot hold all of these values"
        detail = f"{reason}: accept JSON, or request a smaller part"
        raise Problem(HTTPStatus.NOT_ACCEPTABLE, detail) from None


@functools.cache
def _has_yaml() -> bool:
    try:
        formats.dump("yaml", {})
    except FormatError:
        return False
    return True
