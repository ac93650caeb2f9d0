"""Shapes: what a value may be and what may lie below it, read from a type annotation."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NewType,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import BaseModel, ImportString, Json, Secret, SecretBytes, SecretStr
from typing_extensions import is_typeddict  # unlike typing's, it knows the classes that pydantic asks for

from hotconf.schema.settings import RestartRequired, Sensitive

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET_TYPES = (SecretStr, SecretBytes, Secret)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a value may be: one of some models, a list, a tuple, a mapping; none of them for a scalar.

    `models` are classes with fields: pydantic's, dataclasses, typed dictionaries, named tuples. `positions` are the
    items of a tuple of fixed length. `secret` hides the value and all that lies below it; `restart_required` keeps it
    and all that lies below it until a restart. Anything at all may lie below an `opaque` one. A value of a shape with
    `secret_words` is a secret where its key holds one of them.
    """

    models: tuple[type, ...] = ()
    items: Shape | None = None
    values: Shape | None = None
    positions: tuple[Shape, ...] = ()
    secret: bool = False
    restart_required: bool = False
    opaque: bool = False
    secret_words: frozenset[str] = frozenset()

    @property
    def nested(self) -> bool:
        """Whether anything lies below a value of this shape."""
        return bool(self.models or self.items or self.values or self.positions or self.opaque)

    @property
    def parts(self) -> Iterator[Shape]:
        """What lies directly below, models aside."""
        yield from (inner for inner in (self.items, self.values) if inner is not None)
        yield from self.positions


PLAIN = Shape()
"""A scalar that everybody may see."""


def shape_of(annotation: Any, within: frozenset[Any] = frozenset()) -> Shape:
    """Return the shape that a type annotation describes. What it cannot see into is opaque, never an error.

    `within` are the type aliases that the annotation is a part of: one that contains itself ends there.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if type(origin or annotation).__name__ == "TypeAliasType":  # there is one in typing and one in typing_extensions
        return _shape_of_alias(annotation, origin or annotation, within)
    if origin is None:
        return _shape_of_name(annotation, within)
    if hasattr(annotation, "__metadata__"):
        return with_marks(shape_of(arguments[0], within), annotation.__metadata__)
    if origin in (Literal, type):
        return PLAIN
    inner_shapes = [shape_of(argument, within) for argument in arguments if argument is not ...]
    if origin in (Union, types.UnionType) or not isinstance(origin, type):
        return union(inner_shapes)
    found = _shape_of_generic(origin, inner_shapes, is_open=... in arguments)
    # What keeps each of its items keeps the whole: none can be added, taken away or changed.
    return dataclasses.replace(found, restart_required=any(inner.restart_required for inner in inner_shapes))


def _shape_of_alias(annotation: Any, alias: Any, within: frozenset[Any]) -> Shape:
    if alias in within:
        return Shape(opaque=True)
    value, arguments = alias.__value__, get_args(annotation)
    if arguments and getattr(value, "__parameters__", ()):
        value = value[arguments]
    return shape_of(value, within | {alias})


def _shape_of_name(annotation: Any, within: frozenset[Any]) -> Shape:
    if isinstance(annotation, NewType):
        return shape_of(annotation.__supertype__, within)
    if isinstance(annotation, TypeVar):
        return union(shape_of(one, within) for one in (annotation.__constraints__ or [annotation.__bound__ or Any]))
    if annotation is None:
        return PLAIN
    # Not only Any and what is not resolved: a generic class that contains itself has an object of pydantic's there.
    known = annotation is not Any and isinstance(annotation, type)
    return _shape_of_class(annotation) if known else Shape(opaque=True)


@functools.lru_cache(maxsize=4096)
def _shape_of_class(annotation: type) -> Shape:
    if issubclass(annotation, SECRET_TYPES):
        return Shape(secret=True)
    if _has_fields(annotation):
        return Shape(models=(annotation,))
    if annotation in (object, Json, ImportString) or issubclass(annotation, Mapping):
        return Shape(opaque=True)
    is_text = issubclass(annotation, (str, bytes, bytearray, memoryview))
    return Shape(items=Shape(opaque=True)) if issubclass(annotation, (Sequence, AbstractSet)) and not is_text else PLAIN


def _has_fields(annotation: type) -> bool:
    is_record = dataclasses.is_dataclass(annotation) or is_typeddict(annotation) or is_named_tuple(annotation)
    return is_record or issubclass(annotation, BaseModel)


def _shape_of_generic(origin: type, arguments: list[Shape], *, is_open: bool) -> Shape:
    hidden = any(argument.secret for argument in arguments)
    if issubclass(origin, SECRET_TYPES):
        return Shape(secret=True)
    if _has_fields(origin):
        # What a type variable stands for is not known field by field.
        return Shape(models=(origin,), secret=hidden)
    if issubclass(origin, Mapping):
        return Shape(values=arguments[-1], secret=any(key.secret for key in arguments[:-1]))
    if issubclass(origin, tuple) and not is_open:
        return Shape(positions=tuple(arguments))
    if issubclass(origin, Iterable):
        return Shape(items=union(arguments))
    return Shape(opaque=True, secret=hidden)


def union(shapes: Iterable[Shape]) -> Shape:
    """Return the shape of a value that is one of several."""
    members = list(shapes)
    if len(members) == 1:
        return members[0]
    items = [shape.items for shape in members if shape.items]
    values = [shape.values for shape in members if shape.values]
    longest = max((len(shape.positions) for shape in members), default=0)
    return Shape(
        models=tuple(dict.fromkeys(model for shape in members for model in shape.models)),
        items=union(items) if items else None,
        values=union(values) if values else None,
        positions=tuple(union(s.positions[i] for s in members if i < len(s.positions)) for i in range(longest)),
        secret=any(shape.secret for shape in members),
        restart_required=any(shape.restart_required for shape in members),
        opaque=any(shape.opaque for shape in members),
        secret_words=frozenset().union(*(shape.secret_words for shape in members)),
    )


def with_marks(shape: Shape, metadata: Sequence[Any]) -> Shape:
    """Return a shape with what the metadata of an annotation mark it as."""
    return dataclasses.replace(
        shape,
        secret=shape.secret or _marked(metadata, Sensitive),
        restart_required=shape.restart_required or _marked(metadata, RestartRequired),
    )


def _marked(metadata: Iterable[Any], mark: type) -> bool:
    return any(isinstance(entry, mark) or entry is mark for entry in metadata)


def is_named_tuple(model: type) -> bool:
    """Whether a class is a named tuple, of typing or of collections."""
    return issubclass(model, tuple) and hasattr(model, "_fields")


def type_hints(model: type) -> Mapping[str, Any]:
    """Return the annotations of a class, resolved; Any for each of a class that refers to names nobody can see."""
    try:
        return get_type_hints(model, include_extras=True)
    except NameError:
        # A name local to a function: pydantic could see it where the class was made, nobody can now.
        return dict.fromkeys(inspect.get_annotations(model), Any)
