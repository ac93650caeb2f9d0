"""Masking: the one place that turns settings and raw values into something that may be shown.

Masking goes by the values that are there and by what the classes say of them, not by how a class serializes itself: a
custom serializer that unwraps a secret changes nothing here. Settings are built and have classes; raw values are what
the sources hold, and may be anything.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import re
import traceback
from collections.abc import Mapping, Set as AbstractSet
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, RootModel
from pydantic_core import PydanticUndefined, to_jsonable_python

from hotconf.schema.caches import cached
from hotconf.schema.fields import (
    descend,
    fields_of,
    holds_secret,
    may_hold_secret,
    models_within,
    shape_below,
    unwrapped,
)
from hotconf.schema.shape import PLAIN, SECRET_TYPES, Shape, shape_of
from hotconf.schema.tree import children, is_list, refined, refined_at, value_at
from hotconf.values.keypath import key_text
from hotconf.values.merge import SCALARS, are_scalars
from hotconf.values.secrets import MASK, Secrecy, credential_texts, credentials_in, hides, mask_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hotconf.values.keypath import KeyPath

_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}

_QUOTED_INPUT = re.compile(r"input_value=.*?, input_type=", re.DOTALL)

_WORD = re.compile(r"\w+")
_MASKED = rf"\w*{re.escape(MASK)}\w*"
_MASKS = re.compile(rf"{_MASKED}(?:[^\w*]*{_MASKED})*")

_SHORT = 4
"""Characters below which a secret is only looked for as a word of its own: `0` is a part of every second number."""


def document(value: Any, shape: Shape = PLAIN) -> Any:  # noqa: PLR0911 - a table of kinds
    """Return settings, or any part of them, as JSON shows them: by field name, every secret masked.

    `shape` is what the schema says of the part. A model says it of itself.
    """
    kind: type = type(value)
    if (shape.secrecy and hides(shape.secrecy, value)) or isinstance(value, SECRET_TYPES):
        return MASK
    if isinstance(value, float):
        return value if math.isfinite(value) else _NOT_FINITE[repr(float(value))]
    if kind in SCALARS:
        return mask_credentials(value) if kind is str and not shape.public else value
    if isinstance(value, RootModel):
        return document(value.root, unwrapped(shape_of(kind)))
    known = fields_of(kind)
    if isinstance(value, (Mapping, AbstractSet)) or is_list(value):
        # Of what the schema says nothing, the names of keys still do.
        within = shape_of(kind) if known else shape if shape.nested else Shape(opaque=True, public=shape.public)
        items = dict(enumerate(value)) if isinstance(value, AbstractSet) else children(value)
        is_open = not may_hold_secret(within) and not within.public
        inner = {key: document(item, PLAIN if is_open else shape_below(within, key)) for key, item in items.items()}
        if isinstance(value, Mapping):
            return _with_shown_keys(inner)
        # A set is sorted: its own order follows from hashes, which differ from process to process.
        if is_list(value):
            return list(inner.values())
        return sorted(inner.values(), key=lambda item: json.dumps(item, sort_keys=True, ensure_ascii=False))
    if known or isinstance(value, BaseModel):  # a model may have nothing but extra keys
        own = shape_of(kind)
        inner = {
            name: document(item, known[name].shape if name in known else shape_below(own, name))
            for name, item in children(value).items()
        }
        return inner if len(inner) == len(known) else _with_shown_keys(inner)
    try:
        plain = to_jsonable_python(value, fallback=lambda unknown: f"<{type(unknown).__name__}>")
    except Exception:  # noqa: BLE001 - bytes that are no text, and whatever else has no JSON form
        return f"<{kind.__name__}>"
    return document(plain, shape)


def _with_shown_keys(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Return values with the credentials in their keys masked; keys that are alike then are numbered."""
    if not any(map(credentials_in, values)):
        return dict(values)
    result: dict[str, Any] = {}
    for key, value in values.items():
        text = mask_credentials(key)
        number = sum(mask_credentials(other) == text for other in islice(values, len(result)))
        result[f"{text} ({number + 1})" if number else text] = value
    return result


def with_types(shown: Any, value: Any) -> Any:
    """Return a part of a document with infinity, NaN and dates as such, for notations that have them.

    Args:
        shown: What `document` returned for the value: JSON has a text for each.
        value: The value itself.
    """
    if isinstance(shown, str):
        value = getattr(value, "root", value)
        own = isinstance(value, float) or type(value) in {dt.date, dt.datetime}
        return value if own and shown != MASK else shown
    inner = children(value)
    if isinstance(shown, dict):
        return {key: with_types(item, inner.get(key)) for key, item in shown.items()}
    if isinstance(shown, list):
        return [with_types(item, inner.get(index)) for index, item in enumerate(shown)]
    return shown


def document_at(model: type, settings: Any, path: KeyPath) -> Any:
    """Return the value that settings of a class have at a path as JSON shows it, masked where the schema says so."""
    return document(value_at(settings, path), refined_at(Shape(models=(model,)), settings, path))


def mask_input(model: type, path: KeyPath, value: Any, *, within: Any = None) -> Any:
    """Return a raw value at a path of a settings class as it may be shown, in part or as a whole.

    A value that is not built as the schema has it there, such as a JSON text in the place of a section that holds a
    password, is hidden as a whole. `within` are settings that were built from it, or from what shadows it.
    """
    shape = refined_at(Shape(models=(model,)), within, path)
    secrets = _secrets(shape, value, value_at(within, path))
    found = {secret.path: secret for secret in secrets if not secret.is_key}

    def mask(value: Any, at: tuple[Any, ...]) -> Any:
        if at in found:
            return mask_credentials(_text(value)) if found[at].is_part else MASK
        if isinstance(value, Mapping):
            return _with_shown_keys({key_text(key): mask(item, (*at, key)) for key, item in value.items()})
        if is_list(value):
            return [mask(item, (*at, index)) for index, item in enumerate(value)]
        # The items of a set have no place of their own.
        inner = isinstance(value, AbstractSet) and any(other[: len(at)] == at for other in found)
        return MASK if inner else document(value, Shape(public=True))

    return mask(value, ())


def masked_paths(model: type, values: Any, *, within: Any = None) -> Iterator[tuple[Any, ...]]:
    """Yield the paths in raw values of a settings class that `mask_input` hides, of each secret the topmost one.

    `within` are the settings that were built from them.
    """
    return (secret.path for secret in _secrets(Shape(models=(model,)), values, within))


def is_masked(value: Any, shape: Shape) -> bool:
    """Whether any part of a value, of which the schema says its shape, is hidden."""
    return next(_secrets(shape, value, None), None) is not None


class _Secret(NamedTuple):
    """A secret and its path; with `is_part`, a value of which only the credentials of URLs in it are secrets.

    With `is_key` the value is the last key of the path, and not what lies there.
    """

    path: tuple[Any, ...]
    shape: Shape
    value: Any
    is_part: bool = False
    is_key: bool = False


def _secrets(shape: Shape, value: Any, built: Any, path: tuple[Any, ...] = ()) -> Iterator[_Secret]:
    """Yield the topmost secrets in raw values or in settings.

    `built` are settings that were made from the values, None where there are none: they may be of classes that the
    schema does not name.
    """
    shape = unwrapped(refined(refined(shape, built), value))
    if hides(shape.secrecy, value) or (_is_misfit(shape, value) and value not in (None, "", b"")):
        yield _Secret(path, shape, value)
        return
    if not shape.public and credentials_in(_text(value)):
        yield _Secret(path, shape, value, is_part=True)
        return
    inner, beside = _by_key(value), {} if built is None else children(built)
    if not may_hold_secret(shape) and are_scalars(inner.values()) and are_scalars(beside.values()):
        # Nearly every section of a large file. Only the URLs in it are of interest.
        inner = {key: item for key, item in inner.items() if credentials_in(_text(item)) or credentials_in(_text(key))}
    heads = _alias_heads(shape.models) if inner else ()
    for key, item in inner.items():
        text = key_text(key) if isinstance(value, Mapping) else key
        below, name = descend(shape, text) or (Shape(secrecy=shape.secrecy), text)
        if isinstance(text, str) and credentials_in(text):
            yield _Secret((*path, key), shape, text, is_part=True, is_key=True)
        # Beside a secret, an unknown key may be that of the secret, misspelt. To take it back tells nothing.
        is_unknown = isinstance(text, str) and item is not None and descend(shape, text) is None
        if isinstance(value, Mapping) and (text in heads or (is_unknown and holds_secret(shape))):
            yield _Secret((*path, key), Shape(secrecy=Secrecy.ALL), item)
        else:
            yield from _secrets(below, item, beside.get(name), (*path, key))


@cached
def _alias_heads(models: tuple[type, ...]) -> frozenset[str]:
    """Return the keys that an AliasPath takes a secret from."""
    known = [field for model in models for field in fields_of(model).values() if holds_secret(field.shape)]
    return frozenset(str(path[0]) for field in known for path in field.alias_paths)


def _by_key(value: Any) -> Mapping[Any, Any]:
    """Return what lies directly below a value by its own keys, the items of a set by their number."""
    if isinstance(value, Mapping):
        return value
    return dict(enumerate(value)) if isinstance(value, AbstractSet) else children(value)


def _text(value: Any) -> str:
    """Return the text of what may hold a URL, an empty one for anything else."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if hasattr(value, "unicode_string"):  # a URL of pydantic's
        return str(value)
    return value if isinstance(value, str) else ""


def _is_misfit(shape: Shape, value: Any) -> bool:
    """Whether a value of a shape that holds secrets is built in another way, so that their place in it is unknown."""
    own: type = type(value)
    if fields_of(own):
        return False
    below = dataclasses.replace(shape, secrecy=Secrecy.NONE)
    if not holds_secret(below):
        # A text in the place of a mapping, in which a key may say secret.
        is_fit = shape.text or shape.opaque or not may_hold_secret(below)
        return isinstance(value, (str, bytes)) and not is_fit
    if isinstance(value, Mapping):
        return not (shape.models or shape.values)
    is_sequence = is_list(value) or isinstance(value, AbstractSet)
    has_place = shape.items or shape.positions or any(issubclass(model, tuple) for model in shape.models)
    return not (is_sequence and has_place)


def visible_path(
    model: type, path: KeyPath, secrets: Iterable[str] = (), *, shown: AbstractSet[str] = frozenset()
) -> KeyPath:
    """Return as much of a path as may be shown: below a secret only names of fields, and no key that quotes one.

    Keys that are `shown` quote none: a client has sent them.
    """
    shape, result = Shape(models=(model,)), list[str | int]()
    for key in path:
        named = isinstance(key, int) or any(key in fields_of(nested) for nested in unwrapped(shape).models)
        if shape.secret and not named:
            break
        result.append(key if named or key in shown else scrub(str(key), secrets))
        shape = shape_below(shape, key)
    return tuple(result)


def secret_texts(model: type, values: Any) -> set[str]:
    """Return the texts of every secret in raw values or settings and in the defaults of the class.

    Each comes in all the ways in which a message may quote it: as it is, trimmed, and as Python and JSON write it.
    """
    found = {*_texts_in(Shape(models=(model,)), values), *_default_texts(model)}
    return {text for each in found for text in (each, each.strip(), repr(each)[1:-1], json.dumps(each)[1:-1]) if text}


@cached
def _default_texts(model: type) -> frozenset[str]:
    known = [field for _, nested in models_within(model) for field in fields_of(nested).values()]
    return frozenset(text for field in known for text in _texts_in(field.shape, field.info.default))


def _texts_in(shape: Shape, values: Any) -> Iterator[str]:
    for secret in _secrets(shape, values, None):
        yield from credential_texts(_text(secret.value)) if secret.is_part else _texts(secret.shape, secret.value)


def _texts(shape: Shape, value: Any) -> Iterator[str]:
    """Yield every text in a secret value. Its keys are texts too, except the names of fields."""
    if isinstance(value, SECRET_TYPES):
        value = value.get_secret_value()
    inner = _by_key(value)
    for key, item in inner.items():
        yield from _texts(shape_below(shape, key_text(key) if isinstance(value, Mapping) else key), item)
    if isinstance(value, Mapping):
        yield from (key_text(key) for key in inner if not refined(shape, value).models)
    elif isinstance(value, bytes):
        yield from (value.decode("utf-8", "replace"), repr(value)[2:-1])
    elif not inner and not isinstance(value, bool) and value not in (None, PydanticUndefined):
        yield str(value)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return a text with every secret in it masked, and the credentials of every URL.

    The longest come first, so that no part of one remains.
    """
    text = mask_credentials(text)
    longest_first = sorted(secrets, key=len, reverse=True)
    if not longest_first:
        return text
    # Pydantic quotes only the two ends of a long input, which no search for the whole would find.
    text = _QUOTED_INPUT.sub(f"input_value={MASK}, input_type=", text)
    words = ((re.escape(secret), len(secret) < _SHORT) for secret in longest_first)
    patterns = (rf"(?<!\w){word}(?!\w)" if is_short else word for word, is_short in words)
    # Without regard to case, which a validator may have changed.
    return re.sub("|".join(patterns), MASK, text, flags=re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class Sent:
    """What a client has sent to be tried: the words of its values and of its keys, and the keys that are no fields.

    A message in which only secrets are masked would say of each word whether it is one. So the words of the client are
    masked in it too.
    """

    words: AbstractSet[str] = frozenset()
    keys: AbstractSet[str] = frozenset()

    @classmethod
    def in_patch(cls, model: type, patch: Any) -> Sent:
        """Return it for a merge patch of a settings class."""
        words, keys = set[str](), set[str]()
        left: list[tuple[Shape, Any]] = [(Shape(models=(model,)), patch)]
        while left:
            shape, value = left.pop()
            inner = children(value)
            left.extend((shape_below(shape, key), item) for key, item in inner.items())
            if isinstance(value, Mapping):
                unknown = [str(key) for key in inner if not shape.models or descend(shape, key) is None]
                keys.update(unknown)
                words.update(word for key in unknown for word in _WORD.findall(key.casefold()))
            elif not inner:
                words.update(_WORD.findall(str(value).casefold()))
        return cls(words, keys)

    def hide(self, message: str) -> str:
        """Return a message, in which secrets are masked already, without the words of the client.

        Masks that touch, or have nothing but marks between them, are one: their number would tell a secret of two words
        from any others.
        """
        if not self.words:
            return message
        masked = _WORD.sub(lambda word: MASK if word[0].casefold() in self.words else word[0], message)
        return _MASKS.sub(MASK, masked)


NOTHING_SENT = Sent()


def traceback_without_message(error: BaseException) -> str:
    """Return the traceback of an error of foreign code without its text, which may quote any value."""
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    own = "".join((*traceback.format_tb(error.__traceback__), type(error).__name__))
    return "\n".join((own, *map(traceback_without_message, inner)))
