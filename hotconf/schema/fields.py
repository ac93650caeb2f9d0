"""Fields: what a settings class says about its parts, read once per class.

The keys of a field follow pydantic: a `validation_alias` (a name, choices or a path), or the field's own name where the
class accepts it. The first is the canonical key, as it is for pydantic-settings' own sources.
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
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings
from typing_extensions import is_typeddict

import hotconf.values.keypath as keypath
from hotconf.errors import SchemaError
from hotconf.schema.caches import cached
from hotconf.schema.shape import Shape, is_named_tuple, shape_of, type_hints, union, with_marks, with_names
from hotconf.values.secrets import Secrecy, folded

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from hotconf.values.keypath import KeyPath

_ABOUT_THE_KEY = {"Required", "NotRequired", "ReadOnly", "ClassVar", "Final"}
"""What an annotation may say about a key and not about its value."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a model.

    `input_paths` are the paths below the model at which pydantic looks for the value, in its order. `keys` are those of
    them that are a single key, the canonical one first: one that no other field accepts, if there is any. `alias_paths`
    are the longer ones, of an AliasPath. A field may have no key at all. `masked_by_name` is true where its value is a
    secret only because a name of it says so.
    """

    name: str
    input_paths: tuple[KeyPath, ...]
    keys: tuple[str, ...]
    alias_paths: tuple[KeyPath, ...]
    shape: Shape
    info: FieldInfo
    masked_by_name: bool = False

    @property
    def sensitive(self) -> bool:
        """Whether its value is a secret as a whole."""
        return self.shape.secret

    @property
    def restart_required(self) -> bool:
        """Whether only a restart can apply a change of it."""
        return self.shape.restart_required


@cached
def fields_of(model: type) -> Mapping[str, Field]:
    """Return the fields of a model, dataclass, typed dictionary or named tuple; nothing for any other class."""
    if issubclass(model, BaseModel):
        if not model.__pydantic_complete__:
            # Only the model that was validated resolves its forward references by itself; those below it do not.
            model.model_rebuild(raise_errors=False)
        config: Mapping[str, Any] = model.model_config
        infos = model.model_fields
    elif is_pydantic_dataclass(model):
        config = getattr(model, "__pydantic_config__", {})
        infos = model.__pydantic_fields__
    else:
        infos, config = dict(_infos_of_record(model)), {}
    found = {name: _field(name, info, config) for name, info in infos.items()}
    # Where it can be helped, no field has a canonical key that another one accepts as well.
    claims = Counter(key for field in found.values() for key in set(field.keys))
    if max(claims.values(), default=1) == 1:
        return found
    return {
        name: dataclasses.replace(field, keys=tuple(sorted(field.keys, key=lambda key: claims[key] > 1)))
        for name, field in found.items()
    }


def _infos_of_record(model: type) -> Iterator[tuple[str, FieldInfo]]:
    """Yield what pydantic finds out about the fields of a standard dataclass, a typed dictionary or a named tuple."""
    hints: Mapping[str, Any] = {}
    defaults: Mapping[str, Any] = {}
    if dataclasses.is_dataclass(model):
        own = dataclasses.fields(model)
        known = type_hints(model)
        hints = {field.name: known.get(field.name, Any) for field in own}
        defaults = {field.name: field.default if isinstance(field.default, FieldInfo) else field for field in own}
    elif is_typeddict(model) or is_named_tuple(model):
        hints, defaults = type_hints(model), getattr(model, "_field_defaults", {})
    for name, hint in hints.items():
        while getattr(get_origin(hint), "__name__", "") in _ABOUT_THE_KEY:
            hint = get_args(hint)[0]  # noqa: PLW2901 - the rest of it is about the value
        default = defaults.get(name, PydanticUndefined)
        yield name, FieldInfo.from_annotated_attribute(hint, default)


def _field(name: str, info: FieldInfo, config: Mapping[str, Any]) -> Field:
    alias = info.validation_alias if config.get("validate_by_alias", True) is not False else None
    choices = alias.choices if isinstance(alias, AliasChoices) else [] if alias is None else [alias]
    paths: list[KeyPath] = [tuple(one.path) if isinstance(one, AliasPath) else (one,) for one in choices]
    if alias is None or config.get("populate_by_name") or config.get("validate_by_name"):
        paths.append((name,))
    paths = list(dict.fromkeys(paths))
    marked = with_marks(shape_of(info.annotation), info.metadata)
    shape = with_names(marked, name, *(path[-1] for path in paths))
    return Field(
        name=name,
        input_paths=tuple(paths),
        keys=tuple(str(path[0]) for path in paths if len(path) == 1),
        alias_paths=tuple(path for path in paths if len(path) > 1),
        shape=shape,
        info=info,
        masked_by_name=shape.secret and not marked.secret,
    )


@cached
def fields_by_key(model: type) -> Mapping[str, Field]:
    """Return the fields of a model by every key that it accepts. Of two fields with one key, the earlier has it."""
    found: dict[str, Field] = {}
    for field in fields_of(model).values():
        for key in field.keys:
            found.setdefault(key, field)
    return found


def check_schema(model: Any) -> None:
    """Refuse a class that cannot be a schema.

    Raises:
        SchemaError: The class cannot be used. The message names the reason.
    """
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise SchemaError(f"{model!r} is not a pydantic model class: pass a BaseSettings or BaseModel subclass")
    try:
        model.model_rebuild()
    except PydanticUndefinedAnnotation as error:
        raise SchemaError(f"{model.__name__} refers to a type that is not defined yet: {error.name}") from error


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


def models_in(shape: Shape) -> Iterator[type]:
    """Yield the models that a shape may hold, at any depth of its lists and mappings."""
    yield from shape.models
    for inner in shape.inner:
        yield from models_in(inner)


@cached
def reads_sources(model: type) -> bool:
    """Whether a class is a settings class, or has one anywhere in its fields: its constructor reads sources."""
    return any(issubclass(nested, BaseSettings) for _, nested in models_within(model))


@cached
def masked_by_name(model: type) -> tuple[str, ...]:
    """Return the dotted paths of the fields whose values are masked only because of their names, of each the first."""
    found = [
        keypath.render((*path, field.name))
        for path, nested in models_within(model)
        for field in fields_of(nested).values()
        if field.masked_by_name
    ]
    return tuple(found)


@cached
def mutable(model: type) -> tuple[str, ...]:
    """Return the parts of a class, by dotted path and the class itself by name, whose values a program can set."""

    def is_frozen(part: type) -> bool:
        if issubclass(part, BaseModel):
            return bool(part.model_config.get("frozen"))
        parameters = getattr(part, "__dataclass_params__", None)
        return is_named_tuple(part) or bool(parameters is not None and parameters.frozen)

    return tuple(keypath.render(path) or part.__name__ for path, part in models_within(model) if not is_frozen(part))


def resolve_path(model: type, dotted: str) -> KeyPath:
    """Return the path that a dotted text names in a settings class, list indices as numbers.

    Raises:
        SchemaError: No settings of this class can have such a path. The message names the nearest one that exists.
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
            owner = f"{model.__name__}.{keypath.render(tuple(path))}" if path else model.__name__
            near = suggest(str(key), [name for nested in unwrapped(shape).models for name in fields_of(nested)])
            raise SchemaError(f"{dotted!r}: {owner} has no field {str(key)!r}{near}")
        shape, name = found
        path.append(name)
    return tuple(path)


def descend(shape: Shape, key: str | int) -> tuple[Shape, str | int] | None:
    """Return the shape below a key of a value, or below a field's name, and the key as field paths write it.

    None where nothing can lie there. Of a union, what lies below is anything that one of its members has there. Field
    paths write a field's name, and the index of an item of a list or a named tuple.
    """
    shape = unwrapped(shape)
    index = int(key) if isinstance(key, int) or key.isdecimal() else None
    named: list[tuple[str | int, Shape]] = []
    for model in shape.models:
        known = fields_of(model)
        if is_named_tuple(model):
            named += [(at, field.shape) for at, field in enumerate(known.values()) if key == field.name or index == at]
        elif isinstance(key, str) and (found := known.get(key) or fields_by_key(model).get(key)) is not None:
            named.append((found.name, found.shape))
    inner = [each for _, each in named]
    if index is not None:
        inner += [item for item in (shape.items, *shape.positions[index : index + 1]) if item is not None]
    name = named[0][0] if named else index if index is not None and inner else key
    keyed = [] if shape.values is None else [shape.values]
    if not inner and not keyed:
        keyed = [extra for model in shape.models if (extra := extra_of(model)) is not None]
    if not inner and not keyed and shape.opaque:
        keyed = [Shape(opaque=True, secret_words=shape.secret_words)]
    # A key of a mapping of models is the name of one of them, and says nothing about what it is.
    inner += [each if each.models or shape.public else with_names(each, key) for each in keyed]
    if not inner:
        return None
    below = union(inner)
    secrecy = (
        Secrecy.ALL
        if shape.secret or any(word in folded(key) for word in below.secret_words)
        else max(shape.secrecy, below.secrecy)
    )
    public = below.public or (shape.public and not named)
    if (secrecy, public) != (below.secrecy, below.public):
        below = dataclasses.replace(below, secrecy=secrecy, public=public)
    return below, name


def shape_below(shape: Shape, key: str | int) -> Shape:
    """Return the shape below a key; where the schema knows none, one that is a secret if it lies below a secret."""
    found = descend(shape, key)
    return found[0] if found is not None else Shape(secrecy=Secrecy.ALL if shape.secret else shape.secrecy)


def shape_at(model: type, path: KeyPath) -> Shape:
    """Return the shape at a path of a settings class, written by names or by keys."""
    return functools.reduce(shape_below, path, Shape(models=(model,)))


def cut_at_secret(model: type, path: KeyPath) -> KeyPath:
    """Return a path into a model without the keys below the first secret on the way."""
    shape = Shape(models=(model,))
    for index, key in enumerate(path, 1):
        shape = shape_below(shape, key)
        if shape.secret:
            return path[:index]
    return path


@cached
def unwrapped(shape: Shape) -> Shape:
    """Return a shape with what its root models wrap in their place: a root model has no key of its own."""
    wrapped = [model for model in shape.models if issubclass(model, RootModel)]
    if not wrapped:
        return shape
    rest = dataclasses.replace(shape, models=tuple(model for model in shape.models if model not in wrapped))
    return unwrapped(union([rest, *(fields_of(model)["root"].shape for model in wrapped)]))


@cached
def holds_secret(shape: Shape) -> bool:
    """Whether a secret is declared, by a mark or by the name of a field, at or anywhere below a shape."""
    return any(found.secret for found in _reachable(shape))


@cached
def may_hold_secret(shape: Shape) -> bool:
    """Whether a secret may lie at or anywhere below a shape: a key that says so may lie below any mapping."""
    return any(
        found.secrecy or found.opaque or (found.values is not None and (found.values.text or found.values.nested))
        for found in _reachable(shape)
    )


@cached
def holds_restart_required(shape: Shape) -> bool:
    """Whether anything that only a restart can apply lies at or anywhere below a shape."""
    return any(found.restart_required for found in _reachable(shape))


@cached
def holds_content(shape: Shape) -> bool:
    """Whether the path of a file whose content counts lies at or anywhere below a shape."""
    return any(found.content for found in _reachable(shape))


def _reachable(shape: Shape) -> Iterator[Shape]:
    """Yield a shape and all that may lie anywhere below it, each once."""
    pending, seen = [shape], set[Shape]()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        yield current
        pending += current.inner
        pending += [field.shape for model in current.models for field in fields_of(model).values()]
        pending += [extra for model in current.models if (extra := extra_of(model)) is not None]


@cached
def extra_of(model: type) -> Shape | None:
    """Return the shape of keys beyond the fields, None where the model accepts none."""
    config = getattr(model, "model_config", None) or getattr(model, "__pydantic_config__", None) or {}
    if config.get("extra") != "allow":
        return None
    for owner in model.__mro__:
        if owner is not BaseModel and "__pydantic_extra__" in inspect.get_annotations(owner):
            return shape_of(type_hints(owner)["__pydantic_extra__"]).values
    return Shape(opaque=True, secret_words=getattr(model, "__secret_words__", frozenset()))


def suggest(name: str, known: Collection[str], *, most: int = 20_000) -> str:
    """Return `; did you mean 'x'?`, or nothing where no known name is near, or where there are more than `most`.

    Comparing with one name takes up to 0.1 ms and holds the interpreter. A caller that suggests for many names divides
    `most` by their number.
    """
    if len(known) > most:
        return ""
    folded = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), list(folded), n=1)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""
