"""Snapshots: the configuration at one generation, never changed after it was published."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from hotconf.errors import NotBuilt
from hotconf.values.keypath import touches
from hotconf.values.times import utcnow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Self

    from hotconf.abc import Resource
    from hotconf.reload.candidate import Candidate
    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import Origin

R = TypeVar("R")
S = TypeVar("S")

_CHANGES = 50_000
"""Paths whose last change is remembered. Beyond that number every path counts as changed: some watchers wake up for
nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot(Generic[S]):
    """One published configuration: settings and what was built from them, always together.

    Attributes:
        settings: the settings, an instance of the settings class.
        generation: counts from 1 in each process.
        loaded_at: when it was put into force, in UTC.
        changes: the generation in which each path last changed, as far as this process knows.
        resources: the objects that were built from the settings, by resource.
    """

    settings: S = field(repr=False)  # only SecretStr and its kin mask themselves
    generation: int
    loaded_at: datetime
    candidate: Candidate[S] = field(repr=False)
    changes: Mapping[KeyPath, int] = field(default_factory=dict, repr=False)
    resources: Mapping[Resource[Any], Any] = field(default_factory=dict, repr=False)

    @classmethod
    def after(cls, before: Self | None, candidate: Candidate[S], resources: Mapping[Resource[Any], Any]) -> Self:
        """Return the snapshot of the next generation: a candidate, and what was built for it."""
        generation, known = (before.generation + 1, before.changes) if before is not None else (1, {})
        changes: dict[KeyPath, int] = {(): generation}
        if known and len(known) + len(candidate.changed) <= _CHANGES:
            changes = {**known, **dict.fromkeys(candidate.changed, generation)}
        return cls(candidate.settings, generation, utcnow(), candidate, changes, resources)

    def changed_in(self, path: KeyPath) -> int:
        """Return the generation in which the value at a path last changed, as far as this process knows."""
        touching = (generation for changed, generation in self.changes.items() if touches(changed, path))
        return max(touching, default=1)

    @property
    def origins(self) -> Mapping[str, Origin]:
        """The place of each leaf by its dotted path, for this snapshot and not for the newest. Computed when asked."""
        return self.candidate.origins

    @property
    def revisions(self) -> Mapping[str, str]:
        """The revision of each source that has one, by name, from which these settings were made."""
        return self.candidate.readings.revisions

    @property
    def digest(self) -> str:
        """A short keyed name for the values, secrets included: two of one key are equal where the values are."""
        return self.candidate.digest

    @property
    def document(self) -> Any:
        """The settings as JSON shows them, secrets masked. Built once and shared: never change it."""
        return self.candidate.document

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied, since its resources belong to this process. Raises TypeError."""
        raise TypeError("a Snapshot cannot be pickled or copied: take its settings, generation or digest instead")

    def __getitem__(self, resource: Resource[R]) -> R:
        """Return the object that a resource built for this snapshot.

        Raises:
            NotBuilt: no engine is running, or the resource was registered later.
        """
        try:
            value: R = self.resources[resource]
        except KeyError:
            raise NotBuilt(getattr(resource, "name", repr(resource))) from None
        return value
