"""Shapes: what a value may be and what may lie below it, read from a type annotation."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence, Set as AbstractSet
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

from pydantic import BaseModel, ImportString, Json, Secret, SecretBytes, SecretStr, TypeAdapter
from typing_extensions import is_typeddict  # unlike typing's, it knows the classes that pydantic asks for

from hotconf.schema.caches import cached
from hotconf.schema.settings import Content, Public, RestartRequired, Sensitive
from hotconf.values.keypath import Key, key_text
from hotconf.values.secrets import HARMLESS, Secrecy, secrecy_of

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET_TYPES = (SecretStr, SecretBytes, Secret)


@dataclass(frozen=True, eq=False)
class KeyType:
    """What a mapping says of its keys."""

    annotation: Any

    def spelling(self, key: Key) -> str:
        """Return a key as this type wants it: as the key itself where that is of this type, else as its text.

        A key of this type that a file writes in its own way, such as 0x10, gets the text that settings have for it.
        """
        itself = Key(key_text(key.value), key.value)
        made = self._made(key.value)
        if type(made) is type(key.value) and made == key.value:
            return itself
        return itself if self._made(str(key)) is _REFUSED else str(key)

    def _made(self, key: Any) -> Any:
        try:
            return self._adapter.validate_python(key) if self._adapter is not None else key
        except Exception:  # noqa: BLE001 - a validator of the class may do anything
            return _REFUSED

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[Any] | None:
        try:
            return TypeAdapter(self.annotation)
        except Exception:  # noqa: BLE001 - such as a name that is not defined here
            return None


_REFUSED = object()


@dataclass(frozen=True, slots=True)
class Shape:
    """What a value may be: one of some models, a list, a tuple, a mapping; none of them for a scalar.

    `models` are classes with fields: pydantic's, dataclasses, typed dictionaries, named tuples. `keys` is the type of a
    mapping's keys, None for strings. `positions` are the items of a tuple of fixed length. Anything at all may lie
    below an `opaque` shape. A scalar may be `text`, or it may be `harmless`: a number, a date, a member of an enum,
    which a name alone does not make a secret.

    `secrecy` says how much of the value is hidden, with all that lies below it, and `public` that nothing is because of
    a name or a URL. Below an opaque shape with `secret_words` a key that has one of them hides its value.
    `restart_required` keeps the value, and all that lies below it, until a restart. `content` is set for the path of a
    file whose content counts.
    """

    models: tuple[type, ...] = ()
    items: Shape | None = None
    values: Shape | None = None
    keys: KeyType | None = None
    positions: tuple[Shape, ...] = ()
    opaque: bool = False
    text: bool = False
    harmless: bool = False
    secrecy: Secrecy = Secrecy.NONE
    public: bool = False
    restart_required: bool = False
    content: bool = False
    secret_words: frozenset[str] = frozenset()

    @property
    def secret(self) -> bool:
        """Whether a value of this shape is hidden as a whole, if not because it is a number."""
        return self.secrecy > Secrecy.CONNECTION

    @property
    def nested(self) -> bool:
        """Whether anything lies below a value of this shape."""
        return bool(self.models or self.items or self.values or self.positions or self.opaque)

    @property
    def inner(self) -> Iterator[Shape]:
        """The shapes directly below, models aside."""
        yield from (inner for inner in (self.items, self.values) if inner is not None)
        yield from self.positions


PLAIN = Shape()
"""Something of which the schema says nothing."""


def shape_of(annotation: Any, within: frozenset[Any] = frozenset()) -> Shape:  # noqa: PLR0911 - a table of kinds
    """Return the shape that a type annotation describes. What it cannot see into is opaque, never an error.

    `within` are the type aliases that the annotation is a part of: one that contains itself ends there.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    kind: Any = origin or annotation
    if type(kind).__name__ == "TypeAliasType":  # there is one in typing and one in typing_extensions
        if kind in within:
            return Shape(opaque=True)
        value = kind.__value__
        if arguments and getattr(value, "__parameters__", ()):
            value = value[arguments]
        return shape_of(value, within | {kind})
    if hasattr(annotation, "__metadata__"):
        return with_marks(shape_of(arguments[0], within), annotation.__metadata__)
    if isinstance(kind, NewType):
        return shape_of(kind.__supertype__, within)
    if isinstance(kind, TypeVar):
        return union(shape_of(one, within) for one in (kind.__constraints__ or [kind.__bound__ or Any]))
    if kind is None or kind in (Literal, type):
        return Shape(harmless=kind is not None)
    if not arguments:  # a class; of typing's generics without arguments, the class that they stand for
        # Not only Any and what is not resolved: a generic class that contains itself has an object of pydantic's there.
        return _shape_of_class(kind) if kind is not Any and isinstance(kind, type) else Shape(opaque=True)
    inner = [shape_of(argument, within) for argument in arguments if argument is not ...]
    if kind in (Union, types.UnionType) or not isinstance(kind, type):
        return union(inner)
    return _shape_of_generic(kind, arguments, inner)


@cached
def _shape_of_class(kind: type) -> Shape:
    if issubclass(kind, SECRET_TYPES):
        return Shape(secrecy=Secrecy.ALL)
    if _has_fields(kind):
        return Shape(models=(kind,))
    if kind in (object, Json, ImportString) or issubclass(kind, Mapping):
        return Shape(opaque=True)
    is_text = issubclass(kind, (str, bytes, bytearray, memoryview))
    has_items = kind in (Iterable, Collection) or (issubclass(kind, (Sequence, AbstractSet)) and not is_text)
    if has_items:
        return Shape(items=Shape(opaque=True))
    is_harmless = issubclass(kind, HARMLESS)
    return Shape(harmless=is_harmless, text=not is_harmless and kind is not type(None))


def _shape_of_generic(kind: type, arguments: tuple[Any, ...], inner: list[Shape]) -> Shape:
    secrecy = max(shape.secrecy for shape in inner)
    if issubclass(kind, SECRET_TYPES):
        found = Shape(secrecy=Secrecy.ALL)
    elif _has_fields(kind):
        # What a type variable stands for is not known field by field.
        found = Shape(models=(kind,), secrecy=secrecy)
    elif issubclass(kind, Counter):
        found = Shape(values=Shape(harmless=True), keys=_key_type(arguments), secrecy=secrecy)
    elif issubclass(kind, Mapping):
        secrecy = max((key.secrecy for key in inner[:-1]), default=Secrecy.NONE)
        found = Shape(values=inner[-1], keys=_key_type(arguments), secrecy=secrecy)
    elif issubclass(kind, tuple) and ... not in arguments:
        found = Shape(positions=tuple(inner))
    elif issubclass(kind, Iterable):
        found = Shape(items=union(inner))
    else:
        found = Shape(opaque=True, secrecy=secrecy)
    # What keeps each of its items keeps the whole: none can be added, taken away or changed.
    return dataclasses.replace(found, restart_required=any(shape.restart_required for shape in inner))


def _key_type(arguments: tuple[Any, ...]) -> KeyType | None:
    return None if arguments[0] is str else KeyType(arguments[0])


def _has_fields(kind: type) -> bool:
    is_record = dataclasses.is_dataclass(kind) or is_typeddict(kind) or is_named_tuple(kind)
    return is_record or issubclass(kind, BaseModel)


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
        keys=next((shape.keys for shape in members if shape.keys), None),
        positions=tuple(union(s.positions[i] for s in members if i < len(s.positions)) for i in range(longest)),
        opaque=any(shape.opaque for shape in members),
        text=any(shape.text for shape in members),
        harmless=any(shape.harmless for shape in members),
        secrecy=max((shape.secrecy for shape in members), default=Secrecy.NONE),
        public=any(shape.public for shape in members),
        restart_required=any(shape.restart_required for shape in members),
        content=any(shape.content for shape in members),
        secret_words=frozenset().union(*(shape.secret_words for shape in members)),
    )


def with_marks(shape: Shape, metadata: Sequence[Any]) -> Shape:
    """Return a shape with what the metadata of an annotation mark it as."""
    return dataclasses.replace(
        shape,
        secrecy=Secrecy.ALL if _marked(metadata, Sensitive) else shape.secrecy,
        public=shape.public or _marked(metadata, Public),
        restart_required=shape.restart_required or _marked(metadata, RestartRequired),
        content=shape.content or _marked(metadata, Content),
    )


def with_names(shape: Shape, *names: str | int) -> Shape:
    """Return a shape with the secrecy that the names of its key give it."""
    secrecy = max(map(secrecy_of, names), default=Secrecy.NONE)
    if not secrecy or shape.public or not (shape.text or shape.nested):
        return shape
    if secrecy > Secrecy.CONNECTION and not (shape.harmless or shape.opaque):
        secrecy = Secrecy.ALL  # there is nothing in it that a name does not hide
    return dataclasses.replace(shape, secrecy=max(shape.secrecy, secrecy))


def _marked(metadata: Iterable[Any], mark: type) -> bool:
    return any(isinstance(entry, mark) or entry is mark for entry in metadata)


def is_named_tuple(model: type) -> bool:
    """Whether a class is a named tuple, of typing or of collections."""
    return issubclass(model, tuple) and hasattr(model, "_fields")


def type_hints(model: type) -> Mapping[str, Any]:
    """Return the annotations of a class, resolved; Any for each where one refers to a name that is not in reach."""
    try:
        return get_type_hints(model, include_extras=True)
    except NameError:
        # A name local to a function, which was in reach only where the class was made.
        return dict.fromkeys(inspect.get_annotations(model), Any)
