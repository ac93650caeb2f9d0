"""The pointer: what is in force, and the one place that replaces it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hotconf.errors import NotLoaded
from hotconf.reload.snapshot import Snapshot
from hotconf.schema.explain import Origins
from hotconf.values.times import utcnow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hotconf.abc import Resource
    from hotconf.reload.candidate import Draft
    from hotconf.reload.holder import Holder
    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import SourceReading
    from hotconf.values.report import PendingRestart

S = TypeVar("S")

_CHANGES = 50_000
"""Paths whose last change is remembered. Beyond, everything counts as changed: some watchers wake up for nothing."""


class Pointer(Generic[S]):
    """The draft that is in force, None before the first load. The only writer of the holder, where readers look.

    Replacing it neither awaits nor fails. One reload at a time does; anybody may look meanwhile, from any thread.
    """

    def __init__(self, holder: Holder[S], model: type) -> None:
        self._holder = holder
        self._model = model
        self._origins: tuple[Draft[S], Origins] | None = None
        self.draft: Draft[S] | None = None

    @property
    def snapshot(self) -> Snapshot[S] | None:
        """What readers see, None before the first load."""
        return self._holder.snapshot if self._holder.loaded else None

    @property
    def generation(self) -> int:
        """The number of what is in force, 0 before the first load."""
        return self._holder.snapshot.generation if self._holder.loaded else 0

    @property
    def readings(self) -> Sequence[SourceReading]:
        """What the sources said that it was made from."""
        return self.draft.readings if self.draft is not None else ()

    @property
    def pending(self) -> tuple[PendingRestart, ...]:
        """What only a restart can change."""
        return self.draft.pending if self.draft is not None else ()

    @property
    def origins(self) -> Origins:
        """Where the values in force come from by now: they may have moved without changing. Raises NotLoaded."""
        if self.draft is None:
            raise NotLoaded
        if self._origins is None or self._origins[0] is not self.draft:
            self._origins = self.draft, Origins(self._model, self.draft.merged, self._holder.current)
        return self._origins[1]

    def swap(self, draft: Draft[S], resources: Mapping[Resource[Any], Any]) -> Snapshot[S] | None:
        """Put a draft into force with what was built for it. Return what was in force, None the first time.

        Where its values are not new, the generation stays.
        """
        snapshot = self._seal(draft, resources)
        return self.publish(snapshot, draft if draft.changed else draft.kept(snapshot.settings))

    def keep(self, draft: Draft[S]) -> None:
        """Leave in force what is, and go on from a draft of the same values: its origins may have moved."""
        self.draft = draft.kept(self._holder.current)

    def override(self, draft: Draft[S]) -> None:
        """Put a draft into force under the same generation: it goes as it came, and numbers only ever grow."""
        views = draft.views(self._model)
        self.publish(dataclasses.replace(self._holder.snapshot, settings=draft.settings, **views), draft)

    def forget_resources(self) -> None:
        """Leave the settings in force, without what was built from them."""
        if self._holder.loaded and self._holder.snapshot.resources:
            self.publish(dataclasses.replace(self._holder.snapshot, resources={}), self.draft)

    def publish(self, snapshot: Snapshot[S], draft: Draft[S] | None) -> Snapshot[S] | None:
        """Swap, and return what was in force, None the first time."""
        before = self._holder._publish(snapshot)  # noqa: SLF001 - the one place that may
        self.draft = draft
        return before

    def _seal(self, draft: Draft[S], resources: Mapping[Resource[Any], Any]) -> Snapshot[S]:
        if not draft.changed:  # only what is built from it is new
            return dataclasses.replace(self._holder.snapshot, resources=resources)
        return Snapshot(
            draft.settings,
            self.generation + 1,
            utcnow(),
            changes=self._changes(draft),
            resources=resources,
            **draft.views(self._model),
        )

    def _changes(self, draft: Draft[S]) -> dict[KeyPath, int]:
        """Return in which generation each path last changed; all of it in the first, or when there are too many."""
        generation = self.generation + 1
        known = self._holder.snapshot.changes if self._holder.loaded else {}
        if not known or len(known) + len(draft.changed) > _CHANGES:
            return {(): generation}
        return {**known, **dict.fromkeys(draft.changed, generation)}
