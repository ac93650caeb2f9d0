"""Provenance: where a source of pydantic-settings has a value from.

The very source that supplied a value is asked: which names it looks for, in which order, and which of its files it
read. A place is told only where what stands there explains the value; elsewhere it is the name of the source.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_settings import (
    CliSettingsSource,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    NestedSecretsSettingsSource,
    SecretsSettingsSource,
)

import hotconf.formats as formats
from hotconf.errors import FormatError
from hotconf.schema.fields import descend, fields_of
from hotconf.schema.shape import Shape
from hotconf.sources.lookups import documents, folded, names_of, reads_environment, secret_folders
from hotconf.values.layer import Origin, Places
from hotconf.values.merge import ABSENT, lookup, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hotconf.schema.fields import Field
    from hotconf.sources.construct import Asked
    from hotconf.sources.lookups import Document
    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import Position

    Place = Callable[[str], Origin | None]

_NAMES: Mapping[type, str] = {
    InitSettingsSource: "init",
    EnvSettingsSource: "environment",
    DotEnvSettingsSource: "dotenv",
    SecretsSettingsSource: "secrets",
    NestedSecretsSettingsSource: "secrets",
}


def origins_of(asked: Asked, folder: Path, contents: Mapping[Path, bytes]) -> Mapping[KeyPath, Origin]:
    """Return the origins of what a source said. `contents` are the files that it read, as they were then."""
    source, said = asked.source, asked.said
    if type(source) is InitSettingsSource:
        return {(): Origin("init", name_of(source))}
    if isinstance(source, CliSettingsSource):
        return Variables(source, said, source.env_vars, _Arguments(source, asked.options))
    if isinstance(source, DotEnvSettingsSource):
        return Variables(source, said, source.env_vars, Lines(source, documents(source, folder), contents))
    if isinstance(source, (SecretsSettingsSource, NestedSecretsSettingsSource)):
        places = _secret_places(source, folder, contents)
        texts = {name: contents[Path(place.source)].decode(errors="replace").strip() for name, place in places.items()}
        return Variables(source, said, texts, places.get)
    if reads_environment(source):
        return Variables(source, said, source.env_vars, _Environment(source))
    found = [document for document in documents(source, folder) if document.format != "dotenv"]
    return _Keys(source, said, found, contents) if found else {(): Origin("source", name_of(source))}


def may_fall_silent(source: Any) -> bool:
    """Whether all values of a source may go at once: those that the process was started with."""
    given = isinstance(source, CliSettingsSource) or type(source) is InitSettingsSource
    return given or reads_environment(source)


class _Environment:
    """The places of variables of the environment, which has them under names in any case."""

    def __init__(self, source: EnvSettingsSource) -> None:
        self._source = source
        self._variables = dict(os.environ)

    @cached_property
    def _spelt(self) -> dict[str, str]:
        return {folded(self._source, name): name for name in self._variables}

    def __call__(self, name: str) -> Origin | None:
        spelt = self._spelt.get(name)
        # A source that derives from the one that reads the environment may have other variables besides.
        known = spelt is not None and self._variables[spelt] == self._source.env_vars.get(name)
        return Origin("env", spelt) if spelt is not None and known else None


class Lines:
    """The places of variables in dotenv files: of several, the last file that has a name counts."""

    def __init__(self, source: Any, found: Iterable[Document], contents: Mapping[Path, bytes]) -> None:
        self._source = source
        self._documents = list(found)
        self._contents = contents

    @cached_property
    def _places(self) -> dict[str, Origin]:
        found: dict[str, Origin] = {}
        for document in self._documents:
            for name, position in _positions(document, self._contents).items():
                text = folded(self._source, str(name[0]))
                found[text] = Origin("dotenv", document.name, position.line, position.column)
        return found

    def __call__(self, name: str) -> Origin | None:
        """Return the place of a variable."""
        place = self._places.get(name)
        return place or (Origin("dotenv", self._documents[0].name) if len(self._documents) == 1 else None)


def _positions(document: Document, contents: Mapping[Path, bytes]) -> Mapping[KeyPath, Position]:
    data = document.text(contents)
    try:
        return formats.locate(document.format, data) if data is not None else {}
    except FormatError:
        return {}


def _secret_places(source: Any, folder: Path, contents: Mapping[Path, bytes]) -> dict[str, Origin]:
    """Return the places of secrets by name: of several folders, the last that has a name counts."""
    found: dict[str, Origin] = {}
    for secrets in secret_folders(source, folder):
        for path in contents:
            if secrets in path.parents:
                found[folded(source, str(path.relative_to(secrets)))] = Origin("secrets", str(path))
    return found


class _Arguments:
    """The places of arguments: the flag as it was typed, or the name of a positional argument."""

    def __init__(self, source: Any, options: Mapping[str, Any]) -> None:
        self._source = source
        arguments = options.get("_cli_parse_args") or source.config.get("cli_parse_args")
        self._arguments = arguments if isinstance(arguments, (list, tuple)) else sys.argv[1:]

    def __call__(self, name: str) -> Origin | None:
        for action in self._actions(getattr(self._source, "root_parser", None)):
            if folded(self._source, str(action.dest)) == name:
                return Origin("cli", self._typed(action))
            choice = name.rpartition(".")[2]
            if isinstance(action.choices, Mapping) and choice in action.choices:
                return Origin("cli", choice)
        return Origin("cli", name_of(self._source))

    def _actions(self, parser: Any) -> Iterator[Any]:
        for action in getattr(parser, "_actions", ()):
            yield action
            if isinstance(action.choices, Mapping):
                for inner in action.choices.values():
                    yield from self._actions(inner)

    def _typed(self, action: Any) -> str:
        if not action.option_strings:
            return str(action.metavar or action.dest).upper()
        for argument in reversed([str(argument) for argument in self._arguments]):
            for flag in action.option_strings:
                short = len(flag) == 2 and argument[:2] == flag
                if short or folded(self._source, argument.partition("=")[0]) == flag:
                    return str(flag)
        return str(max(action.option_strings, key=len))


class _Keys(Places):
    """The origins of values that come from files which hold keys: TOML, YAML, JSON. Nothing is parsed until asked."""

    def __init__(
        self, source: Any, said: Mapping[str, Any], found: list[Document], contents: Mapping[Path, bytes]
    ) -> None:
        self._source = source
        self._said = said
        self._documents = found
        self._contents = contents

    def __getitem__(self, path: KeyPath) -> Origin:
        if not path:
            if len(self._documents) > 1:
                raise KeyError(path)
            return Origin("file", self._documents[0].name)
        value = lookup(self._said, path)
        spellings = self._spellings(str(path[0]))
        vague: Origin | None = None
        for document, within, values, positions in reversed(self._parsed):
            for key in spellings:
                found = lookup(values, (key, *path[1:]))
                if found is ABSENT:
                    continue
                position = positions.get((*within, key, *path[1:]))
                place = Origin("file", document.name, *(position or ()))
                if isinstance(value, Mapping) or same(found, value):
                    return place
                vague = vague or Origin("file", document.name)
        if vague is None:
            raise KeyError(path)
        return vague

    def _spellings(self, key: str) -> list[str]:
        """Return the keys that a source may have found for a key that it tells: it folds case and chooses an alias."""
        owners = _owners(self._source, key)
        names = {str(name) for field in owners for name in (field.name, *(place[0] for place in field.input_paths))}
        lower = {name.lower() for name in names}
        keys = dict.fromkeys(key for _, _, values, _ in self._parsed for key in values if isinstance(key, str))
        return [key, *(one for one in keys if one != key and one.lower() in lower)]

    @cached_property
    def _parsed(self) -> list[tuple[Document, KeyPath, Any, Mapping[KeyPath, Position]]]:
        parsed = []
        for document in self._documents:
            data = document.text(self._contents)
            try:
                values = formats.parse(document.format, data) if data is not None else {}
            except FormatError:
                continue
            within = document.within
            keys = next(iter(_section(values, within)), None) if isinstance(within, str) else tuple(within)
            inner = lookup(values, keys) if keys is not None else ABSENT
            if isinstance(inner, Mapping) and keys is not None:
                parsed.append((document, keys, inner, _positions(document, self._contents)))
        return parsed


def _section(values: Any, dotted: str) -> Iterator[KeyPath]:
    """Yield the keys that a dotted text may stand for, the longest key first: a key may have dots."""
    if not isinstance(values, Mapping):
        return
    parts = dotted.split(".")
    if dotted in values:
        yield (dotted,)
    for length in range(len(parts) - 1, 0, -1):
        head = ".".join(parts[:length])
        if head in values:
            yield from ((head, *rest) for rest in _section(values[head], ".".join(parts[length:])))


def name_of(source: Any) -> str:
    """Return what a source is called where it has no better place for a value."""
    if isinstance(source, CliSettingsSource):
        return "command line"
    return _NAMES.get(type(source)) or str(getattr(source, "__name__", type(source).__name__))


def _owners(source: Any, key: str) -> list[Field]:
    """Return the fields that a key of what a source said may belong to."""
    known = fields_of(source.settings_cls).values()
    return [field for field in known if key == field.name or any(key == place[0] for place in field.input_paths)]


class Variables(Places):
    """The origins of values that come from named texts: variables, lines of a dotenv file, secrets, arguments.

    `texts` are the texts by name, as the source compares names, and `place` says where the one of a name stands.
    """

    def __init__(self, source: Any, said: Mapping[str, Any], texts: Mapping[str, str | None], place: Place) -> None:
        self._source = source
        self._said = said
        self._texts = texts
        self._place = place
        self._delimiter = getattr(source, "env_nested_delimiter", None) or ""

    def __getitem__(self, path: KeyPath) -> Origin:
        if not path:
            raise KeyError(path)
        above, below = self._supplying(path)
        value = lookup(self._said, path)
        explaining = (name for keys, name in above if _explains(self._texts[name], path[1 + len(keys) :], value))
        # Of a section that several variables make up, the first stands for all; so does one that pydantic-settings, and
        # no code of another source, has looked up and converted.
        loader = next(cls for cls in type(self._source).__mro__ if "get_field_value" in vars(cls))
        sure = len(above) == 1 and loader.__module__.startswith("pydantic_settings.")
        lone = [name for _, name in above] if sure or isinstance(value, Mapping) else []
        found = next((place for name in (*explaining, *lone, *below[:1]) if (place := self._place(name))), None)
        if found is None:
            raise KeyError(path)
        return found

    def unparsed(self, field: str) -> Origin | None:
        """Return the place of the first text for a field that needs JSON and has none."""
        model = self._source.settings_cls
        info = model.model_fields.get(field)
        names = names_of(self._source, field, info) if info is not None else []
        whole = next((name for name in names if self._texts.get(name) is not None), None)
        if whole is not None and not _is_json(self._texts[whole]):
            return self._place(whole)
        for keys, name in self._below(names):
            shape = Shape(models=(model,))
            for key in (field, *keys):
                found = descend(shape, key)
                shape = found[0] if found else Shape()
            if shape.nested and not _is_json(self._texts[name]):
                return self._place(name)
        return None

    def _supplying(self, path: KeyPath) -> tuple[list[tuple[Sequence[str], str]], list[str]]:
        """Return the names at or above a path, the nearest first and with the keys that they have, and those below."""
        above: list[tuple[Sequence[str], str]] = []
        below: list[str] = []
        wanted = [folded(self._source, str(key)) for key in path[1:]]
        for names in self._names(str(path[0])):
            whole = next((name for name in names if self._texts.get(name) is not None), None)
            above += [((), whole)] if whole is not None else []
            for keys, name in self._below(names):
                length = min(len(keys), len(wanted))
                if [folded(self._source, key) for key in keys[:length]] == wanted[:length]:
                    if len(keys) <= len(wanted):
                        above.append((keys, name))
                    else:
                        below.append(name)
        # A later variable replaces what an earlier one made.
        above.reverse()
        return sorted(above, key=lambda entry: -len(entry[0])), below

    def _names(self, key: str) -> Iterator[list[str]]:
        """Yield the names of each field that a key may belong to; a key of no field is a name, or lacks the prefix."""
        source = self._source
        owners = _owners(source, key)
        for field in owners:
            yield names_of(source, field.name, field.info)
        if not owners:
            yield [folded(source, name) for name in (key, f"{source.env_prefix or ''}{key}")]

    def _below(self, names: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
        """Yield the names of what lies below some names, with the keys that lead there."""
        starts = [f"{name}{self._delimiter}" for name in names] if self._delimiter else []
        for name in self._texts if starts else ():
            start = next((start for start in starts if name.startswith(start)), None)
            if start is not None:
                yield name[len(start) :].split(self._delimiter, self._source.maxsplit), name


def _explains(text: str | None, path: KeyPath, value: Any) -> bool:
    """Whether a text is what a value was made from, at a path below it."""
    if not path and (text == value or (value is None and type(text) is not str)):
        return True
    try:
        found = lookup(json.loads(text or ""), path)
    except (ValueError, TypeError):  # an argument may be a list
        return False
    return found is not ABSENT and same(found, value)


def _is_json(text: str | None) -> bool:
    try:
        json.loads(text or "null")
    except (ValueError, TypeError):
        return False
    return True
