"""Snapshots: the configuration at one generation, never changed after it was published."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from hotconf.errors import NotBuilt
from hotconf.values.keypath import touches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from hotconf.abc import Resource
    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import Origin

R = TypeVar("R")
S = TypeVar("S")


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot(Generic[S]):
    """One published configuration: settings and what was built from them, always together.

    `generation` counts from 1 in each process. `origins` maps a leaf's dotted path to the place it came from; it is
    computed when it is asked, for this snapshot and not for the newest. `loaded_at` is in UTC.
    """

    settings: S = field(repr=False)  # only SecretStr and its kin mask themselves
    generation: int
    loaded_at: datetime
    origins: Mapping[str, Origin] = field(repr=False)
    digest_of: Callable[[], str] = field(repr=False)
    document_of: Callable[[], Any] = field(repr=False)
    changes: Mapping[KeyPath, int] = field(default_factory=dict, repr=False)
    resources: Mapping[Resource[Any], Any] = field(default_factory=dict, repr=False)

    def changed_in(self, path: KeyPath) -> int:
        """Return the generation in which the value at a path last changed, as far as this process knows."""
        touching = (generation for changed, generation in self.changes.items() if touches(changed, path))
        return max(touching, default=1)

    @property
    def digest(self) -> str:
        """A short name for the values, secrets left out: the same in every process that runs the same values."""
        return self.digest_of()

    @property
    def document(self) -> Any:
        """The whole as JSON shows it, secrets masked. Built once and shared: never change it."""
        return self.document_of()

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: its resources belong to this process. Raises TypeError."""
        raise TypeError("a Snapshot cannot be pickled or copied: take its settings, generation or digest instead")

    def __getitem__(self, resource: Resource[R]) -> R:
        """Return the object that a resource built for this snapshot. Raises NotBuilt outside `running`."""
        try:
            value: R = self.resources[resource]
        except KeyError:
            raise NotBuilt(getattr(resource, "name", repr(resource))) from None
        return value
