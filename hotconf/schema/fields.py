"""The schema: what a settings class says about its fields, read once per class.

Spellings follow pydantic: a `validation_alias` (a name, choices or a path), or the field's own name where the class
accepts it. The first spelling is the canonical one, as it is for pydantic-settings' own sources.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import AliasChoices, AliasPath, BaseModel, RootModel
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic.errors import PydanticUndefinedAnnotation
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings
from typing_extensions import is_typeddict

import hotconf.values.keypath as keypath
from hotconf.errors import SchemaError
from hotconf.schema.settings import says_secret
from hotconf.schema.shape import Shape, is_named_tuple, shape_of, type_hints, union, with_marks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from hotconf.values.keypath import KeyPath


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a model. `places` are where pydantic looks for its value below the model, in that order.

    `spellings` are those that are a key, the canonical one first: one that no other field accepts, if there is any.
    `paths` are the longer ones, of an AliasPath. A field may have no spelling at all.
    """

    name: str
    input_paths: tuple[KeyPath, ...]
    keys: tuple[str, ...]
    alias_paths: tuple[KeyPath, ...]
    shape: Shape
    info: FieldInfo

    @property
    def sensitive(self) -> bool:
        """Whether its value is a secret as a whole."""
        return self.shape.secret

    @property
    def restart_required(self) -> bool:
        """Whether only a restart can apply a change of it."""
        return self.shape.restart_required


@functools.lru_cache(maxsize=1024)
def fields_of(model: type) -> Mapping[str, Field]:
    """Return the fields of a model, dataclass, typed dictionary or named tuple; nothing for any other class."""
    if issubclass(model, BaseModel):
        if not model.__pydantic_complete__:
            # Only the model that was validated resolves its forward references by itself; those below it do not.
            model.model_rebuild(raise_errors=False)
        config: Mapping[str, Any] = model.model_config
        return _told_apart({name: _field(name, info, config) for name, info in model.model_fields.items()})
    if is_pydantic_dataclass(model):
        config = getattr(model, "__pydantic_config__", {})
        return _told_apart({name: _field(name, info, config) for name, info in model.__pydantic_fields__.items()})
    return {name: _field(name, info, {}) for name, info in _plain_fields(model)}


def _told_apart(found: dict[str, Field]) -> dict[str, Field]:
    """Return fields of which none has a canonical spelling that another accepts as well, where it can be helped."""
    claims = Counter(spelling for field in found.values() for spelling in set(field.keys))
    if max(claims.values(), default=1) == 1:
        return found
    return {
        name: dataclasses.replace(field, keys=tuple(sorted(field.keys, key=lambda key: claims[key] > 1)))
        for name, field in found.items()
    }


def _plain_fields(model: type) -> Iterator[tuple[str, FieldInfo]]:
    if dataclasses.is_dataclass(model):
        hints = type_hints(model)
        for field in dataclasses.fields(model):
            hint = _bare(hints.get(field.name, Any))
            known = isinstance(field.default, FieldInfo)
            yield field.name, FieldInfo.from_annotated_attribute(hint, field.default) if known else _info(hint)
    elif is_typeddict(model) or is_named_tuple(model):
        for name, hint in type_hints(model).items():
            yield name, _info(_bare(hint))


def _info(hint: Any) -> FieldInfo:
    return FieldInfo.from_annotation(hint)


def _bare(annotation: Any) -> Any:
    """Return an annotation without what is said about the key: required or not, read-only, final."""
    while getattr(get_origin(annotation), "__name__", "") in {
        "Required",
        "NotRequired",
        "ReadOnly",
        "ClassVar",
        "Final",
    }:
        annotation = get_args(annotation)[0]
    return annotation


@functools.lru_cache(maxsize=1024)
def fields_by_key(model: type) -> Mapping[str, Field]:
    """Return the fields of a model by every key that it accepts. An earlier field keeps a key that two claim."""
    found: dict[str, Field] = {}
    for field in fields_of(model).values():
        for spelling in field.keys:
            found.setdefault(spelling, field)
    return found


def check_schema(model: Any) -> None:
    """Refuse a class that cannot be a schema. Raises SchemaError, which names what stands in the way."""
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise SchemaError(f"{model!r} is not a pydantic model class: pass a BaseSettings or BaseModel subclass")
    if issubclass(model, BaseSettings):
        _check_constructor(model)
    _complete(model)
    for path, nested in models_within(model):
        if path and issubclass(nested, BaseSettings):
            raise SchemaError(
                f"{model.__name__}.{keypath.render(path)}: {nested.__name__} is a nested BaseSettings, which would "
                "read the environment a second time during validation: derive it from BaseModel or hotconf.Section"
            )


def _complete(model: type[BaseModel]) -> None:
    try:
        model.model_rebuild()
    except PydanticUndefinedAnnotation as error:
        raise SchemaError(f"{model.__name__} refers to a type that is not defined yet: {error.name}") from error


def _check_constructor(model: type[BaseSettings]) -> None:
    owner = next(cls for cls in model.__mro__ if "__init__" in vars(cls))
    if owner is not BaseSettings:
        raise SchemaError(
            f"{owner.__name__} overrides __init__, which is not called when settings are built from merged values: "
            "move its work into validators or model_post_init"
        )


def models_within(model: type) -> Iterator[tuple[KeyPath, type]]:
    """Yield every model reachable from a class with the first field path that leads to it, the class itself first."""
    pending: list[tuple[KeyPath, type]] = [((), model)]
    seen: set[type] = set()
    while pending:
        path, current = pending.pop(0)
        if current in seen:
            continue
        seen.add(current)
        yield path, current
        for field in fields_of(current).values():
            pending += [((*path, field.name), nested) for nested in models_in(field.shape)]


@functools.lru_cache(maxsize=1024)
def mutable(model: type) -> tuple[str, ...]:
    """Return the parts of a class, by dotted path and the class itself by name, whose values a program can set."""
    return tuple(
        keypath.render(path) or nested.__name__ for path, nested in models_within(model) if not _is_frozen(nested)
    )


def _is_frozen(model: type) -> bool:
    if issubclass(model, BaseModel):
        return bool(model.model_config.get("frozen"))
    parameters = getattr(model, "__dataclass_params__", None)
    return is_named_tuple(model) or bool(parameters is not None and parameters.frozen)


def models_in(shape: Shape) -> Iterator[type]:
    """Yield the models that a shape may hold, at any depth of its lists and mappings."""
    yield from shape.models
    for inner in shape.parts:
        yield from models_in(inner)


def resolve_path(model: type, dotted: str) -> KeyPath:
    """Return the path that a dotted text names in a settings class, list indices as numbers.

    Raises SchemaError for a path that no settings of this class can have, and names the nearest one that exists.
    """
    try:
        wanted = keypath.parse(dotted)
    except ValueError as error:
        raise SchemaError(str(error)) from None
    path: list[str | int] = []
    shape = Shape(models=(model,))
    for key in wanted:
        found = descend(shape, key)
        if found is None:
            raise SchemaError(_unknown(model, dotted, path, shape, key))
        shape, name = found
        path.append(name)
    return tuple(path)


def descend(shape: Shape, key: str | int) -> tuple[Shape, str | int] | None:
    """Return the shape below a key, a field's name or a spelling of it, and the key as field paths write it.

    None where nothing can lie there. Of a union, what lies below is anything that one of its members has there.
    """
    shape = unwrapped(shape)
    named = [(name, field) for model in shape.models for name, field in _fields_at(model, key)]
    inner = [field.shape for _, field in named]
    index = _index(key)
    if index is not None:
        inner += [item for item in (shape.items, *shape.positions[index : index + 1]) if item is not None]
    name = named[0][0] if named else index if index is not None and inner else key
    if shape.values is not None:
        inner.append(shape.values)
    if not inner:
        inner = [extra for model in shape.models if (extra := _extra(model)) is not None]
    if not inner and not shape.opaque:
        return None
    found = union(inner) if inner else Shape(opaque=True, secret_words=shape.secret_words)
    hidden = shape.secret or says_secret(key, found.secret_words)
    return (dataclasses.replace(found, secret=True) if hidden else found), name


def shape_below(shape: Shape, key: str | int) -> Shape:
    """Return the shape below a key; where the schema knows nothing of it, what is certain: that a secret hides it."""
    found = descend(shape, key)
    return found[0] if found is not None else Shape(secret=shape.secret)


def shape_at(model: type, path: KeyPath) -> Shape:
    """Return the shape at a path of a settings class, written by names or by spellings."""
    shape = Shape(models=(model,))
    for key in path:
        shape = shape_below(shape, key)
    return shape


def cut_at_secret(model: type, path: KeyPath) -> KeyPath:
    """Return a path into a model without the keys below the first secret on the way."""
    shape = Shape(models=(model,))
    for index, key in enumerate(path, 1):
        shape = shape_below(shape, key)
        if shape.secret:
            return path[:index]
    return path


@functools.lru_cache(maxsize=4096)
def unwrapped(shape: Shape) -> Shape:
    """Return a shape with what its root models wrap in their place: a root model has no key of its own."""
    wrapped = [model for model in shape.models if issubclass(model, RootModel)]
    if not wrapped:
        return shape
    rest = dataclasses.replace(shape, models=tuple(model for model in shape.models if model not in wrapped))
    return unwrapped(union([rest, *(fields_of(model)["root"].shape for model in wrapped)]))


@functools.lru_cache(maxsize=4096)
def holds_secret(shape: Shape) -> bool:
    """Whether a secret lies, or may lie, at or anywhere below a shape."""
    return any(found.secret or found.secret_words for found in _reachable(shape))


@functools.lru_cache(maxsize=4096)
def holds_restart_required(shape: Shape) -> bool:
    """Whether anything that only a restart can apply lies at or anywhere below a shape."""
    return any(found.restart_required for found in _reachable(shape))


def _reachable(shape: Shape) -> Iterator[Shape]:
    """Yield a shape and all that may lie anywhere below it, each once."""
    pending, seen = [shape], set[Shape]()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        yield current
        pending += current.parts
        pending += [field.shape for model in current.models for field in fields_of(model).values()]
        pending += [extra for model in current.models if (extra := _extra(model)) is not None]


def _fields_at(model: type, key: str | int) -> Iterator[tuple[str | int, Field]]:
    """Yield the field that a key names, with the key that field paths have for it: a named tuple's is its index."""
    if is_named_tuple(model):
        known = enumerate(fields_of(model).values())
        yield from ((index, field) for index, field in known if key == field.name or _index(key) == index)
    elif isinstance(key, str):
        field = fields_of(model).get(key) or fields_by_key(model).get(key)
        if field is not None:
            yield field.name, field


def _index(key: str | int) -> int | None:
    return int(key) if isinstance(key, int) or key.isdecimal() else None


@functools.lru_cache(maxsize=1024)
def _extra(model: type) -> Shape | None:
    """Return the shape of keys beyond the fields, None where the model has no place for them."""
    config = getattr(model, "model_config", None) or getattr(model, "__pydantic_config__", None) or {}
    if config.get("extra") != "allow":
        return None
    for owner in model.__mro__:
        if owner is not BaseModel and "__pydantic_extra__" in inspect.get_annotations(owner):
            return shape_of(type_hints(owner)["__pydantic_extra__"]).values
    return Shape(opaque=True, secret_words=getattr(model, "__secret_words__", frozenset()))


def suggest(name: str, known: Collection[str], *, most: int = 20_000) -> str:
    """Return `; did you mean 'x'?`, or nothing where no known name is near, or where there are more than `most`.

    Each of them takes up to 0.1 ms, while the interpreter is held: whoever suggests many times divides `most` by that.
    """
    if len(known) > most:
        return ""
    folded = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), list(folded), n=1)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


def _unknown(model: type, dotted: str, path: Sequence[str | int], shape: Shape, key: str | int) -> str:
    known = [name for nested in unwrapped(shape).models for name in fields_of(nested)]
    owner = f"{model.__name__}.{keypath.render(tuple(path))}" if path else model.__name__
    return f"{dotted!r}: {owner} has no field {str(key)!r}{suggest(str(key), known)}"


def _field(name: str, info: FieldInfo, config: Mapping[str, Any]) -> Field:
    places = tuple(dict.fromkeys(_places(name, info, config)))
    shape = shape_of(info.annotation)
    return Field(
        name=name,
        input_paths=places,
        keys=tuple(str(place[0]) for place in places if len(place) == 1),
        alias_paths=tuple(place for place in places if len(place) > 1),
        shape=with_marks(shape, info.metadata),
        info=info,
    )


def _places(name: str, info: FieldInfo, config: Mapping[str, Any]) -> Iterator[KeyPath]:
    alias = info.validation_alias if config.get("validate_by_alias", True) is not False else None
    for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
        if choice is not None:
            yield tuple(choice.path) if isinstance(choice, AliasPath) else (choice,)
    if alias is None or config.get("populate_by_name") or config.get("validate_by_name"):
        yield (name,)
