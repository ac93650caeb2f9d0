"""Masking: the one place that turns settings into something that may be shown.

Masking goes by the values that are there and the class that holds them, not by how a class serializes itself: a custom
serializer that unwraps a secret changes nothing here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Set as AbstractSet
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, RootModel
from pydantic_core import to_jsonable_python

from hotconf.schema import SECRET_TYPES, Shape, fields, spellings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hotconf.keypath import KeyPath

MASK = "**********"
_PLAIN = (str, int, bool, type(None))


def document(value: Any) -> Any:  # noqa: PLR0911 - a table of kinds
    """Return settings, or any part of them, as JSON shows them: by field name, every secret masked."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, SECRET_TYPES):
        return MASK
    if isinstance(value, RootModel):
        return document(value.root)
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return dict(_document_fields(value))
    if isinstance(value, Mapping):
        return {_key(key): document(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, AbstractSet)):
        return [document(item) for item in value]
    return _scalar(value)


def _document_fields(value: Any) -> Iterator[tuple[str, Any]]:
    owner: type = type(value)
    for name, field in fields(owner).items():
        item = getattr(value, name)
        yield name, MASK if field.sensitive and item is not None else document(item)
    for name, item in (getattr(value, "__pydantic_extra__", None) or {}).items():
        yield name, document(item)


def _key(key: Any) -> str:
    return key if type(key) is str else str(to_jsonable_python(key, fallback=str))


def _scalar(value: Any) -> Any:
    try:
        return to_jsonable_python(value, inf_nan_mode="strings", fallback=lambda unknown: f"<{type(unknown).__name__}>")
    except (ValueError, TypeError):  # bytes that are no text, and whatever else has no JSON form
        return f"<{type(value).__name__}>"


def digest(shown: Any) -> str:
    """Return a short name for a document. Secrets are masked in it, so the digest says nothing about them."""
    text = json.dumps(shown, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def masked(model: type, path: KeyPath, value: Any) -> Any:
    """Return a raw value at a path of a settings class as it may be shown, in part or as a whole."""
    shape = Shape(models=(model,))
    for key in path:
        shape = _below(shape, key)
        if shape.secret:
            return value if value is None else MASK
    return _mask_raw(shape, value)


def secrets_in(model: type, values: Any) -> set[str]:
    """Return the texts of every secret in raw values: what no message may quote."""
    return set(_texts(Shape(models=(model,)), values))


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return a text with every secret in it masked, the longest first, so that no part of one remains."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def _below(shape: Shape, key: Any) -> Shape:
    for model in shape.models:
        field = spellings(model).get(str(key)) or fields(model).get(str(key))
        if field is not None:
            return dataclasses.replace(field.shape, secret=True) if field.sensitive else field.shape
    inner = shape.items if isinstance(key, int) else shape.values
    return inner or Shape()


def _mask_raw(shape: Shape, value: Any) -> Any:
    if shape.secret and value is not None:
        return MASK
    if isinstance(value, Mapping):
        return {_key(key): _mask_raw(_below(shape, key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mask_raw(_below(shape, index), item) for index, item in enumerate(value)]
    return document(value)


def _texts(shape: Shape, value: Any) -> Iterator[str]:
    if isinstance(value, SECRET_TYPES):
        yield from _texts(Shape(secret=True), value.get_secret_value())
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(_inherit(shape, _below(shape, key)), item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _texts(_inherit(shape, _below(shape, index)), item)
    elif shape.secret and value not in (None, "", b""):
        yield value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _inherit(outer: Shape, inner: Shape) -> Shape:
    return dataclasses.replace(inner, secret=True) if outer.secret else inner
