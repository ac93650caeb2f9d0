"""Masking: the one place that turns settings into something that may be shown.

Masking goes by the values that are there and by what the classes say of them, never by how a class serializes itself: a
custom serializer that unwraps a secret changes nothing here.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
import traceback
from collections.abc import Mapping, Set as AbstractSet
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, RootModel
from pydantic_core import PydanticUndefined, to_jsonable_python

from hotconf.schema.fields import descend, fields_of, holds_secret, models_within, shape_below, unwrapped
from hotconf.schema.shape import PLAIN, SECRET_TYPES, Shape, shape_of
from hotconf.schema.tree import children, is_list, refined, refined_at, value_at
from hotconf.values.keypath import key_text
from hotconf.values.merge import ABSENT, are_scalars, lookup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hotconf.values.keypath import KeyPath

MASK = "**********"
_ATOMS = (str, int, bool, type(None))
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}

_QUOTED_INPUT = re.compile(r"input_value=.*?, input_type=", re.DOTALL)

_SHORT = 4
"""Characters below which a secret is only looked for as a word of its own: `0` is a part of every second number."""


def document(value: Any, shape: Shape = PLAIN) -> Any:  # noqa: PLR0911 - a table of kinds
    """Return settings, or any part of them, as JSON shows them: by field name, every secret masked.

    `shape` is what the schema says of the part. A model says it of itself.
    """
    if value is not None and (shape.secret or isinstance(value, SECRET_TYPES)):
        return MASK
    if type(value) in _ATOMS or (type(value) is float and math.isfinite(value)):
        return value
    if isinstance(value, RootModel):
        return document(value.root, unwrapped(shape_of(type(value))))
    if isinstance(value, Mapping):
        inside = _inside(shape)
        return {text: _document_item(item, inside, text) for text, item in children(value).items()}
    if isinstance(value, AbstractSet):
        # In an order that does not hang on hashes: those are different in every process.
        return sorted((_document_item(item, _inside(shape), 0) for item in value), key=_canonical_json)
    owner: type = type(value)
    if is_list(value):
        inside = _inside(shape_of(owner) if fields_of(owner) else shape)
        return [_document_item(item, inside, index) for index, item in children(value).items()]
    has_fields = fields_of(owner) or isinstance(value, BaseModel)  # a model may have nothing but extra keys
    return _document_fields(value, owner) if has_fields else _document_scalar(value)


def document_at(model: type, settings: Any, path: KeyPath) -> Any:
    """Return the value that settings of a class have at a path as JSON shows it, masked where the schema says so."""
    return document(value_at(settings, path), refined_at(Shape(models=(model,)), settings, path))


def _inside(shape: Shape) -> Callable[[str | int], Shape] | None:
    """Return what tells the shape below a key, None where no secret can lie below: nearly everywhere."""
    return functools.partial(shape_below, shape) if holds_secret(shape) else None


def _document_item(item: Any, inside: Callable[[str | int], Shape] | None, key: str | int) -> Any:
    if inside is not None:
        return document(item, inside(key))
    return item if type(item) in _ATOMS else document(item)


def _document_fields(value: Any, owner: type) -> dict[str, Any]:
    known, shape = fields_of(owner), shape_of(owner)
    result: dict[str, Any] = {}
    for name, item in children(value).items():
        field = known.get(str(name))
        if type(item) in _ATOMS and field is not None and not field.shape.secret:
            result[str(name)] = item
        else:
            result[str(name)] = document(item, field.shape if field is not None else shape_below(shape, name))
    return result


def _document_scalar(value: Any) -> Any:
    if isinstance(value, float):
        return _NOT_FINITE.get(repr(float(value)), value)
    try:
        return to_jsonable_python(value, fallback=lambda unknown: f"<{type(unknown).__name__}>")
    except Exception:  # noqa: BLE001 - bytes that are no text, and whatever else has no JSON form
        return f"<{type(value).__name__}>"


def digest(document: Any) -> str:
    """Return a short name for a document. Secrets are masked in it, so the digest says nothing about them."""
    text = _canonical_json(document).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def _canonical_json(document: Any) -> str:
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def mask_input(model: type, path: KeyPath, value: Any, *, within: Any = None) -> Any:
    """Return a raw value at a path of a settings class as it may be shown, in part or as a whole.

    What is not built as the schema has it there, such as a JSON text in the place of a section that holds a password,
    is hidden as a whole. `within` are settings that were built from it, or from what shadows it.
    """
    return _mask(refined_at(Shape(models=(model,)), within, path), value, value_at(within, path))


def _mask(shape: Shape, value: Any, built: Any) -> Any:
    shape = refined(shape, built)
    if value is None:
        return None
    if shape.secret or (_is_misfit(shape, value) and value not in ("", b"")):
        return MASK
    inner = children(built)
    if isinstance(value, Mapping):
        masked_paths = {str(path[0]) for path in _secret_paths(shape)}
        return {
            key: MASK if key in masked_paths or _is_misspelt(shape, key) else _mask(*_beneath(shape, inner, key, item))
            for key, item in _items(value)
        }
    if is_list(value):
        return [_mask(*_beneath(shape, inner, index, item)) for index, item in enumerate(value)]
    return document(value, shape)


def _beneath(shape: Shape, inner: Mapping[Any, Any], key: str | int, item: Any) -> tuple[Shape, Any, Any]:
    """Return the shape below a key, the raw item there, and of what was built from such items the one there."""
    found, name = descend(shape, key) or (Shape(secret=shape.secret), key)
    return found, item, inner.get(name)


def masked_paths(model: type, values: Any, *, within: Any = None) -> Iterator[tuple[Any, ...]]:
    """Yield the paths in raw values of a settings class that `masked` hides, of each secret the topmost one.

    `within` are the settings that were built from them.
    """
    yield from _hidden(Shape(models=(model,)), values, within, ())


def _hidden(shape: Shape, value: Any, built: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    shape, inner = refined(shape, built), children(built)
    if value is None or (not holds_secret(shape) and are_scalars(inner.values())):
        return
    if shape.secret or (_is_misfit(shape, value) and value not in ("", b"")):
        yield path
    elif isinstance(value, Mapping):
        heads = {str(place[0]) for place in _secret_paths(shape)}
        for key, item in value.items():
            text = key_text(key)
            # What the schema does not know may be that very secret, misspelt; to take it back is no secret.
            if text in heads or (item is not None and _is_misspelt(shape, text)):
                yield (*path, key)
            elif item is not None:
                yield from _hidden(*_beneath(shape, inner, text, item), (*path, key))
    elif is_list(value):
        for index, item in enumerate(value):
            yield from _hidden(*_beneath(shape, inner, index, item), (*path, index))


def _items(value: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    return ((key_text(key), item) for key, item in value.items())


def _is_misfit(shape: Shape, value: Any) -> bool:
    """Whether a value of a shape that holds secrets is built in another way, so that nobody can tell where they are."""
    own: type = type(value)
    shape = unwrapped(shape)
    if not holds_secret(shape) or shape.secret_words or fields_of(own):
        return False
    if isinstance(value, Mapping):
        return not (shape.models or shape.values)
    return not is_list(value) or not (shape.items or shape.positions or any(issubclass(m, tuple) for m in shape.models))


def _is_misspelt(shape: Shape, key: str | int) -> bool:
    """Whether a key beside a secret names nothing that the schema knows: it may be that very secret, misspelt."""
    return holds_secret(shape) and not isinstance(key, int) and descend(shape, key) is None


def _secret_paths(shape: Shape) -> Iterator[KeyPath]:
    """Yield the places below a shape where an AliasPath takes a secret from."""
    for model in unwrapped(shape).models:
        for field in fields_of(model).values():
            if field.alias_paths and holds_secret(field.shape):
                yield from field.alias_paths


def visible_path(model: type, path: KeyPath, secrets: Iterable[str] = ()) -> KeyPath:
    """Return as much of a path as may be shown: below a secret only names of fields, and no key that quotes one."""
    shape, result = Shape(models=(model,)), list[str | int]()
    for key in path:
        named = isinstance(key, int) or any(key in fields_of(nested) for nested in unwrapped(shape).models)
        if shape.secret and not named:
            break
        result.append(key if named else scrub(str(key), secrets))
        shape = shape_below(shape, key)
    return tuple(result)


def secret_texts(model: type, values: Any) -> set[str]:
    """Return the texts of every secret in raw values and in the defaults of the class: what no message may quote."""
    found = {*_texts(Shape(models=(model,)), values), *_default_texts(model)}
    return {text for secret in found for text in _writings(secret) if text}


@functools.lru_cache(maxsize=64)
def _default_texts(model: type) -> frozenset[str]:
    known = [field for _, nested in models_within(model) for field in fields_of(nested).values()]
    return frozenset(text for field in known for text in _texts(field.shape, field.info.default))


def _writings(secret: str) -> tuple[str, ...]:
    """Return the ways in which a message may write a text: as it is, trimmed, as Python and as JSON quote it."""
    return secret, secret.strip(), repr(secret)[1:-1], json.dumps(secret)[1:-1]


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return a text with every secret in it masked, the longest first, so that no part of one remains."""
    longest_first = sorted(secrets, key=len, reverse=True)
    if not longest_first:
        return text
    # Pydantic quotes no more than the ends of a long input, which no search for the whole would find.
    text = _QUOTED_INPUT.sub(f"input_value={MASK}, input_type=", text)
    # Whatever the case: validators fold it.
    return re.sub("|".join(map(_pattern, longest_first)), MASK, text, flags=re.IGNORECASE)


def traceback_without_message(error: BaseException) -> str:
    """Return the traceback of an error without its text, which may quote any value at all: for foreign code."""
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    own = "".join((*traceback.format_tb(error.__traceback__), type(error).__name__))
    return "\n".join((own, *map(traceback_without_message, inner)))


def _pattern(secret: str) -> str:
    escaped = re.escape(secret)
    return escaped if len(secret) >= _SHORT else rf"(?<!\w){escaped}(?!\w)"


def _texts(shape: Shape, value: Any) -> Iterator[str]:
    if type(value) is dict and not holds_secret(shape) and are_scalars(value.values()):
        return  # nearly every section of a large file: a look at each of its values is what a rejection would wait for
    if isinstance(value, SECRET_TYPES):
        shape, value = Shape(secret=True), value.get_secret_value()
    own: type = type(value)
    if fields_of(own):
        shape = dataclasses.replace(shape_of(own), secret=shape.secret)
    is_hidden = shape.secret or _is_misfit(shape, value)
    inner = dict(enumerate(value)) if isinstance(value, AbstractSet) else children(value)
    inside = _inside(shape)
    for key, item in inner.items():
        found = inside(key) if inside is not None else PLAIN
        if inside is not None and _is_misspelt(shape, key):
            found = Shape(secret=True)
        if is_hidden or found is not PLAIN or type(item) not in _ATOMS:
            yield from _texts(dataclasses.replace(found, secret=True) if is_hidden else found, item)
    if isinstance(value, Mapping):
        places = (lookup(value, path) for path in _secret_paths(shape))
        yield from (text for item in places if item is not ABSENT for text in _texts(Shape(secret=True), item))
    if is_hidden:
        yield from _own_texts(shape, value, inner)


def _own_texts(shape: Shape, value: Any, inner: Mapping[Any, Any]) -> Iterator[str]:
    if isinstance(value, Mapping) and not shape.models:
        yield from (str(key) for key in inner)
    elif isinstance(value, bytes):
        yield from (value.decode("utf-8", "replace"), repr(value)[2:-1])
    elif not inner and not isinstance(value, bool) and value not in (None, PydanticUndefined):
        yield str(value)
