"""What a sample is made of, its text in each format, and the reference of all settings in Markdown.

Comments say what is known of a setting. A line of its own follows, which is a comment as well unless it is shown. Each
commented line can be made active by itself: in TOML the keys of a section that is not shown are dotted.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    SecretsSettingsSource,
)

import hotconf.formats as formats
import hotconf.values.keypath as keypath
from hotconf.errors import FormatError
from hotconf.sample.placeholder import TEXT
from hotconf.schema.diff import differences
from hotconf.schema.fields import shape_at
from hotconf.sources.lookups import names_of, reads_environment
from hotconf.values.merge import ABSENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hotconf.values.keypath import KeyPath

_WIDTH = 100
_LONGEST_DEFAULT = 40
HIDDEN = "default not shown"

_PLAIN_IN_DOTENV = re.compile(r"[\w./:@+,-]*")


@dataclass(slots=True, eq=False)
class Setting:
    """One setting: `path` has the names of fields, `keys` are those of files, both from the root.

    `default` says in words what holds without it. `value` is the choice that is written, ABSENT where none is left, and
    `others` are those that come after it. `items` are the settings within each item of a list or mapping. `shown` tells
    that it is not commented out.
    """

    path: KeyPath
    keys: KeyPath
    kind: str
    default: str
    description: str
    marks: Sequence[str]
    value: Any
    others: Iterator[Any]
    has_default: bool
    active: bool
    items: Sequence[Setting]
    shown: bool = False


@dataclass(slots=True, eq=False)
class Section:
    """A place in the file: a section with its parts, or an entry with the settings that it holds.

    An entry holds several settings where paths of aliases lead into it. `required` is set for a section that must be
    there, whatever is in it.
    """

    keys: KeyPath = ()
    description: str = ""
    marks: Sequence[str] = ()
    required: bool = False
    settings: list[Setting] = field(default_factory=list)
    parts: dict[str, Section] = field(default_factory=dict)

    @property
    def shown(self) -> bool:
        """Whether it has a line that is no comment."""
        inner = self.settings or self.parts.values()
        return self.required or any(one.shown for one in inner)

    def all_settings(self) -> Iterator[Setting]:
        """Yield every setting in it, at any depth."""
        if self.settings:
            yield from self.settings
        else:
            for part in self.parts.values():
                yield from part.all_settings()

    def value(self, *, whole: bool = False) -> Any:
        """Return what the file holds here, ABSENT for nothing. With `whole`, what is commented out counts too."""
        if self.settings:
            return self._value_of_entry()
        parts = {key: part.value(whole=whole) for key, part in self.parts.items() if whole or part.shown}
        return {key: value for key, value in parts.items() if value is not ABSENT}

    def _value_of_entry(self) -> Any:
        settings = {one.keys[len(self.keys) :]: one for one in self.settings if one.value is not ABSENT}
        shown = {path: one.value for path, one in settings.items() if one.shown or not self.shown}
        return _joined(shown, {path: one.value for path, one in settings.items()})


def _joined(values: Mapping[KeyPath, Any], spare: Mapping[KeyPath, Any]) -> Any:
    """Return one value made of values by their paths within it; ABSENT for none.

    A list has every item before its last one: a spare value, or a placeholder.
    """
    below = {path: value for path, value in values.items() if path}
    whole = values.get((), {} if below else ABSENT)
    if not below or not isinstance(whole, dict):
        return whole
    heads = dict.fromkeys(path[0] for path in below)
    inner = {head: _joined(_below(values, head), _below(spare, head)) for head in heads}
    if not all(isinstance(head, int) for head in heads):
        return {**whole, **{str(head): item for head, item in inner.items()}}
    items = []
    for index in range(max(map(int, heads)) + 1):
        others = _below(spare, index)
        items.append(inner[index] if index in inner else _joined(others, others) if others else TEXT)
    return items


def _below(values: Mapping[KeyPath, Any], head: str | int) -> dict[KeyPath, Any]:
    return {path[1:]: value for path, value in values.items() if path[:1] == (head,)}


def write(text_format: str, root: Section, model: type, *, exploded: bool = True) -> str:
    """Return the sample of a class in a format.

    With `exploded`, each key of a section is a variable of a dotenv file where the class reads it so; else a section is
    one variable that holds JSON.
    """
    if text_format == "json":
        return formats.dump("json", root.value())
    title = "\n".join(
        f"# {line}" for line in (f"Settings of {model.__name__}.", *_wrapped(formats.escaped(root.description)))
    )
    if text_format == "toml":
        lines = _toml(root)
    else:
        source = DotEnvSettingsSource(model, env_file=None) if issubclass(model, BaseSettings) else None
        lines = _yaml(root) if text_format == "yaml" else _env(root, Variables(source), exploded=exploded)
    return "\n".join((title, *lines)).rstrip("\n") + "\n"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH)


def _comments(section: Section, start: str = "") -> list[str]:
    """Return an empty line and the comments of a section or entry; nothing where there are none."""
    notes = [f"{start}# {formats.escaped(note)}".rstrip() for note in _notes(section)]
    return ["", *notes] if notes else []


def _notes(section: Section) -> Iterator[str]:
    if not section.settings:
        yield from (*_wrapped(section.description), *filter(None, ["; ".join(section.marks)]))
    for setting in section.settings:
        within = keypath.render(setting.keys[len(section.keys) :])
        yield from _wrapped(setting.description)
        yield f"{within}: {_facts(setting)}" if within else _facts(setting)
        start = len(setting.keys) + 1
        yield from (f"  {keypath.render(item.keys[start:])}: {_facts(item)}" for item in setting.items)


def _facts(setting: Setting) -> str:
    return "; ".join(filter(None, (setting.kind, setting.default, *setting.marks)))


def _toml(section: Section) -> Iterator[str]:
    # An entry after a table would belong to that table.
    for part in section.parts.values():
        if part.settings or not part.shown:
            yield from _toml_entry(part, len(section.keys))
    for part in section.parts.values():
        if not part.settings and part.shown:
            yield from (*(_comments(part) or [""]), f"[{_toml_key(part.keys)}]")
            yield from _toml(part)


def _toml_entry(section: Section, depth: int) -> Iterator[str]:
    """Yield the lines of an entry, or of a section that is not shown, below a table of some depth."""
    yield from _comments(section)
    if section.settings:
        key, value = _toml_key(section.keys[depth:]), section.value()
        sign = "" if section.shown and value is not ABSENT else "# "
        yield f"{sign}{key} = {inline_toml(value)}".rstrip()
    for part in section.parts.values() if not section.settings else ():
        yield from _toml_entry(part, depth)


def _toml_key(keys: KeyPath) -> str:
    return ".".join(formats.dump("toml", {str(key): 0}).removesuffix(" = 0\n") for key in keys)


def inline_toml(value: Any) -> str:
    """Return a value as TOML on one line; nothing for ABSENT."""
    if value is ABSENT:
        return ""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_toml_key((key,))} = {inline_toml(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(inline_toml, value))}]"
    return formats.dump("toml", {"key": value}).removeprefix("key = ").rstrip("\n")


def _yaml(section: Section, base: str = "", indent: str = "", *, hidden: bool = False) -> Iterator[str]:
    """Yield the lines of the parts of a section. Each begins with the base, which comments out what is hidden."""
    start = base + indent
    for key, part in section.parts.items():
        yield from _comments(part, start) or [""]
        name = formats.dump("yaml", {key: 0}).removesuffix(": 0\n")
        sign = "" if hidden or part.shown else "# "
        if part.settings:
            value = part.value()
            yield f"{start}{'# ' if value is ABSENT and not hidden else sign}{name}: {_inline_yaml(value)}".rstrip()
        elif hidden or part.shown:
            yield f"{start}{name}:{' {}' if not hidden and part.value() == {} else ''}"
            yield from _yaml(part, base, f"{indent}  ", hidden=hidden)
        else:
            yield f"{start}# {name}:"
            yield from _yaml(part, f"{start}# ", "  ", hidden=True)


def _inline_yaml(value: Any) -> str:
    if value is ABSENT:
        return ""
    if isinstance(value, Mapping):
        return (
            f"{{{', '.join(f'{json.dumps(key, ensure_ascii=False)}: {_flow(item)}' for key, item in value.items())}}}"
        )
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    text = formats.dump("yaml", {"key": value}).removeprefix("key: ").rstrip("\n")
    return json.dumps(value) if "\n" in text else text


def _flow(value: Any) -> str:
    return formats.escaped(json.dumps(value, ensure_ascii=False)) if isinstance(value, str) else _inline_yaml(value)


def _env(section: Section, variables: Variables, *, exploded: bool) -> Iterator[str]:
    for part in section.parts.values():
        if not part.settings and exploded and variables.reach(part):
            yield from _comments(part)
            yield from _env(part, variables, exploded=exploded)
            continue
        yield from _comments(part) or [""]
        for setting in part.all_settings() if not part.settings else ():
            yield f"#   {keypath.render(setting.keys[len(part.keys) :])}: {_facts(setting)}"
        name, value = variables.name(part), part.value(whole=not part.shown)
        sign = "" if name and part.shown and value is not ABSENT else "# "
        yield f"{sign}{name or keypath.render(part.keys)}={_quoted(env_text(value))}"


def env_text(value: Any) -> str:
    """Return the text of a variable that holds a value: JSON, where it is no text, number or date."""
    if value is ABSENT or isinstance(value, str):
        return "" if value is ABSENT else value
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False, default=lambda inner: inner.isoformat())


def _quoted(text: str) -> str:
    if _PLAIN_IN_DOTENV.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def can_hold(text_format: str, value: Any) -> bool:
    """Whether a format can hold exactly this value. TOML has no null, and not every number or time."""
    if value is ABSENT:
        return False
    try:
        if text_format == "env":
            text = env_text(value)
            found = formats.parse("dotenv", f"KEY={_quoted(text)}\n".encode())
            return found == {"KEY": text} and "${" not in text and "\n" not in text
        kind = "toml" if text_format == "markdown" else text_format
        return not differences(formats.parse(kind, formats.dump(kind, {"key": value}).encode()), {"key": value})
    except (FormatError, UnicodeError, TypeError, ValueError, AttributeError):
        return False


def short(value: Any) -> str:
    """Return a default for a comment."""
    try:
        text = inline_toml(value)
    except FormatError:
        return "as below"
    return text if len(text) <= _LONGEST_DEFAULT and "\n" not in text else "as below"


class Variables:
    """The variables that a source of a class reads; without a source, each key at the top is one.

    `depth` tells how many keys lead to the class.
    """

    def __init__(self, source: EnvSettingsSource | None, depth: int = 0) -> None:
        self._source = source
        self._depth = depth
        self._delimiter = (source.env_nested_delimiter if source is not None else None) or ""

    def name(self, section: Section) -> str:
        """Return the variable of a section or entry, the empty string where it has none of its own."""
        keys, owner = section.keys[self._depth :], next(section.all_settings(), None)
        if self._source is None:
            return str(keys[0]) if len(keys) == 1 else ""
        path = owner.path[self._depth :] if owner is not None else ()
        if not path or (len(keys) > 1 and (not self._delimiter or len(keys) != len(path[: len(keys)]))):
            return ""
        field = str(path[0])
        names = names_of(self._source, field, self._source.settings_cls.model_fields[field])
        whole = self._delimiter.join((*names[:1], *map(str, keys[1:])))
        return whole if self._source.case_sensitive else whole.upper()

    def reach(self, section: Section) -> bool:
        """Whether each setting in a section has a variable of its own, and one of them is shown if the section is."""
        settings = list(section.all_settings())
        is_plain = all(len(setting.path) == len(setting.keys) for setting in settings)
        return bool(self._delimiter) and is_plain and (not section.shown or any(one.shown for one in settings))


def _environment(model: type, depth: int = 0) -> Variables | None:
    """Return the variables of the environment that a class reads, None where it reads none.

    A class may leave out the source that does, or put its own in the place.
    """
    if not issubclass(model, BaseSettings):
        return None
    own = EnvSettingsSource(model)
    try:
        sources = model.settings_customise_sources(
            model,
            init_settings=InitSettingsSource(model, {}),
            env_settings=own,
            dotenv_settings=DotEnvSettingsSource(model, env_file=None),
            file_secret_settings=SecretsSettingsSource(model, secrets_dir=None),
        )
    except Exception:  # noqa: BLE001 - the user's code; it may need files that are not here
        sources = (own,)
    return next((Variables(source, depth) for source in sources if reads_environment(source)), None)


def markdown(root: Section, model: type) -> str:
    """Return a table of all settings."""
    header = ("name", "type", "default", "description", "variable", "marks")
    rows = [header, ("---",) * len(header), *_rows(root, model, _environment(model))]
    lines = (f"| {' | '.join(map(_cell, row))} |" for row in rows)
    return (
        "\n".join(
            (f"# Settings of {model.__name__}", "", *([root.description, ""] if root.description else []), *lines)
        )
        + "\n"
    )


def _rows(section: Section, model: type, variables: Variables | None) -> Iterator[tuple[str, ...]]:
    """Yield a row for each part of a section, and for all that is in it."""
    for part in section.parts.values():
        variable = _code(variables.name(part)) if variables is not None else ""
        if not part.settings:
            yield _code(keypath.render(part.keys)), "section", "", part.description, variable, ", ".join(part.marks)
            # Nested settings read variables of their own.
            inner = (one for one in shape_at(model, part.keys).models if issubclass(one, BaseSettings))
            own = next((_environment(one, len(part.keys)) for one in inner), variables)
            yield from _rows(part, model, own)
        for setting in part.settings:
            for one in (setting, *setting.items):
                is_value = one.default.startswith("default ") and one.default != HIDDEN
                told = one.default.removeprefix("default ")
                facts = one.kind, _code(told) if is_value else told, one.description
                yield _code(keypath.render(one.keys)), *facts, variable if one is setting else "", ", ".join(one.marks)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return formats.escaped(text).replace("|", "\\|").replace("\n", " ").replace("\t", " ")
