"""Origins: the exact place a value came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

OriginKind: TypeAlias = Literal[
    "file", "env", "dotenv", "secrets", "init", "cli", "source", "overlay", "override", "default"
]


class Position(NamedTuple):
    """A place in a text. Line and column count from 1; the column counts characters, not bytes."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one value came from.

    `source` is what the operator can look up: a file's path as it was given, a variable's full name, a secret's file, a
    source's name. `line` and `column` count from 1 and point at the key or list item; None where a place has neither.
    """

    kind: OriginKind
    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        if self.kind == "env":
            return f"env {self.source}"
        places = (self.source, self.line, self.column)
        return ":".join(str(place) for place in places if place is not None)


DEFAULT = Origin("default", "default")
