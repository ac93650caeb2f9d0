"""Digests: a short keyed name for settings, secrets included. Two of one key are equal if and only if the settings are.

Equality is that of `hotconf.schema.diff`: types included, order of keys and sets left out. Without the key a digest
tells nothing, not even whether a guess of a short secret is right. The same settings have the same digest in every
process that has the key, so nothing in it depends on addresses, hashes or the order of a set.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import hashlib
import hmac
import re
from collections.abc import Mapping, Set as AbstractSet
from decimal import Decimal
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import BaseModel

from hotconf.schema.shape import SECRET_TYPES
from hotconf.schema.tree import children, is_list
from hotconf.values.merge import SCALARS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hotconf.values.keypath import KeyPath

_KINDS: tuple[Any, ...] = (str, bytes, bytearray, int, float, complex, Decimal, dt.date, dt.timedelta, UUID, PurePath)
"""Classes whose own representation tells all of a value. One of a subclass may leave parts out, or mask them."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def digest(settings: Any, key: bytes, contents: Mapping[KeyPath, str] | None = None) -> str:
    """Return the digest of settings, and of the content of files that they name, under a key: 32 hexadecimal digits."""
    written = _written(settings) + (_written(contents) if contents else b"")
    return hmac.new(key, written, hashlib.sha256).hexdigest()[:32]


def _written(value: Any) -> bytes:  # noqa: PLR0911 - a table of kinds
    """Return bytes that are equal for equal values, and for no others."""
    kind: type = type(value)
    if kind in SCALARS:
        return _node(kind, [repr(value).encode("utf-8", "backslashreplace")])
    if isinstance(value, SECRET_TYPES):
        return _node(kind, [_written(value.get_secret_value())])
    if isinstance(value, BaseModel):
        return _node(kind, _members(children(value)))
    if isinstance(value, Mapping):
        return _node(kind, _members(value))
    if is_list(value):
        return _node(kind, map(_written, value))
    if isinstance(value, AbstractSet):
        return _node(kind, sorted(map(_written, value)))
    if dataclasses.is_dataclass(value) and not isinstance(value, (type, enum.Enum)):
        compared = [field.name for field in dataclasses.fields(value) if field.compare and hasattr(value, field.name)]
        return _node(kind, _members({name: getattr(value, name) for name in compared}))
    return _node(kind, [_text(value).encode("utf-8", "backslashreplace")])


def _members(members: Mapping[Any, Any]) -> Iterable[bytes]:
    return sorted(_written(key) + _written(item) for key, item in members.items())


def _node(kind: type, parts: Iterable[bytes]) -> bytes:
    """Put the parts of a value together so that no other parts give the same bytes: each has its length before it."""
    return b"".join(b"%d:%b" % (len(part), part) for part in (kind.__qualname__.encode(), *parts))


def _text(value: Any) -> str:  # noqa: PLR0911 - a table of kinds
    """Return the text of a value that holds no others."""
    if isinstance(value, enum.Flag):  # an empty one has no name
        return repr(value.value)
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, re.Pattern):  # its representation cuts a long pattern off
        return f"{value.pattern!r} {value.flags}"
    if isinstance(value, (dt.datetime, dt.time)):
        return f"{value.replace(tzinfo=None).isoformat()} {value.utcoffset()}"
    for known in _KINDS:
        if isinstance(value, known):
            text: str = known.__repr__(value)
            return text
    if hasattr(value, "tobytes"):  # an array, whose repr leaves items out
        return f"{value!r} {value.tobytes()!r}"
    kind: Any = type(value)
    if kind.__repr__ is object.__repr__:
        return ""  # equal to nothing but itself, so that its class is all that two processes can compare
    return _ADDRESS.sub("", repr(value))
