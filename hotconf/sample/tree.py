"""A sample: a commented file written from a settings class, which that class accepts, or a reference of its settings.

Lines of what is required, or was asked for, are active. A default is a comment: written down, it would be pinned, and
validators would run on it. The settings become a tree of sections and entries, as files have them. Each entry has a few
choices of a value, the most likely first. What the class refuses is replaced by the next choice, so that its validators
are respected too; an entry without a choice left is a comment.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import inspect
from collections import Counter
from collections.abc import Mapping, Set as AbstractSet
from dataclasses import dataclass, replace
from enum import Enum
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

import hotconf.formats as formats
import hotconf.sample.text as sample_text
import hotconf.values.keypath as keypath
from hotconf.errors import Rejected, SourceError
from hotconf.jsonschema import described, described_by, json_schema, resolved
from hotconf.reload.validate import validate
from hotconf.sample.placeholder import candidates
from hotconf.sample.text import Section, Setting
from hotconf.schema.diff import differences
from hotconf.schema.fields import fields_of, holds_secret, models_in, reads_sources, unwrapped
from hotconf.schema.keys import with_canonical_keys
from hotconf.schema.redact import document, is_masked
from hotconf.schema.tree import children, is_list
from hotconf.sources.dotenv import layer_of
from hotconf.values.layer import Layer
from hotconf.values.merge import ABSENT, merge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import BaseModel

    from hotconf.jsonschema import Node
    from hotconf.schema.fields import Field
    from hotconf.schema.shape import Shape
    from hotconf.values.keypath import KeyPath
    from hotconf.values.report import Fault

_MOST_EXAMPLES = 3
"""How often a class is written out where nothing requires it: classes may contain each other."""

_MOST_SECTIONS = 200
_MOST_CHOICES = 100


@dataclass(frozen=True, slots=True)
class Sample:
    """The text of a sample, and its faults: the required values for which no placeholder was found."""

    text: str
    faults: Sequence[Fault] = ()


def sample(model: type[BaseModel], text_format: str = "toml", asked: Sequence[KeyPath] = ()) -> Sample:
    """Return a sample of a file for a settings class. It holds no default of a secret.

    Args:
        model: The class.
        text_format: `toml`, `yaml` or `env`; `json`, which has active lines alone, for it has no comments; or
            `markdown`, a table of all settings.
        asked: The paths of settings that are active although they have a default.
    """
    tree = Tree(model, text_format, asked)
    if text_format == "markdown":
        return Sample(sample_text.markdown(tree.root, model))
    _fitted(tree, model, text_format, examples=True)  # so that an example is valid too, once its comment signs are gone
    return _fitted(tree, model, text_format, examples=False)


def _fitted(tree: Tree, model: type[BaseModel], text_format: str, *, examples: bool) -> Sample:
    """Replace every choice that the class refuses. Returns the text then, and the faults that remain."""
    settings = list(tree.root.all_settings())
    for setting in settings:
        setting.shown = setting.active or (examples and not setting.has_default)
    # The nearest setting whose path a fault's begins with is the one that the fault is about.
    starts = sorted(((tuple(map(str, one.path)), one) for one in settings), key=lambda entry: -len(entry[0]))
    exploded = text_format == "env"
    while True:
        text = sample_text.write(text_format, tree.root, model, exploded=exploded)
        faults = _faults(model, text_format, text)
        paths = [tuple(map(str, keypath.parse(fault.path))) for fault in faults]
        blamed = (next((one for start, one in starts if path[: len(start)] == start), None) for path in paths)
        refused = [one for one in dict.fromkeys(blamed) if one and one.shown and one.value is not ABSENT]
        for setting in refused:
            setting.value = next(setting.others, ABSENT)
        if not refused and faults and exploded:
            exploded = False  # the class puts no section together from variables: each is one that holds JSON
        elif not refused:
            return Sample(text, faults)


def _faults(model: type[BaseModel], text_format: str, text: str) -> Sequence[Fault]:
    data = text.encode()
    try:
        if text_format == "env" and issubclass(model, BaseSettings):
            layer = layer_of("sample", Path("sample.env"), data, model, {})
        else:
            layer = Layer("sample", formats.parse(text_format.replace("env", "dotenv"), data))
        validate(model, merge([with_canonical_keys(model, layer)]))
    except (SourceError, Rejected) as refused:
        return refused.faults
    return ()


# The tree


@dataclass(frozen=True, slots=True)
class _Place:
    """A class in the tree: its path and keys, and the classes around it, itself last.

    `node` is the part of the JSON Schema that describes it. `given` is an object that has the values of its fields, or
    ABSENT. `tagged` is true for a member of a union.
    """

    within: tuple[type, ...]
    node: Node
    path: KeyPath = ()
    keys: KeyPath = ()
    given: Any = ABSENT
    active: bool = True
    secret: bool = False
    tagged: bool = False


class Tree:
    """The settings of a class as a file of one format has them, from `root`."""

    def __init__(self, model: type[BaseModel], text_format: str, asked: Sequence[KeyPath] = ()) -> None:
        self.root = Section(description=doc_of(model))
        self._format = text_format
        self._asked = asked
        self._examples = Counter[type]()
        schema: Node = {}
        with contextlib.suppress(Exception):  # a class may have no JSON Schema; the notes say less then
            schema = json_schema(model)
        self._add(_Place((model,), resolved(schema, schema)))

    def _add(self, place: _Place) -> None:
        for entry in fields_of(place.within[-1]).values():
            default, path = _default(entry, place.given), (*place.path, entry.name)
            keys = (*place.keys, *_key(entry))
            required = default is ABSENT and place.given is ABSENT and entry.info.is_required()
            # The members of a union are told apart by values that only one of them allows.
            node = _node_of(entry, place)
            required = required or (place.tagged and "const" in node)
            asked = any(path[: len(one)] == one or one[: len(path)] == path for one in self._asked)
            active = place.active and (required or asked)
            found = self._section_class(entry, default, place, required=active)
            holder = keys[: next((at for at, key in enumerate(keys) if isinstance(key, int)), len(keys))]
            if found is None or holder != keys:  # an alias that leads into a list: the entry of the list holds it
                setting = self._setting(replace(place, path=path, keys=keys, active=active), entry, default)
                self._section(holder).settings.append(setting)
                if found is None:
                    continue
                setting.value, setting.others, setting.items = {}, iter(()), ()
            else:
                section = self._section(keys)
                section.description = section.description or " ".join((entry.info.description or doc_of(found)).split())
                needed = default is ABSENT and entry.info.is_required()
                section.marks = [*(["required"] if needed else []), *_marks(entry)]
                section.required = section.required or active
            given = ABSENT if default is None else default
            tagged, secret = len(unwrapped(entry.shape).models) > 1, place.secret or entry.sensitive
            below = described_by(node, found.__name__)
            self._add(_Place((*place.within, found), below, path, keys, given, active, secret, tagged))

    def _section(self, keys: KeyPath) -> Section:
        section = self.root
        for depth, key in enumerate(keys, 1):
            section = section.parts.setdefault(str(key), Section(keys[:depth]))
        return section

    def _section_class(self, entry: Field, default: Any, place: _Place, *, required: bool) -> type | None:
        """Return the class of a field that is a section of its own; None for an entry."""
        found = _class_in(unwrapped(entry.shape), ABSENT if default is None else default)
        if found is None or found in place.within:
            return None
        return found if required or self._is_example(found) else None

    def _is_example(self, model: type) -> bool:
        """Whether a class that nothing requires is written out once more."""
        self._examples[model] += 1
        return self._examples[model] <= _MOST_EXAMPLES and self._examples.total() <= _MOST_SECTIONS

    def _setting(self, place: _Place, entry: Field, default: Any) -> Setting:
        """Return the setting of a field; `place` has its own path and keys."""
        node = _node_of(entry, place)
        is_empty = default is None or (isinstance(default, (list, tuple, AbstractSet, Mapping)) and not default)
        holds = holds_secret(entry.shape) and not is_empty and not isinstance(default, (str, int, float))
        secret = place.secret or entry.sensitive or holds or is_masked(default, entry.shape)
        asks = any(map(reads_sources, models_in(entry.shape)))
        raw = ABSENT if secret or asks or default is ABSENT else _plain(default)
        if isinstance(raw, (dt.date, dt.time)) and not sample_text.can_hold(self._format, raw):
            raw = raw.isoformat()
        if not sample_text.can_hold(self._format, raw):
            raw = ABSENT
        items = list(self._items(place, entry))
        has_default = raw is not ABSENT and bool(raw or not items)
        found = islice(candidates(node, filled=bool(items) and not place.active), _MOST_CHOICES)
        guesses = (one for one in found if sample_text.can_hold(self._format, one))
        choices = chain([raw] if has_default else [], [""] if secret and not has_default else [], guesses)
        told = "optional" if default is None or raw is ABSENT else f"default {sample_text.short(raw)}"
        if default is ABSENT and place.given is ABSENT and entry.info.is_required():
            told = "required"
        elif secret and default is not None and default is not ABSENT:
            told = sample_text.HIDDEN
        return Setting(
            path=place.path,
            keys=place.keys,
            kind=described(node),
            default=told,
            description=" ".join((entry.info.description or "").split()),
            marks=_marks(entry),
            value=next(choices, ABSENT),
            others=choices,
            has_default=has_default,
            active=place.active,
            items=items,
        )

    def _items(self, place: _Place, entry: Field) -> Iterator[Setting]:
        shape, node = unwrapped(entry.shape), _node_of(entry, place)
        for found in (_class_in(item, ABSENT) for item in (shape.items, shape.values) if item is not None):
            if found is not None and found not in place.within and self._is_example(found):
                for inner in fields_of(found).values():
                    path, keys = (*place.path, "*", inner.name), (*place.keys, "*", *_key(inner))
                    item = described_by(node, found.__name__)
                    below = _Place((*place.within, found), item, path, keys, active=False, secret=entry.sensitive)
                    yield self._setting(below, inner, _default(inner, ABSENT))


def _key(entry: Field) -> KeyPath:
    """Return the spelling of a field below its section: its first key, or the path of an AliasPath."""
    return (entry.keys[0],) if entry.keys else entry.input_paths[0]


def _marks(entry: Field) -> list[str]:
    marks = {"secret": entry.sensitive, "needs a restart": entry.restart_required}
    return [mark for mark, is_set in marks.items() if is_set]


def _class_in(shape: Shape, given: Any) -> type | None:
    """Return the class that describes a section; None for anything else, such as a scalar of a union."""
    known = [model for model in unwrapped(shape).models if fields_of(model) and not issubclass(model, tuple)]
    if given is not ABSENT and not isinstance(given, Mapping):
        known = [model for model in known if model in type(given).__mro__]
    return next(iter(known), None)


def _node_of(entry: Field, place: _Place) -> Node:
    """Return the part of the JSON Schema that describes a field."""
    key = entry.keys[0] if entry.keys else entry.name  # a field of an AliasPath has its name there
    return resolved(place.node.get("properties", {}).get(key, {}), place.node)


def doc_of(model: type) -> str:
    """Return the first paragraph of a class's own docstring."""
    own = vars(model).get("__doc__") or ""
    first = inspect.cleandoc(own).partition("\n\n")[0]
    return "" if first.startswith(f"{model.__name__}(") else " ".join(first.split())  # what dataclasses generate


def _default(entry: Field, given: Any) -> Any:
    """Return the value that a field has where no source sets it; ABSENT where the class alone does not tell.

    It does not where a factory makes another one each time, and where settings have it from their own sources.
    """
    if given is not ABSENT:
        said = given.model_fields_set if isinstance(given, BaseSettings) else ()
        return ABSENT if entry.name in said else children(given).get(entry.name, ABSENT)
    factory: Any = entry.info.default_factory
    if factory is None:
        return ABSENT if entry.info.default is PydanticUndefined else entry.info.default
    if isinstance(factory, type) and issubclass(factory, BaseSettings):
        return ABSENT  # what each of its fields has by itself is its default
    try:
        made, again = factory(), factory()
    except Exception:  # noqa: BLE001 - the user's code; it may need the other fields
        return ABSENT
    return ABSENT if differences(made, again) else made


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
