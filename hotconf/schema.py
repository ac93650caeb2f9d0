"""The schema: what a settings class says about its fields, read once per class.

Spellings follow pydantic: a `validation_alias` (a name, choices or a path), or the field's own name where the class
accepts it. The first spelling is the canonical one, as it is for pydantic-settings' own sources.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, get_args, get_origin, get_type_hints

from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Secret, SecretBytes, SecretStr
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic_settings import BaseSettings, SettingsConfigDict

from hotconf import keypath
from hotconf.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic.fields import FieldInfo

    from hotconf.keypath import KeyPath

SECRET_TYPES = (SecretStr, SecretBytes, Secret)


class Section(BaseModel):
    """A part of the settings: frozen, and unknown keys are faults."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(BaseSettings):
    """The root of the settings: frozen, and unknown keys are faults. Environment and dotenv work as usual."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class RestartRequired:
    """Marks a field, or a whole section, that only a restart can apply: `Annotated[int, RestartRequired()]`."""


@dataclass(frozen=True, slots=True)
class Sensitive:
    """Marks a plain field whose value is a secret: it is masked wherever hotconf shows or writes values."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a value may be: one of some models, a list, a mapping; none of them for a scalar. `secret` hides it."""

    models: tuple[type, ...] = ()
    items: Shape | None = None
    values: Shape | None = None
    secret: bool = False
    opaque: bool = False

    @property
    def nested(self) -> bool:
        """Whether anything lies below a value of this shape."""
        return bool(self.models or self.items or self.values or self.opaque)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a model. `spellings` are the keys that pydantic accepts for it, the canonical one first."""

    name: str
    spellings: tuple[str, ...]
    paths: tuple[KeyPath, ...]
    shape: Shape
    restart_required: bool
    sensitive: bool
    info: FieldInfo | None


@functools.lru_cache(maxsize=1024)
def fields(model: type) -> Mapping[str, Field]:
    """Return the fields of a model or dataclass by name; nothing for any other class."""
    if issubclass(model, BaseModel):
        config: Mapping[str, Any] = model.model_config
        return {name: _field(name, info, config) for name, info in model.model_fields.items()}
    if is_pydantic_dataclass(model):
        config = getattr(model, "__pydantic_config__", {})
        return {name: _field(name, info, config) for name, info in model.__pydantic_fields__.items()}
    if dataclasses.is_dataclass(model):
        hints = get_type_hints(model, include_extras=True)
        names = [field.name for field in dataclasses.fields(model)]
        return {name: _plain_field(name, hints[name]) for name in names}
    return {}


@functools.lru_cache(maxsize=1024)
def spellings(model: type) -> Mapping[str, Field]:
    """Return the fields of a model by every key that it accepts. An earlier field keeps a key that two claim."""
    found: dict[str, Field] = {}
    for field in fields(model).values():
        for spelling in field.spellings:
            found.setdefault(spelling, field)
    return found


def check(model: Any) -> None:
    """Refuse a class that cannot be a schema. Raises SchemaError, which names what stands in the way."""
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise SchemaError(f"{model!r} is not a pydantic model class: pass a BaseSettings or BaseModel subclass")
    if issubclass(model, BaseSettings):
        _check_constructor(model)
    for path, nested in walk(model):
        if path and issubclass(nested, BaseSettings):
            raise SchemaError(
                f"{model.__name__}.{keypath.render(path)}: {nested.__name__} is a nested BaseSettings, which would "
                "read the environment a second time during validation: derive it from BaseModel or hotconf.Section"
            )


def _check_constructor(model: type[BaseSettings]) -> None:
    owner = next(cls for cls in model.__mro__ if "__init__" in vars(cls))
    if owner is not BaseSettings:
        raise SchemaError(
            f"{owner.__name__} overrides __init__, which is not called when settings are built from merged values: "
            "move its work into validators or model_post_init"
        )


def walk(model: type) -> Iterator[tuple[KeyPath, type]]:
    """Yield every model reachable from a class with the first field path that leads to it, the class itself first."""
    pending: list[tuple[KeyPath, type]] = [((), model)]
    seen: set[type] = set()
    while pending:
        path, current = pending.pop(0)
        if current in seen:
            continue
        seen.add(current)
        yield path, current
        for field in fields(current).values():
            pending += [((*path, field.name), nested) for nested in models_in(field.shape)]


def models_in(shape: Shape) -> Iterator[type]:
    """Yield the models that a shape may hold, at any depth of its lists and mappings."""
    yield from shape.models
    for inner in (shape.items, shape.values):
        if inner is not None:
            yield from models_in(inner)


def resolve(model: type, dotted: str) -> KeyPath:
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
        found = step(shape, key)
        if found is None:
            raise SchemaError(_unknown(model, dotted, path, shape, key))
        shape, name = found
        path.append(name)
    return tuple(path)


def step(shape: Shape, key: str | int) -> tuple[Shape, str | int] | None:
    """Return the shape below a key, a field's name or a spelling of it, and the key as field paths write it."""
    for model in shape.models:
        field = fields(model).get(str(key)) or spellings(model).get(str(key))
        if field is not None:
            return field.shape, field.name
    if shape.items is not None and (isinstance(key, int) or key.isdigit()):
        return shape.items, int(key)
    if shape.values is not None:
        return shape.values, key
    return (shape, key) if shape.opaque else None


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _unknown(model: type, dotted: str, path: Sequence[str | int], shape: Shape, key: str | int) -> str:
    known = [name for nested in shape.models for name in fields(nested)]
    owner = f"{model.__name__}.{keypath.render(tuple(path))}" if path else model.__name__
    return f"{dotted!r}: {owner} has no field {str(key)!r}{suggest(str(key), known)}"


def _field(name: str, info: FieldInfo, config: Mapping[str, Any]) -> Field:
    keys, paths = _accepted(name, info, config)
    marks = info.metadata
    shape = shape_of(info.annotation)
    sensitive = shape.secret or any(isinstance(mark, Sensitive) or mark is Sensitive for mark in marks)
    restart = any(isinstance(mark, RestartRequired) or mark is RestartRequired for mark in marks)
    return Field(name, keys, paths, shape, restart, sensitive, info)


def _plain_field(name: str, annotation: Any) -> Field:
    marks = getattr(annotation, "__metadata__", ())
    shape = shape_of(annotation)
    sensitive = shape.secret or any(isinstance(mark, Sensitive) for mark in marks)
    restart = any(isinstance(mark, RestartRequired) for mark in marks)
    return Field(name, (name,), (), shape, restart, sensitive, None)


def _accepted(name: str, info: FieldInfo, config: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[KeyPath, ...]]:
    alias = info.validation_alias if config.get("validate_by_alias", True) is not False else None
    choices = alias.choices if isinstance(alias, AliasChoices) else [] if alias is None else [alias]
    keys = [choice for choice in choices if isinstance(choice, str)]
    paths = [tuple(choice.path) for choice in choices if isinstance(choice, AliasPath)]
    keys += [str(path[0]) for path in paths if len(path) == 1]
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    if alias is None or by_name:
        keys.append(name)
    return tuple(dict.fromkeys(keys)), tuple(path for path in paths if len(path) > 1)


@functools.lru_cache(maxsize=4096)
def _shape_of_class(annotation: type) -> Shape:
    if issubclass(annotation, SECRET_TYPES):
        return Shape(secret=True)
    if issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation):
        return Shape(models=(annotation,))
    if annotation in (object, dict):
        return Shape(opaque=True)
    if annotation in (list, tuple, set, frozenset):
        return Shape(items=Shape(opaque=True))
    return Shape(opaque=issubclass(annotation, dict))


def shape_of(annotation: Any) -> Shape:
    """Return the shape that a type annotation describes. What it cannot see into is opaque, never an error."""
    annotation = getattr(annotation, "__value__", annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        inner = shape_of(arguments[0])
        hidden = any(isinstance(mark, Sensitive) for mark in annotation.__metadata__)
        return dataclasses.replace(inner, secret=True) if hidden else inner
    if origin is None:
        return _shape_of_class(annotation) if isinstance(annotation, type) else Shape(opaque=annotation is Any)
    if not isinstance(origin, type) or origin.__name__ in ("UnionType", "Union"):
        return _union(shape_of(argument) for argument in arguments)
    return _shape_of_generic(origin, arguments)


def _shape_of_generic(origin: type, arguments: tuple[Any, ...]) -> Shape:
    if issubclass(origin, SECRET_TYPES):
        return Shape(secret=True)
    if issubclass(origin, BaseModel) or dataclasses.is_dataclass(origin):
        return Shape(models=(origin,))
    if issubclass(origin, Mapping):
        return Shape(values=shape_of(arguments[-1]))
    if issubclass(origin, (Sequence, AbstractSet)):
        return Shape(items=_union(shape_of(argument) for argument in arguments if argument is not ...))
    return Shape(opaque=True)


def _union(shapes: Iterable[Shape]) -> Shape:
    members = list(shapes)
    items = [shape.items for shape in members if shape.items]
    values = [shape.values for shape in members if shape.values]
    return Shape(
        models=tuple(dict.fromkeys(model for shape in members for model in shape.models)),
        items=_union(items) if items else None,
        values=_union(values) if values else None,
        secret=any(shape.secret for shape in members),
        opaque=any(shape.opaque for shape in members),
    )
