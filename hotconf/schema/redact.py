"""Masking: the one place that turns settings and raw values into something that may be shown.

Masking goes by the values that are there and by what the classes say of them, not by how a class serializes itself: a
custom serializer that unwraps a secret changes nothing here. Settings are built and have classes; raw values are what
the sources hold, and may be anything.
"""

from __future__ import annotations

import functools
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
from hotconf.values.merge import SCALARS, are_scalars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hotconf.values.keypath import KeyPath

MASK = "**********"
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
    if type(value) in SCALARS and type(value) is not float:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _NOT_FINITE[repr(float(value))]
    if isinstance(value, RootModel):
        return document(value.root, unwrapped(shape_of(type(value))))
    owner: type = type(value)
    known = fields_of(owner)
    if isinstance(value, Mapping):
        inside = _inside(shape)
        return {text: _document_item(item, inside, text) for text, item in children(value).items()}
    if isinstance(value, AbstractSet):
        # Sorted: the order of a set follows from hashes, which differ from process to process.
        return sorted((_document_item(item, _inside(shape), 0) for item in value), key=_canonical_json)
    if is_list(value):
        inside = _inside(shape_of(owner) if known else shape)
        return [_document_item(item, inside, index) for index, item in children(value).items()]
    if known or isinstance(value, BaseModel):  # a model may have nothing but extra keys
        own = shape_of(owner)
        return {
            str(name): document(item, known[name].shape if name in known else shape_below(own, name))
            for name, item in children(value).items()
        }
    try:
        return to_jsonable_python(value, fallback=lambda unknown: f"<{type(unknown).__name__}>")
    except Exception:  # noqa: BLE001 - bytes that are no text, and whatever else has no JSON form
        return f"<{type(value).__name__}>"


def document_at(model: type, settings: Any, path: KeyPath) -> Any:
    """Return the value that settings of a class have at a path as JSON shows it, masked where the schema says so."""
    return document(value_at(settings, path), refined_at(Shape(models=(model,)), settings, path))


def _inside(shape: Shape) -> Callable[[str | int], Shape] | None:
    """Return what tells the shape below a key, None where no secret can lie below: nearly everywhere."""
    return functools.partial(shape_below, shape) if holds_secret(shape) else None


def _document_item(item: Any, inside: Callable[[str | int], Shape] | None, key: str | int) -> Any:
    return document(item, inside(key) if inside is not None else PLAIN)


def _canonical_json(document: Any) -> str:
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def mask_input(model: type, path: KeyPath, value: Any, *, within: Any = None) -> Any:
    """Return a raw value at a path of a settings class as it may be shown, in part or as a whole.

    A value that is not built as the schema has it there, such as a JSON text in the place of a section that holds a
    password, is hidden as a whole. `within` are settings that were built from it, or from what shadows it.
    """
    shape = refined_at(Shape(models=(model,)), within, path)
    hidden = {at for at, _, _ in _secrets(shape, value, value_at(within, path))}

    def mask(value: Any, at: tuple[Any, ...]) -> Any:
        if at in hidden:
            return MASK
        if isinstance(value, Mapping):
            return {key_text(key): mask(item, (*at, key)) for key, item in value.items()}
        if is_list(value):
            return [mask(item, (*at, index)) for index, item in enumerate(value)]
        # The items of a set have no place of their own.
        inner = isinstance(value, AbstractSet) and any(other[: len(at)] == at for other in hidden)
        return MASK if inner else document(value)

    return mask(value, ())


def masked_paths(model: type, values: Any, *, within: Any = None) -> Iterator[tuple[Any, ...]]:
    """Yield the paths in raw values of a settings class that `mask_input` hides, of each secret the topmost one.

    `within` are the settings that were built from them.
    """
    return (path for path, _, _ in _secrets(Shape(models=(model,)), values, within))


def _secrets(
    shape: Shape, value: Any, built: Any, path: tuple[Any, ...] = ()
) -> Iterator[tuple[tuple[Any, ...], Shape, Any]]:
    """Yield the topmost secrets in raw values or in settings, each with its path and shape.

    `built` are settings that were made from the values, None where there are none: they may be of classes that the
    schema does not name.
    """
    shape = refined(refined(shape, built), value)
    inner, beside = _items(value), {} if built is None else children(built)
    if value is None or (not holds_secret(shape) and are_scalars(inner.values()) and are_scalars(beside.values())):
        return
    if shape.secret or (_is_misfit(shape, value) and value not in ("", b"")):
        yield path, shape, value
        return
    # The keys that an AliasPath takes a secret from.
    heads = {
        str(place[0])
        for model in unwrapped(shape).models
        for field in fields_of(model).values()
        if holds_secret(field.shape)
        for place in field.alias_paths
    }
    for key, item in inner.items():
        text = key_text(key) if isinstance(value, Mapping) else key
        below, name = descend(shape, text) or (Shape(secret=shape.secret), text)
        # A key that the schema does not know may be that of a secret, misspelt. To take it back is no secret.
        if isinstance(value, Mapping) and (text in heads or (item is not None and _is_misspelt(shape, text))):
            yield (*path, key), Shape(secret=True), item
        else:
            yield from _secrets(below, item, beside.get(name), (*path, key))


def _items(value: Any) -> Mapping[Any, Any]:
    """Return what lies directly below a value by its own keys, the items of a set by their number."""
    if isinstance(value, Mapping):
        return value
    return dict(enumerate(value)) if isinstance(value, AbstractSet) else children(value)


def _is_misfit(shape: Shape, value: Any) -> bool:
    """Whether a value of a shape that holds secrets is built in another way, so that their place in it is unknown."""
    own: type = type(value)
    shape = unwrapped(shape)
    if not holds_secret(shape) or shape.secret_words or fields_of(own):
        return False
    if isinstance(value, Mapping):
        return not (shape.models or shape.values)
    is_sequence = is_list(value) or isinstance(value, AbstractSet)
    return not is_sequence or not (
        shape.items or shape.positions or any(issubclass(model, tuple) for model in shape.models)
    )


def _is_misspelt(shape: Shape, key: str | int) -> bool:
    """Whether a key beside a secret is unknown to the schema: it may be that of the secret, misspelt."""
    return holds_secret(shape) and not isinstance(key, int) and descend(shape, key) is None


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
    """Return the texts of every secret in raw values or settings and in the defaults of the class.

    Each comes in all the ways in which a message may quote it: as it is, trimmed, and as Python and JSON write it.
    """
    found = {*_texts_in(Shape(models=(model,)), values), *_default_texts(model)}
    return {text for each in found for text in (each, each.strip(), repr(each)[1:-1], json.dumps(each)[1:-1]) if text}


@functools.lru_cache(maxsize=64)
def _default_texts(model: type) -> frozenset[str]:
    known = [field for _, nested in models_within(model) for field in fields_of(nested).values()]
    return frozenset(text for field in known for text in _texts_in(field.shape, field.info.default))


def _texts_in(shape: Shape, values: Any) -> Iterator[str]:
    for _, found, secret in _secrets(shape, values, None):
        yield from _texts(found, secret)


def _texts(shape: Shape, value: Any) -> Iterator[str]:
    """Yield every text in a secret value. Its keys are texts too, except the names of fields."""
    if isinstance(value, SECRET_TYPES):
        value = value.get_secret_value()
    inner = _items(value)
    for key, item in inner.items():
        yield from _texts(shape_below(shape, key_text(key) if isinstance(value, Mapping) else key), item)
    if isinstance(value, Mapping):
        yield from (key_text(key) for key in inner if not refined(shape, value).models)
    elif isinstance(value, bytes):
        yield from (value.decode("utf-8", "replace"), repr(value)[2:-1])
    elif not inner and not isinstance(value, bool) and value not in (None, PydanticUndefined):
        yield str(value)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return a text with every secret in it masked. The longest come first, so that no part of one remains."""
    longest_first = sorted(secrets, key=len, reverse=True)
    if not longest_first:
        return text
    # Pydantic quotes only the two ends of a long input, which no search for the whole would find.
    text = _QUOTED_INPUT.sub(f"input_value={MASK}, input_type=", text)
    words = ((re.escape(secret), len(secret) < _SHORT) for secret in longest_first)
    patterns = (rf"(?<!\w){word}(?!\w)" if is_short else word for word, is_short in words)
    # Without regard to case, which a validator may have changed.
    return re.sub("|".join(patterns), MASK, text, flags=re.IGNORECASE)


def traceback_without_message(error: BaseException) -> str:
    """Return the traceback of an error of foreign code without its text, which may quote any value."""
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    own = "".join((*traceback.format_tb(error.__traceback__), type(error).__name__))
    return "\n".join((own, *map(traceback_without_message, inner)))
