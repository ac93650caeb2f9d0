"""Drafts: settings on their way, from what the sources said to what may be swapped in. Pure, and made in a thread."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import hotconf.values.keypath as keypath
from hotconf.errors import Rejected
from hotconf.reload.guard import guard
from hotconf.reload.restart import Built, Deferral, defer, refusals
from hotconf.reload.validate import validate
from hotconf.schema.diff import compare, differences
from hotconf.schema.explain import Origins
from hotconf.schema.fields import fields_of, mutable
from hotconf.schema.keys import with_canonical_keys
from hotconf.schema.redact import digest, document, scrub, secret_texts
from hotconf.values.keypath import touches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

    from hotconf.sources.construct import Constructor
    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import Layer, SourceReading
    from hotconf.values.merge import Merged
    from hotconf.values.report import Fault, PendingRestart

S = TypeVar("S")


@dataclass(frozen=True, slots=True, eq=False)
class Draft(Generic[S]):
    """Settings that passed validation, and all that is known of them.

    `merged` says where each value came from, `readings` what each source said, `changed` the paths at which they differ
    from what was running when the draft was made, `pending` what only a restart could change, `mutated` the paths at
    which the program itself had changed what was running. `beneath` is what was in force when an override was laid over
    it; None where none is.
    """

    settings: S = field(repr=False)
    merged: Merged
    readings: Sequence[SourceReading]
    changed: tuple[KeyPath, ...]
    pending: tuple[PendingRestart, ...] = ()
    mutated: tuple[KeyPath, ...] = ()
    beneath: Draft[S] | None = None

    def views(self, model: type) -> dict[str, Any]:
        """Return what its snapshot can tell of it, by field. Found out when it is asked, once."""
        document_of = functools.cache(functools.partial(document, self.settings))
        return {
            "origins": Origins(model, self.merged, self.settings),
            "document_of": document_of,
            "digest_of": functools.cache(lambda: digest(document_of())),
        }

    def above(self, running: Draft[S]) -> Draft[S]:
        """Return the same as an override over what is running, or over what that lies above."""
        return dataclasses.replace(self, beneath=running.beneath or running)

    def kept(self, settings: S) -> Draft[S]:
        """Return the same with the equal settings that are in force already."""
        return dataclasses.replace(self, settings=settings, changed=())


@dataclass(frozen=True, slots=True)
class Rules:
    """What a draft must keep to. `guard` is the share of values that may vanish; None: all of them."""

    constructor: Constructor
    guard: float | None = None
    on_restart_required: Literal["defer", "reject"] = "defer"

    @property
    def model(self) -> type[BaseModel]:
        """The settings class."""
        return self.constructor.model

    def draft(
        self,
        readings: Sequence[SourceReading],
        running: Draft[Any] | None,
        *,
        force: bool = False,
        overrides: Sequence[Layer] = (),
    ) -> Draft[Any]:
        """Merge, guard, validate, defer and compare. Raises Rejected with every fault at once."""
        readings = [self.canonical(reading) for reading in readings]
        layers = [layer for reading in readings for layer in reading.layers]
        merged = self.constructor.merge([*layers, *(with_canonical_keys(self.model, layer) for layer in overrides)])
        if running is not None and not force:
            self._guard(running, readings, merged)
        settings = validate(self.model, merged, self.constructor)
        if running is None:
            return Draft(settings, merged, readings, everything(settings))
        changed = compare(running.settings, settings)
        made, mutated = self._as_made(running, Built(merged, settings), changed)
        if running.beneath is not None and not overrides:  # one has ended that hid what was no good
            made = running.beneath
        wanted = compare(made.settings, settings) if mutated or made is running.beneath else changed
        deferral = self._defer(made, Built(merged, settings), wanted)
        if deferral.pending:
            changed = compare(running.settings, deferral.settings)
        draft = Draft(deferral.settings, deferral.merged, readings, changed, deferral.pending, mutated)
        return draft.above(running) if overrides else draft

    def _as_made(
        self, running: Draft[Any], candidate: Built, changed: Sequence[KeyPath]
    ) -> tuple[Draft[Any], tuple[KeyPath, ...]]:
        """Return the running draft as it was made, and where the program has changed its settings since.

        Looked for where a class lets a program set its values and, since a list within a frozen one can be changed as
        well, where the settings differ although the sources say the same.
        """
        unmoved = running.merged.values == candidate.merged.values
        if not mutable(self.model) and not (changed and unmoved):
            return running, ()
        try:
            made = validate(self.model, running.merged, self.constructor)
        except Rejected:  # a validator that goes by something else, such as the time
            return running, ()
        found = compare(running.settings, made)
        impure = set(differences(made, candidate.settings)) if unmoved and found else set()
        return dataclasses.replace(running, settings=made), tuple(path for path in found if path not in impure)

    def overridden(self, running: Draft[Any], overrides: Sequence[Layer]) -> Draft[Any]:
        """Lay overrides over what the sources last said. Raises Rejected.

        What waits for a restart goes on waiting, unless an override has it.
        """
        beneath, draft = running.beneath or running, self.draft(running.readings, None, overrides=overrides)
        # While the sources say the same, a marked field that a validator made from an overridden one goes with it.
        moved = running.readings is not beneath.readings
        pending = [()] if moved else [keypath.parse(entry.path) for entry in running.pending]
        changed = self._from_sources(beneath, draft)
        waiting = [path for path in changed if any(touches(path, entry) for entry in pending)]
        deferral = self._defer(beneath, Built(draft.merged, draft.settings), waiting)
        compare(running.settings, deferral.settings)  # what does not differ stays the same object
        still = deferral.pending if moved else running.pending
        draft = Draft(deferral.settings, deferral.merged, running.readings, (), still)
        return draft.above(running) if overrides else draft

    def _from_sources(self, *drafts: Draft[Any]) -> list[KeyPath]:
        """Return the paths at which two drafts differ, but for those that an override has, or had."""
        origins = [Origins(self.model, draft.merged, draft.settings) for draft in drafts]
        changed = compare(*(draft.settings for draft in drafts))
        return [path for path in changed if all(each.at(path).kind != "override" for each in origins)]

    def _defer(self, running: Draft[Any], candidate: Built, changed: Sequence[KeyPath]) -> Deferral:
        built = Built(running.merged, running.settings)
        deferral = defer(self.model, built, candidate, changed=changed, constructor=self.constructor)
        if deferral.pending and self.on_restart_required == "reject":
            raise Rejected(refusals(deferral.pending), "defer")
        return deferral

    def canonical(self, reading: SourceReading) -> SourceReading:
        """Return a reading with canonical keys."""
        layers = tuple(with_canonical_keys(self.model, layer) for layer in reading.layers)
        return dataclasses.replace(reading, layers=layers)

    def _guard(self, running: Draft[Any], readings: Sequence[SourceReading], merged: Merged) -> None:
        if self.guard is None or len(running.readings) != len(readings):
            return  # what runs is not from the sources: it is the last known good
        faults = guard(running.readings, readings, self.guard)
        if faults:  # they name keys, and those of a secret mapping are a part of the secret
            raise Rejected(self.discreet(faults, merged.values, running=running), "guard")

    def discreet(self, faults: Sequence[Fault], *shown: Any, running: Draft[Any] | None) -> list[Fault]:
        """Return faults without the secrets of what somebody was shown, nor those of what is running."""
        # The settings as well: a default factory or a validator makes secrets that no source holds.
        known = (running.merged.values, running.settings) if running is not None else ()
        secrets = {secret for values in (*shown, *known) for secret in secret_texts(self.model, values)}
        return [dataclasses.replace(fault, message=scrub(fault.message, secrets)) for fault in faults]


def everything(settings: Any) -> tuple[KeyPath, ...]:
    """Return the path of every part of some settings; the root, where they have none that is declared."""
    model: type = type(settings)
    names = (*fields_of(model), *(getattr(settings, "__pydantic_extra__", None) or ()))
    return tuple((name,) for name in names) or ((),)
