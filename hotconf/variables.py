"""Variables: the origins of values that have names of their own: in the environment, a dotenv file, a secrets folder.

Which variable a nested value came from is found by trying the names that its path may have.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hotconf.keypath import KeyPath
from hotconf.origin import Origin
from hotconf.schema import Shape, fields, step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Variables(Mapping[KeyPath, Origin]):
    """The origins of values that come from named variables, found by trying the names that a path may have."""

    def __init__(self, model: type, source: Any, variables: Mapping[str, Origin]) -> None:
        self._model = model
        self._fold = str if source.case_sensitive else str.lower
        self._prefix = source.env_prefix or ""
        self._delimiter = getattr(source, "env_nested_delimiter", None)
        self._variables = {self._fold(name): origin for name, origin in variables.items()}
        self._texts: Mapping[str, str | None] = getattr(source, "env_vars", {})

    def __getitem__(self, path: KeyPath) -> Origin:
        for name in self._names(path):
            found = self._variables.get(self._fold(name))
            if found is not None:
                return found
        raise KeyError(path)

    def unparsed(self, field: str) -> Origin | None:
        """Return the first variable below a field that needs JSON and has none."""
        delimiter = self._fold(self._delimiter or "")
        for name in self._names((field,)) if delimiter else ():
            for variable, origin in self._variables.items():
                head, found, rest = variable.partition(self._fold(name) + delimiter)
                if found and not head and self._is_unparsed(variable, (field, *rest.split(delimiter))):
                    return origin
        return None

    def _is_unparsed(self, variable: str, path: KeyPath) -> bool:
        shape = Shape(models=(self._model,))
        for key in path:
            found = step(shape, key)
            shape = found[0] if found else Shape()
        return shape.nested and not _is_json(self._texts.get(variable))

    def _names(self, path: KeyPath) -> Iterator[str]:
        if not path or (len(path) > 1 and not self._delimiter):
            return
        for parts in itertools.product(*self._spellings(path)):
            for name in (self._prefix + parts[0], parts[0]):
                yield str(self._delimiter or "").join((name, *parts[1:]))

    def _spellings(self, path: KeyPath) -> Iterator[Sequence[str]]:
        shape = Shape(models=(self._model,))
        for key in path:
            owners = (field for model in shape.models for field in fields(model).values())
            field = next((f for f in owners if key == f.name or key in f.spellings), None)
            heads = [str(inner[0]) for inner in field.paths] if field else []
            yield [*field.spellings, field.name, *heads] if field else [str(key)]
            found = step(shape, key)
            shape = found[0] if found else Shape()

    def __iter__(self) -> Iterator[KeyPath]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _is_json(text: str | None) -> bool:
    try:
        json.loads(text or "null")
    except ValueError:
        return False
    return True
