"""A sample: a commented TOML file written from a settings class, which that class accepts.

What a field says becomes a tree of tables and values, each value with a few choices, the likeliest first. The tree is
written, read back and validated; a choice that is refused gives way to the next, so that validators of the class are
heard too. A value without any choice left is commented out.
"""

from __future__ import annotations

import datetime as dt
import inspect
import textwrap
from collections.abc import Mapping, Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic_core import PydanticUndefined

import hotconf.formats as formats
import hotconf.values.keypath as keypath
from hotconf.cli.placeholder import Node, candidates, described, resolved
from hotconf.errors import FormatError, Rejected
from hotconf.reload.validate import validate
from hotconf.schema.diff import differences
from hotconf.schema.fields import fields_of, holds_secret, shape_below, unwrapped
from hotconf.schema.jsonschema import json_schema
from hotconf.schema.keys import with_canonical_keys
from hotconf.schema.redact import document
from hotconf.schema.tree import children, is_list
from hotconf.values.layer import Layer
from hotconf.values.merge import ABSENT, merge
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import BaseModel

    from hotconf.schema.fields import Field
    from hotconf.schema.shape import Shape
    from hotconf.values.keypath import KeyPath

_WIDTH = 100
_LONGEST_DEFAULT = 40


@dataclass(frozen=True, slots=True)
class Sample:
    """The text of a sample. `faults` is what it lacks: required values for which no placeholder fits."""

    text: str
    faults: tuple[Fault, ...]


def sample(model: type[BaseModel]) -> Sample:
    """Return a sample of what a file may hold for a settings class. No secret's default is in it."""
    root = _Table((), (), notes=_title(model), parts=list(_parts(model, _Place((), (), (model,)), ABSENT)))
    _settle(model, root, examples=True)  # so that an example, too, is right once its comment signs are taken away
    lines, faults = _settle(model, root, examples=False)
    return Sample("\n".join(line for line, _ in lines).strip("\n") + "\n", tuple(faults))


# The tree


@dataclass(slots=True, eq=False)
class _Value:
    """A field that is one entry. `path` is by names, as faults have it; `key` is as it is spelled below its table."""

    path: KeyPath
    key: KeyPath
    notes: list[str]
    choices: list[Any]
    example: bool
    tried: int = 0

    @property
    def spent(self) -> bool:
        return self.tried >= len(self.choices)


@dataclass(slots=True, eq=False)
class _Table:
    """A section: `[header]`, or with `many` one of a list, `[[header]]`. The one without a header is the whole."""

    header: KeyPath
    path: KeyPath
    many: bool = False
    example: bool = False
    notes: list[str] = field(default_factory=list)
    parts: list[_Value | _Table] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the tree something is: its header, its path by names, and the classes on the way, itself last."""

    header: KeyPath
    path: KeyPath
    models: tuple[type, ...]

    def below(self, header: KeyPath, path: KeyPath, model: type) -> _Place:
        return _Place((*self.header, *header), (*self.path, *path), (*self.models, model))


def _parts(model: type, place: _Place, given: Any) -> Iterator[_Value | _Table]:
    """Yield what the fields of a class become. `given` is an object that has their values already, if there is one."""
    schema = _schema(model)
    properties = resolved(schema, schema).get("properties", {})
    for entry in fields_of(model).values():
        default = _default(entry, given)
        tables = list(_tables(entry, place, default))
        if tables:
            yield from tables
        else:
            yield _value(entry, place, default, resolved(properties.get(_key(entry)[0], {}), schema))


def _key(entry: Field) -> KeyPath:
    """Return how a field is spelled below its section: by the spelling that counts, or by a path."""
    return (entry.keys[0],) if entry.keys else entry.input_paths[0]


def _tables(entry: Field, place: _Place, default: Any) -> Iterator[_Table]:
    """Yield the sections that a field becomes; none where it is an entry of its own."""
    empty = _is_empty(default)
    found = [] if entry.sensitive else list(_sections(unwrapped(entry.shape), ABSENT if empty else default))
    # A default that holds a secret of its own stays the default: to write it out would be to leave the secret out.
    example = empty or any(_has_own_secret(shape, item) for _, _, shape, item in found)
    notes = _section_notes(entry)
    models = [_section(shape, item) for _, _, shape, item in found]
    for (suffix, many, _, item), model in zip(found, models, strict=True):
        if None in models or model is None or model in place.models or not isinstance(_key(entry)[-1], str):
            return
        # The items of a list share one header, and are told apart by an index; those of a mapping have one each.
        header = _key(entry) if many else (*_key(entry), *suffix)
        inside = place.below(header, (entry.name, *suffix), model)
        parts = list(_parts(model, inside, item))
        yield _Table(inside.header, inside.path, many=many, example=example, notes=notes, parts=parts)
        notes = []


def _sections(shape: Shape, given: Any) -> Iterator[tuple[KeyPath, bool, Shape, Any]]:
    """Yield what may be a section of its own: the path below the field, whether it is one of a list, and its values."""
    if given is not ABSENT and not shape.models:
        many = is_list(given)
        inner = shape.items if many else shape.values
        for index, item in children(given).items() if inner is not None else ():
            yield (index,), many, inner or shape, item
    elif shape.models:
        yield (), False, shape, given
    elif shape.items is not None:
        yield (0,), True, shape.items, given
    elif shape.values is not None:
        yield ("name",), False, shape.values, given


def _section(shape: Shape, given: Any) -> type | None:
    """Return the class that describes a section; None for anything else, such as a scalar of a union."""
    known = [model for model in unwrapped(shape).models if fields_of(model) and not issubclass(model, tuple)]
    if given is not ABSENT and not isinstance(given, Mapping):
        known = [model for model in known if model in type(given).__mro__]
    return next(iter(known), None)


def _value(entry: Field, place: _Place, default: Any, node: Node) -> _Value:
    secret = entry.sensitive or (holds_secret(entry.shape) and not isinstance(default, (str, int, float)))
    raw = ABSENT if secret else _raw(default)
    required = raw is ABSENT and entry.info.is_required()
    guesses = [*([""] if secret else []), *filter(_is_writable, candidates(node))] if raw is ABSENT else []
    return _Value(
        path=(*place.path, entry.name),
        key=_key(entry),
        notes=[*_wrapped(entry.info.description), *_facts(entry, node, raw, required=required)],
        choices=guesses or [raw],
        example=raw is ABSENT and not required,
    )


def _schema(model: type) -> Mapping[str, Any]:
    try:
        return json_schema(model)
    except Exception:  # noqa: BLE001 - a class may have its own idea of a JSON Schema; the sample is poorer without
        return {}


# Defaults


def _default(entry: Field, given: Any) -> Any:
    """Return the value that a field has where no source sets it; ABSENT where it has none, or one made anew."""
    if given is not ABSENT:
        return children(given).get(entry.name, ABSENT)
    if entry.info.default_factory is not None:
        return _made_by(entry.info.default_factory)
    return ABSENT if entry.info.default is PydanticUndefined else entry.info.default


def _made_by(factory: Any) -> Any:
    """Return what a factory makes, if it makes the same twice: otherwise it is a time, or a number of its own."""
    try:
        made, again = factory(), factory()
    except Exception:  # noqa: BLE001 - the user's; it may need the other fields
        return ABSENT
    return ABSENT if differences(made, again) else made


def _is_empty(default: Any) -> bool:
    return default is None or (isinstance(default, (list, tuple, AbstractSet, Mapping)) and not default)


def _has_own_secret(shape: Shape, value: Any) -> bool:
    """Whether a default has a secret, at any depth, that its class would not give it anyway."""
    model = _section(shape, value)
    known = fields_of(model) if model is not None else {}
    for name, item in children(value).items():
        inner = shape_below(shape, name)
        if inner.secret and (name not in known or differences(item, known[name].info.default)):
            return True
        if not inner.secret and _has_own_secret(inner, item):
            return True
    return False


def _raw(value: Any) -> Any:
    """Return a default as a file would have it; ABSENT where none could."""
    raw = ABSENT if value is ABSENT else _plain(value)
    return raw if _is_writable(raw) else ABSENT


def _plain(value: Any) -> Any:
    kind: type = type(value)
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, (bool, int, float, str)):
        return next(kind(value) for kind in (bool, int, float, str) if isinstance(value, kind))
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value
    if is_list(value) or isinstance(value, AbstractSet):
        items = [_plain(item) for item in value]
        return ABSENT if any(item is ABSENT for item in items) else items
    if fields_of(kind) or isinstance(value, Mapping):
        entries = ((_spelled(kind, str(key)), _plain(item)) for key, item in children(value).items())
        return {key: item for key, item in entries if item is not ABSENT}
    shown = document(value)
    return shown if isinstance(shown, str) and not shown.startswith("<") else ABSENT


def _spelled(owner: type, name: str) -> str:
    known = fields_of(owner).get(name)
    return known.keys[0] if known is not None and known.keys else name


def _is_writable(value: Any) -> bool:
    """Whether TOML has this very value: it has no null, and neither every number nor every time."""
    try:
        text = formats.dump("toml", {"key": value})
        return not differences(formats.parse("toml", text.encode()), {"key": value})
    except (FormatError, UnicodeError):
        return False


# Notes


def _title(model: type) -> list[str]:
    return [f"Settings of {model.__name__}.", *_wrapped(_doc(model))]


def _section_notes(entry: Field) -> list[str]:
    shape = unwrapped(entry.shape)
    within = next((inner for inner in (shape.items, shape.values) if inner is not None), shape)
    model = _section(within, ABSENT) or _section(shape, ABSENT)
    facts = ["one of these for each"] if shape.items else ["one of these for each name"] if shape.values else []
    facts += ["needs a restart"] if entry.restart_required else []
    return [*_wrapped(entry.info.description or (_doc(model) if model else "")), *filter(None, ["; ".join(facts)])]


def _facts(entry: Field, node: Node, raw: Any, *, required: bool) -> Iterator[str]:
    facts = [described(node), "secret" if entry.sensitive else ""]
    facts += ["required"] if required else [f"default {_short(raw)}" if raw is not ABSENT else "optional"]
    facts += ["needs a restart"] if entry.restart_required else []
    yield "; ".join(filter(None, facts))


def _short(raw: Any) -> str:
    if raw == {}:
        return "{}"
    text = formats.dump("toml", {"key": raw}).removeprefix("key = ").strip()
    return text if len(text) <= _LONGEST_DEFAULT and "\n" not in text else "as below"


def _doc(model: type) -> str:
    own = vars(model).get("__doc__") or ""
    first = inspect.cleandoc(own).partition("\n\n")[0]
    return "" if first.startswith(f"{model.__name__}(") else first  # what dataclasses write themselves


def _wrapped(text: str | None) -> list[str]:
    return textwrap.wrap(" ".join((text or "").split()), _WIDTH)


# The text

# A line, and the value that wrote it.
_Line: TypeAlias = "tuple[str, _Value | None]"


def _settle(model: type[BaseModel], root: _Table, *, examples: bool) -> tuple[list[_Line], list[Fault]]:
    """Return the lines that stand when no value gives way any more, and the faults that are left."""
    values = list(_values(root))
    while True:
        lines = list(_table_lines(root, examples=examples))
        faults, culprits = _verdict(model, lines, values)
        if not culprits:
            return lines, faults
        for value in culprits:
            value.tried += 1


def _values(table: _Table) -> Iterator[_Value]:
    for part in table.parts:
        yield from _values(part) if isinstance(part, _Table) else [part]


def _verdict(
    model: type[BaseModel], lines: Sequence[_Line], values: Sequence[_Value]
) -> tuple[list[Fault], list[_Value]]:
    """Return the faults of a text, and the values that may yet mend them."""
    data = "\n".join(line for line, _ in lines).encode()
    try:
        layer = Layer("sample", formats.parse("toml", data), {})
        validate(model, merge([with_canonical_keys(model, layer)]))
    except FormatError as error:  # a path leads to where another field is
        return [Fault("", error.reason)], [value for value in values if len(value.key) > 1 and not value.spent]
    except Rejected as invalid:
        blamed = dict.fromkeys(_blamed(values, fault) for fault in invalid.faults)
        return list(invalid.faults), [value for value in blamed if value is not None and not value.spent]
    return [], []


def _blamed(values: Sequence[_Value], fault: Fault) -> _Value | None:
    """Return the value that a fault is about, if any: the one with whose path the fault's begins."""
    at = tuple(map(str, keypath.parse(fault.path)))
    return next((value for value in values if at[: len(value.path)] == tuple(map(str, value.path))), None)


def _table_lines(table: _Table, *, examples: bool) -> Iterator[_Line]:
    yield from ((f"# {note}", None) for note in table.notes)
    if table.header:
        header = ".".join(map(_quoted, table.header))
        yield f"[[{header}]]" if table.many else f"[{header}]", None
    # An entry after a table would belong to that table.
    for part in sorted(table.parts, key=lambda part: isinstance(part, _Table) or _is_nested(part)):
        yield "", None
        if isinstance(part, _Table):
            lines = _table_lines(part, examples=examples)
        else:
            yield from ((f"# {note}", part) for note in part.notes)
            lines = ((line, part) for line in _value_lines(table.header, part))
        hidden = part.example and not examples
        yield from ((f"# {line}" if hidden and line else line, value) for line, value in lines)


def _value_lines(header: KeyPath, value: _Value) -> Iterator[str]:
    if value.spent:
        yield f"# {'.'.join(map(_quoted, value.key))} ="
    elif _is_nested(value):
        whole = value.choices[value.tried]
        for key in reversed((*header, *value.key)):
            whole = {key: whole}
        yield from formats.dump("toml", whole).splitlines()
    else:
        *above, key = map(str, value.key)
        text = formats.dump("toml", {key: value.choices[value.tried]})
        yield from ("".join(f"{_quoted(part)}." for part in above) + text).splitlines()


def _is_nested(value: _Value) -> bool:
    """Whether a value is written as a table, or several: their headers have the whole path."""
    return not value.spent and formats.dump("toml", {"key": value.choices[value.tried]}).startswith("[")


def _quoted(key: str | int) -> str:
    return formats.dump("toml", {str(key): 0}).removesuffix(" = 0\n")
