"""A sample: a commented TOML file written from a settings class, which that class accepts.

The fields become a tree of tables and values. Each value has a few choices, the most likely one first. The tree is
written, read back and validated; a choice that is refused is replaced by the next one, so validators of the class are
respected too. A value without a choice left is commented out.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import inspect
import textwrap
from collections.abc import Mapping, Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

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
from hotconf.schema.redact import document, is_masked
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
    """The text of a sample, and its faults: the required values for which no placeholder was found."""

    text: str
    faults: tuple[Fault, ...]


def sample(model: type[BaseModel]) -> Sample:
    """Return a sample of a file for a settings class. It holds no default of a secret."""
    title = [f"Settings of {model.__name__}.", *_wrapped(_doc(model))]
    root = _Table((), notes=title, parts=list(_parts(model, _Place((), (), (model,)), ABSENT)))
    _fitted(model, root, examples=True)  # so that an example is valid too, once its comment signs are removed
    lines, faults = _fitted(model, root, examples=False)
    return Sample("\n".join(lines).strip("\n") + "\n", tuple(faults))


def _fitted(model: type[BaseModel], root: _Table, *, examples: bool) -> tuple[list[str], Sequence[Fault]]:
    """Return the lines of the tree after every refused choice was replaced, and the faults that remain."""
    values = list(_values(root))
    while True:
        lines = list(_table_lines(root, examples=examples))
        try:
            layer = Layer("sample", formats.parse("toml", "\n".join(lines).encode()), {})
            validate(model, merge([with_canonical_keys(model, layer)]))
        except FormatError as error:  # a value of an AliasPath lies where another field is
            faults: Sequence[Fault] = [Fault("", error.reason)]
            refused = [value for value in values if len(value.key) > 1]
        except Rejected as rejected:
            faults = rejected.faults
            paths = [tuple(map(str, keypath.parse(fault.path))) for fault in faults]
            # Of each fault the value that it is about, which has the beginning of its path.
            starts = [(value, tuple(map(str, value.path))) for value in values]
            blamed = (next((v for v, start in starts if path[: len(start)] == start), None) for path in paths)
            refused = [value for value in dict.fromkeys(blamed) if value is not None]
        else:
            return lines, ()
        replaceable = [value for value in refused if not value.spent]
        if not replaceable:
            return lines, faults
        for value in replaceable:
            value.tried += 1


# The tree


@dataclass(slots=True, eq=False)
class _Value:
    """A field that is one entry. `path` has names of fields, as faults do; `key` is its spelling below its table."""

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
    """A section: `[header]`, or with `many` one of a list, `[[header]]`. The root has no header."""

    header: KeyPath
    many: bool = False
    example: bool = False
    notes: list[str] = field(default_factory=list)
    parts: list[_Value | _Table] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in the tree: its header, its path of field names, and the classes on the way to it, its own last."""

    header: KeyPath
    path: KeyPath
    models: tuple[type, ...]


def _parts(model: type, place: _Place, given: Any) -> Iterator[_Value | _Table]:
    """Yield the parts for the fields of a class. `given` is an object that has their values, or ABSENT."""
    schema: Node = {}
    with contextlib.suppress(Exception):  # a class may have no JSON Schema; the notes say less then
        schema = json_schema(model)
    properties = resolved(schema, schema).get("properties", {})
    for entry in fields_of(model).values():
        default = _default(entry, given)
        tables = list(_tables(entry, place, default))
        if tables:
            yield from tables
        else:
            yield _value(entry, place, default, resolved(properties.get(_key(entry)[0], {}), schema))


def _key(entry: Field) -> KeyPath:
    """Return the spelling of a field below its section: its first key, or the path of an AliasPath."""
    return (entry.keys[0],) if entry.keys else entry.input_paths[0]


def _tables(entry: Field, place: _Place, default: Any) -> Iterator[_Table]:
    """Yield the sections for a field; none where it is an entry."""
    empty = default is None or (isinstance(default, (list, tuple, AbstractSet, Mapping)) and not default)
    found = [] if entry.sensitive else list(_sections(unwrapped(entry.shape), ABSENT if empty else default))
    # A default with a secret of its own becomes an example: written out without the secret it would replace it.
    example = empty or any(_has_own_secret(shape, item) for _, _, shape, item in found)
    notes = _section_notes(entry)
    models = [_section(shape, item) for _, _, shape, item in found]
    for (suffix, many, _, item), model in zip(found, models, strict=True):
        if None in models or model is None or model in place.models or not isinstance(_key(entry)[-1], str):
            return
        # The items of a list share one header, those of a mapping have one each.
        header = (*place.header, *_key(entry), *(() if many else suffix))
        inside = _Place(header, (*place.path, entry.name, *suffix), (*place.models, model))
        yield _Table(header, many=many, example=example, notes=notes, parts=list(_parts(model, inside, item)))
        notes = []


def _sections(shape: Shape, given: Any) -> Iterator[tuple[KeyPath, bool, Shape, Any]]:
    """Yield the candidates for a section: path below the field, whether it is an item of a list, shape and values."""
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
    holds = holds_secret(entry.shape) and not isinstance(default, (str, int, float))
    secret = entry.sensitive or holds or is_masked(default, entry.shape)
    raw = ABSENT if secret or default is ABSENT else _plain(default)
    if not _is_writable(raw):
        raw = ABSENT
    required = raw is ABSENT and entry.info.is_required()
    guesses = [*([""] if secret else []), *filter(_is_writable, candidates(node))] if raw is ABSENT else []
    facts = [
        described(node),
        "secret" if entry.sensitive else "",
        "required" if required else "optional" if raw is ABSENT else f"default {_short(raw)}",
        "needs a restart" if entry.restart_required else "",
    ]
    return _Value(
        path=(*place.path, entry.name),
        key=_key(entry),
        notes=[*_wrapped(entry.info.description), "; ".join(filter(None, facts))],
        choices=guesses or [raw],
        example=raw is ABSENT and not required,
    )


# Defaults


def _default(entry: Field, given: Any) -> Any:
    """Return the value that a field has where no source sets it; ABSENT for none, or one that is new each time."""
    if given is not ABSENT:
        return children(given).get(entry.name, ABSENT)
    factory: Any = entry.info.default_factory
    if factory is None:
        return ABSENT if entry.info.default is PydanticUndefined else entry.info.default
    try:
        made, again = factory(), factory()
    except Exception:  # noqa: BLE001 - the user's code; it may need the other fields
        return ABSENT
    return ABSENT if differences(made, again) else made


def _has_own_secret(shape: Shape, value: Any) -> bool:
    """Whether a default has a secret, at any depth, that is not the default of its own class."""
    model = _section(shape, value)
    known = fields_of(model) if model is not None else {}
    for name, item in children(value).items():
        inner = shape_below(shape, name)
        is_secret = inner.secret or (not children(item) and is_masked(item, inner))
        if is_secret and (name not in known or differences(item, known[name].info.default)):
            return True
        if not is_secret and _has_own_secret(inner, item):
            return True
    return False


def _plain(value: Any) -> Any:
    """Return a default as a file has it; ABSENT where none can have it."""
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
        known, result = fields_of(kind), {}
        for name, item in children(value).items():
            entry, plain = known.get(str(name)), _plain(item)
            if plain is not ABSENT:
                result[entry.keys[0] if entry is not None and entry.keys else str(name)] = plain
        return result
    shown = document(value)
    return shown if isinstance(shown, str) and not shown.startswith("<") else ABSENT


def _is_writable(value: Any) -> bool:
    """Whether TOML can hold exactly this value. It has no null, and not every number or time."""
    try:
        text = formats.dump("toml", {"key": value})
        return not differences(formats.parse("toml", text.encode()), {"key": value})
    except (FormatError, UnicodeError):
        return False


# Notes


def _section_notes(entry: Field) -> list[str]:
    shape = unwrapped(entry.shape)
    within = next((inner for inner in (shape.items, shape.values) if inner is not None), shape)
    model = _section(within, ABSENT) or _section(shape, ABSENT)
    facts = ["one of these for each"] if shape.items else ["one of these for each name"] if shape.values else []
    facts += ["needs a restart"] if entry.restart_required else []
    return [*_wrapped(entry.info.description or (_doc(model) if model else "")), *filter(None, ["; ".join(facts)])]


def _short(raw: Any) -> str:
    if raw == {}:
        return "{}"
    text = formats.dump("toml", {"key": raw}).removeprefix("key = ").strip()
    return text if len(text) <= _LONGEST_DEFAULT and "\n" not in text else "as below"


def _doc(model: type) -> str:
    own = vars(model).get("__doc__") or ""
    first = inspect.cleandoc(own).partition("\n\n")[0]
    return "" if first.startswith(f"{model.__name__}(") else first  # the docstring that dataclasses generate


def _wrapped(text: str | None) -> list[str]:
    return textwrap.wrap(" ".join((text or "").split()), _WIDTH)


# The text


def _values(table: _Table) -> Iterator[_Value]:
    for part in table.parts:
        yield from _values(part) if isinstance(part, _Table) else [part]


def _table_lines(table: _Table, *, examples: bool) -> Iterator[str]:
    yield from (f"# {note}" for note in table.notes)
    if table.header:
        header = ".".join(map(_quoted, table.header))
        yield f"[[{header}]]" if table.many else f"[{header}]"
    # An entry after a table would belong to that table.
    for part in sorted(table.parts, key=lambda part: isinstance(part, _Table) or _is_nested(part)):
        yield ""
        if isinstance(part, _Table):
            lines = _table_lines(part, examples=examples)
        else:
            yield from (f"# {note}" for note in part.notes)
            lines = _value_lines(table.header, part)
        hidden = part.example and not examples
        yield from (f"# {line}" if hidden and line else line for line in lines)


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
    """Whether a value is written as tables, whose headers have the whole path."""
    return not value.spent and formats.dump("toml", {"key": value.choices[value.tried]}).startswith("[")


def _quoted(key: str | int) -> str:
    return formats.dump("toml", {str(key): 0}).removesuffix(" = 0\n")
