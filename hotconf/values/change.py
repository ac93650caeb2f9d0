"""Changes: what subscribers of a reload are given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

S = TypeVar("S")


@dataclass(frozen=True, slots=True, eq=False)
class Change(Generic[S]):
    """The step from one configuration to the next.

    `old` is None at the first load. `paths` are the dotted paths whose values differ. `generation` is the one that
    `new` has, or will have unless the reload is rejected.
    """

    old: S | None = field(repr=False)  # only SecretStr and its like mask themselves
    new: S = field(repr=False)
    paths: tuple[str, ...]
    generation: int
