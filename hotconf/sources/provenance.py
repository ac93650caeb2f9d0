"""Provenance: which files a source of pydantic-settings reads, and where it has a value from.

The very source that supplied a value is asked: which names it looks for, in which order, and which of its files it
read. A place is told only where what stands there explains the value; elsewhere it is the name of the source.
"""

from __future__ import annotations

import configparser
import contextlib
import copy
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from pydantic_settings import (
    CliSettingsSource,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    NestedSecretsSettingsSource,
    PyprojectTomlConfigSettingsSource,
    SecretsSettingsSource,
    SettingsError,
)

import hotconf.formats as formats
from hotconf.errors import FormatError
from hotconf.schema.fields import descend, fields_of
from hotconf.schema.redact import scrub
from hotconf.schema.shape import Shape
from hotconf.values.keypath import KeyPath
from hotconf.values.layer import Origin, Position
from hotconf.values.merge import ABSENT, lookup
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hotconf.schema.fields import Field

    Place = Callable[[str], Origin | None]

CONFIG_FILES = {"toml_file": "toml", "json_file": "json", "yaml_file": "yaml"}
"""The settings that name files which hold keys, and the formats of the files, whatever their names say."""

_NAMES: Mapping[type, str] = {
    InitSettingsSource: "init",
    EnvSettingsSource: "environment",
    DotEnvSettingsSource: "dotenv",
    SecretsSettingsSource: "secrets",
    NestedSecretsSettingsSource: "secrets",
}
_LONGEST_TEXT = 500
_MOST_ENTRIES = 10_000  # below a folder of nested secrets, as pydantic-settings has it
_NAME = re.compile(r"['\"]?[A-Za-z_.]+['\"]?")


class NotAMappingError(TypeError):
    """What a source returned is not a mapping."""

    def __init__(self, said: object) -> None:
        super().__init__(f"returned {type(said).__name__} where a mapping is needed")


class Asked:
    """A source of pydantic-settings, and what it said. To pydantic-settings it looks like the source itself.

    Where the source fails, the others are asked all the same, so that every fault is told at once. `options` are those
    of the constructor that asks.
    """

    def __init__(self, source: Any, options: Mapping[str, Any]) -> None:
        self.source = source
        self.options = options
        self.said: dict[str, Any] = {}
        self.error: Exception | None = None
        self.__name__: str = getattr(source, "__name__", type(source).__name__)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.source)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def __call__(self) -> dict[str, Any]:
        """Ask the source."""
        try:
            said = self.source()
            if not isinstance(said, Mapping):
                raise NotAMappingError(said)  # noqa: TRY301 - a failure like any other
            self.said = dict(said)
        except Exception as error:  # noqa: BLE001 - the code of a source is foreign
            self.error = error
        return self.said


def same(one: object, other: object) -> bool:
    """Whether two values are equal. Those that cannot be compared are not."""
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - values may be of any class
        return False


def name_of(source: Any) -> str:
    """Return what a source is called where it has no better place for a value."""
    if isinstance(source, CliSettingsSource):
        return "command line"
    return _NAMES.get(type(source)) or str(getattr(source, "__name__", type(source).__name__))


# Files


@dataclass(frozen=True, slots=True)
class Document:
    """A file that a source reads. `name` is what the source calls it, `within` the keys that lead to what it takes."""

    name: str
    path: Any  # a Path or, of a packaged resource, a Traversable
    format: str
    encoding: str | None = None
    within: str | Sequence[str] = ()

    def text(self, contents: Mapping[Path, bytes]) -> bytes | None:
        """Return what it holds as UTF-8, None where it cannot be read."""
        try:
            data = contents.get(self.path)
            if data is None:  # a FIFO has been read, and would wait for another writer
                data = self.path.read_bytes() if self.path.is_file() else b""
            return data if self.encoding is None else data.decode(self.encoding).encode()
        except (OSError, UnicodeError, LookupError):
            return None


def listed(files: Any) -> list[Any]:
    """Return what a source was given as files: none, one or several."""
    if files is None:
        return []
    return list(files) if isinstance(files, Sequence) and not isinstance(files, str) else [files]


def path_of(file: Any, folder: Path) -> Any:
    """Return the absolute path of a file; a packaged resource that is no file of its own as it is."""
    return folder / Path(file).expanduser() if isinstance(file, (str, os.PathLike)) else file


def documents(source: Any, folder: Path) -> Iterator[Document]:
    """Yield the files that a source reads as a whole, the weakest first. Secrets are no such files."""
    if isinstance(source, DotEnvSettingsSource):
        for file in listed(getattr(source, "env_file", None)):
            places = _upward(file, _depth(source), folder)
            found = next((path for path in places if path.is_file() or path.is_fifo()), None)
            name = str(Path(file).expanduser()) if found == path_of(file, folder) else str(found)
            if found is not None:
                yield Document(name, found, "dotenv", getattr(source, "env_file_encoding", None))
    for key, kind in CONFIG_FILES.items():
        within = getattr(source, "toml_table_header" if kind == "toml" else "yaml_config_section", None) or ()
        for file in listed(getattr(source, f"{key}_path", None)):
            yield Document(str(file), path_of(file, folder), kind, getattr(source, f"{key}_encoding", None), within)


def _depth(source: DotEnvSettingsSource) -> int:
    return getattr(source, "env_file_depth", 0)  # 2.15 has none


def _upward(file: Any, depth: int, folder: Path) -> Iterator[Path]:
    """Yield the places where a file is looked for: its own, and as many folders further up."""
    path = Path(file).expanduser()
    yield folder / path
    if not path.is_absolute():
        yield from (parent / path for parent in islice(folder.parents, max(depth, 0)))


def watched(source: Any, folder: Path) -> Iterator[Path]:
    """Yield the files and folders whose change may change what a source says, those that are not there yet too.

    A source whose constructor failed may lack any attribute.
    """
    if isinstance(source, DotEnvSettingsSource):
        for file in listed(getattr(source, "env_file", None)):
            yield from _upward(file, _depth(source), folder)
    if isinstance(source, PyprojectTomlConfigSettingsSource):
        depth = source.config.get("pyproject_toml_depth", 0)
        places = list(_upward("pyproject.toml", depth, folder))
        yield from places if getattr(source, "toml_file_path", None) in places else ()
    for document in documents(source, folder):
        archive = getattr(getattr(document.path, "root", None), "filename", None)
        if isinstance(document.path, Path):
            yield document.path
        elif archive is not None:  # a resource within a zip archive
            yield folder / archive
    for secrets in secret_folders(source, folder):
        nested = isinstance(source, NestedSecretsSettingsSource)
        yield from islice(folders_of(secrets), _MOST_ENTRIES) if nested else (secrets,)
    yield from (folder / path for path in _own_paths(source))


def _own_paths(source: Any) -> list[Path]:
    """Return what a source of the user's own says that it reads."""
    paths: Any = getattr(source, "paths", None)
    return [Path(path) for path in paths()] if callable(paths) else []


def secret_folders(source: Any, folder: Path) -> list[Path]:
    """Return the folders that a source of secrets looks into, the weakest first."""
    return [path_of(file, folder) for file in listed(getattr(source, "secrets_dir", None))]


def folders_of(folder: Path, within: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yield a folder and those below it, as a source of nested secrets walks them: hidden ones are passed over."""
    real = os.path.realpath(folder)
    if real in within:  # a link to a folder above
        return
    yield folder
    with contextlib.suppress(OSError):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.is_dir() and not entry.name.startswith("."):
                yield from folders_of(folder / entry.name, within | {real})


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and in those below it, as far as a source of nested secrets would look."""
    return islice((file for place in folders_of(folder) for file in files_in(place)), _MOST_ENTRIES)


def files_in(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder; none where it cannot be listed."""
    with contextlib.suppress(OSError):
        yield from (file for file in folder.iterdir() if file.is_file())


def secret_files(source: Any, folder: Path) -> Iterator[Path]:
    """Yield the files in folders of secrets that hold, or would hold, the value of a field."""
    folders = secret_folders(source, folder)
    if not folders:
        return
    nested = isinstance(source, NestedSecretsSettingsSource)
    names = {name for field, info in source.settings_cls.model_fields.items() for name in names_of(source, field, info)}
    starts = tuple(f"{name}{source.env_nested_delimiter}" for name in names) if nested else ()
    for secrets in folders:
        for file in files_below(secrets) if nested else files_in(secrets):
            name = folded(source, str(file.relative_to(secrets)))
            if name in names or name.startswith(starts):
                yield file


# Names


class _Asked(dict[str, Any]):
    """Variables of which none is set, and the names that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def get(self, name: str, default: Any = None) -> Any:
        self.names.append(name)
        return default


def names_of(source: Any, field: str, info: Any) -> list[str]:
    """Return the names under which a source looks for a field, in its order; none where it does not tell."""
    probe, asked = copy.copy(source), _Asked()
    if isinstance(source, SecretsSettingsSource):
        probe.secrets_paths = [Path()]
        probe.find_case_path = lambda _folder, name, _case_sensitive: asked.get(name)
    else:
        probe.env_vars = asked
    try:
        probe.get_field_value(info, field)
    except Exception:  # noqa: BLE001 - a source that derives from one of pydantic-settings' may do anything here
        return []
    return [folded(source, name) for name in asked.names]


def folded(source: Any, name: str) -> str:
    """Return a name as a source compares it."""
    return name if source.case_sensitive else name.lower()


def _owners(source: Any, key: str) -> list[Field]:
    """Return the fields that a key of what a source said may belong to."""
    known = fields_of(source.settings_cls).values()
    return [field for field in known if key == field.name or any(key == place[0] for place in field.input_paths)]


class Variables(Mapping[KeyPath, Origin]):
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

    def __iter__(self) -> Iterator[KeyPath]:
        return iter(())

    def __len__(self) -> int:
        return 0


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


# Origins


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


def reads_environment(source: Any) -> TypeGuard[EnvSettingsSource]:
    """Whether a source reads the environment. Those that ask a cloud derive from the one that does, and load else."""
    loaders = (cls for cls in type(source).__mro__ if "_load_env_vars" in vars(cls))
    return next(loaders, None) is EnvSettingsSource


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


class _Keys(Mapping[KeyPath, Origin]):
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

    def __iter__(self) -> Iterator[KeyPath]:
        return iter(())

    def __len__(self) -> int:
        return 0


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


# Failures


def failure(error: BaseException, origins: Mapping[KeyPath, Origin], place: Origin, secrets: Iterable[str]) -> Fault:
    """Return the fault of a source that raised, with what is wrong with which field, as far as it says.

    Args:
        error: What it raised.
        origins: The origins of what it would have said.
        place: What to blame where no field is named.
        secrets: What must not be told.
    """
    named = re.search(r'field "([^"]+)"', str(error)) if isinstance(error, SettingsError) else None
    field = named[1] if named is not None else ""
    cause = error.__cause__ or error
    if named is not None:
        place = origins.get((field,)) or place
    if isinstance(error, NotAMappingError):
        message = str(error)
    elif named is not None and isinstance(cause, UnicodeError):
        message = "is not UTF-8 text"
    elif named is not None and isinstance(cause, json.JSONDecodeError):
        place = (origins.unparsed(field) if isinstance(origins, Variables) else None) or place
        message = "is not the JSON that a value of this type needs"
    else:
        message = f"cannot be read: {told(cause if named is not None else error)}"
    return Fault(field, scrub(message, secrets), place)


def place_of_failure(source: Any, error: BaseException, folder: Path) -> Origin:
    """Return the line that an error names, in the only file that the source reads; else the source."""
    files = [document.name for document in documents(source, folder)] or [str(path) for path in _own_paths(source)]
    line, column = _position_in(error)
    if line is None or len(files) != 1:
        return Origin("source", name_of(source))
    return Origin("file", files[0], line, column)


def _position_in(error: BaseException) -> tuple[int | None, int | None]:
    """Return the line and column that an error names: PyYAML's, json's, and tomllib's, which only says it."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return mark.line + 1, mark.column + 1
    line, column = getattr(error, "lineno", None), getattr(error, "colno", None)
    said = re.search(r"\(at line (\d+), column (\d+)\)", str(error)) if line is None else None
    return (int(said[1]), int(said[2])) if said is not None else (line, column)


def told(error: BaseException) -> str:
    """Return the class of an exception and what it says, on one line.

    A text of a single word may be the very value that something was wrong with. It is told only where it is a name.
    """
    try:
        text = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    except Exception:  # noqa: BLE001 - the code of an exception is as foreign as what raised it
        text = ""
    if hasattr(error, "problem_mark") or isinstance(error, configparser.Error):  # these quote the lines around
        text = str(getattr(error, "problem", None) or text.partition("\n")[0])
    words = text.split()
    if len(words) == 1 and not _NAME.fullmatch(words[0]):
        words = []
    return f"{type(error).__name__}{': ' if words else ''}{' '.join(words)[:_LONGEST_TEXT]}"
