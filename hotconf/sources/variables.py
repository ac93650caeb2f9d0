"""Variables: the origins of values that have names of their own: in the environment, a dotenv file, a secrets folder.

Which variable a nested value came from is found by trying the names that its path may have.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic_settings import SettingsError

from hotconf.schema.fields import descend, fields_of
from hotconf.schema.shape import Shape
from hotconf.values.keypath import KeyPath
from hotconf.values.layer import Origin
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Variables(Mapping[KeyPath, Origin]):
    """The origins of values that come from named variables, found by trying the names that a path may have."""

    def __init__(self, model: type, source: Any, variables: Mapping[str, Origin]) -> None:
        self._model = model
        self._fold = str if source.case_sensitive else str.lower
        self._prefix = source.env_prefix or ""
        self._delimiter = str(getattr(source, "env_nested_delimiter", None) or "")
        self._split = self._fold(self._delimiter)
        self._variables = {self._fold(name): origin for name, origin in variables.items()}
        self._texts: Mapping[str, str | None] = getattr(source, "env_vars", {})

    def __getitem__(self, path: KeyPath) -> Origin:
        names = [self._fold(name) for name in self._names(path)]
        found = next((self._variables[name] for name in names if name in self._variables), None)
        # A section has no variable of its own where each of its values has one: the first of those stands for it.
        found = found or next((origin for name in names for _, origin in self._below(name)), None)
        if found is None:
            raise KeyError(path)
        return found

    def unparsed(self, field: str) -> Origin | None:
        """Return the first variable below a field that needs JSON and has none."""
        for name in map(self._fold, self._names((field,))):
            for rest, origin in self._below(name):
                if self._is_unparsed(name + rest, (field, *rest.split(self._split)[1:])):
                    return origin
        return None

    def _below(self, name: str) -> Iterator[tuple[str, Origin]]:
        """Yield what follows a name in each variable below it, from the delimiter on."""
        start = name + self._split
        if start != name:
            found = (variable for variable in self._variables if variable.startswith(start))
            yield from ((variable[len(name) :], self._variables[variable]) for variable in found)

    def _is_unparsed(self, variable: str, path: KeyPath) -> bool:
        shape = Shape(models=(self._model,))
        for key in path:
            found = descend(shape, key)
            shape = found[0] if found else Shape()
        return shape.nested and not _is_json(self._texts.get(variable))

    def _names(self, path: KeyPath) -> Iterator[str]:
        if not path or (len(path) > 1 and not self._delimiter):
            return
        for parts in itertools.product(*self._spellings(path)):
            for name in (self._prefix + parts[0], parts[0]):
                yield self._delimiter.join((name, *parts[1:]))

    def _spellings(self, path: KeyPath) -> Iterator[Sequence[str]]:
        shape = Shape(models=(self._model,))
        for key in path:
            owners = (field for model in shape.models for field in fields_of(model).values())
            field = next((f for f in owners if key == f.name or key in f.keys), None)
            heads = [str(inner[0]) for inner in field.alias_paths] if field else []
            yield [*field.keys, field.name, *heads] if field else [str(key)]
            found = descend(shape, key)
            shape = found[0] if found else Shape()

    def __iter__(self) -> Iterator[KeyPath]:
        return iter(())

    def __len__(self) -> int:
        return 0


def unreadable(error: Exception, origins: Mapping[KeyPath, Origin], source: str) -> Fault:
    """Return the fault of a source of variables that raised: what is wrong with which of them, as far as it says.

    Its own text is not quoted: it may hold the value.
    """
    named = re.search(r'field "([^"]+)"', str(error)) if isinstance(error, SettingsError) else None
    if named is None:
        return Fault("", f"cannot be read: {type(error).__name__}", Origin("source", source))
    below = origins.unparsed(named[1]) if isinstance(origins, Variables) else None
    return Fault(named[1], _reason(error.__cause__), below or origins.get((named[1],)) or Origin("source", source))


def _reason(cause: BaseException | None) -> str:
    if isinstance(cause, UnicodeError):
        return "is not UTF-8 text"
    if isinstance(cause, OSError):
        return f"cannot be read: {type(cause).__name__}"
    return "is not the JSON that a value of this type needs"


def _is_json(text: str | None) -> bool:
    try:
        json.loads(text or "null")
    except ValueError:
        return False
    return True
