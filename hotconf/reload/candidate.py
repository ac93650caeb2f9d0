"""Candidates: settings that passed validation and are not running yet. Pure, and built in a thread."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import hotconf.values.keypath as keypath
from hotconf.errors import Rejected
from hotconf.reload.guard import Expected, guard, guard_start
from hotconf.reload.restart import Built, defer, refusals
from hotconf.reload.state import digest_key
from hotconf.reload.validate import validate
from hotconf.schema.diff import compare, differences, has_no_equality
from hotconf.schema.digest import digest
from hotconf.schema.explain import Origins, input_paths
from hotconf.schema.fields import fields_of, holds_content, models_within, mutable
from hotconf.schema.redact import NOTHING_SENT, Sent, document, scrub, secret_texts
from hotconf.schema.shape import Shape
from hotconf.schema.tree import content_files, value_at
from hotconf.schema.unknown import unknown_keys
from hotconf.values.layer import Layer
from hotconf.values.merge import Merged, lookup, merge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from hotconf.sources.construct import Constructor
    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import Origin, Readings
    from hotconf.values.report import Fault, PendingRestart, UnknownKey

S = TypeVar("S")


@dataclass(frozen=True, eq=False)
class Candidate(Generic[S]):
    """Settings that passed validation, and all that is known of them.

    `readings` are what the sources said, `merged` the values that were validated, with the place of each. `changed` are
    the paths at which the settings differ from those that ran when the candidate was built, `pending` what only a
    restart can change. `beneath` is the candidate without overrides; None where the sources alone have never been
    valid. `unknown` are the keys of files that no field reads. `contents` are digests of the files whose content
    counts, by the setting that names each.
    """

    settings: S = field(repr=False)
    merged: Merged
    readings: Readings
    changed: tuple[KeyPath, ...]
    pending: tuple[PendingRestart, ...] = ()
    beneath: Candidate[S] | None = None
    digest_key_file: Path | None = None
    unknown: tuple[UnknownKey, ...] = ()
    contents: Mapping[KeyPath, str] = field(default_factory=dict)

    @property
    def from_sources(self) -> Candidate[S] | None:
        """The candidate without overrides: this one, where there are none."""
        return self.beneath if self.readings.overrides else self

    @functools.cached_property
    def changed_names(self) -> tuple[str, ...]:
        """`changed` as reports and changes show it."""
        return rendered(self.changed)

    @functools.cached_property
    def origins(self) -> Origins:
        """Where each value comes from."""
        return Origins(type(self.settings), self.merged, self.settings)

    @functools.cached_property
    def content_files(self) -> Mapping[KeyPath, tuple[Path, Origin]]:
        """The files whose content counts, by the path of the setting that names each, with its place."""
        shape = Shape(models=(type(self.settings),))
        found = dict(content_files(self.settings, shape)) if holds_content(shape) else {}
        return {path: (Path(file), self.origins.at(path)) for path, file in found.items()}

    def with_contents(self, contents: Mapping[KeyPath, str], running: Candidate[S] | None) -> Candidate[S]:
        """Return the same with the content of its files.

        A file whose content is another one is a change of its setting.
        """
        before = running.contents if running is not None else {}
        differ = [path for path, content in contents.items() if before.get(path, content) != content]
        new = (path for path in differ if path not in self.changed)
        return dataclasses.replace(self, contents=contents, changed=(*self.changed, *new))

    @functools.cached_property
    def document(self) -> Any:
        """The settings as JSON shows them, secrets masked. Shared: never change it."""
        return document(self.settings)

    @functools.cached_property
    def digest(self) -> str:
        """A short name for the values, secrets included: see `hotconf.schema.digest`."""
        return digest(self.settings, digest_key(self.digest_key_file), self.contents)

    def with_settings(self, running: S) -> Candidate[S]:
        """Return the same with the equal settings that are running already."""
        return dataclasses.replace(self, settings=running, changed=())


@dataclass(frozen=True, slots=True)
class CandidateBuilder:
    """Builds candidates for one settings class. The options are those of `Options`, by the same names."""

    constructor: Constructor
    guard: float | None = None
    on_restart_required: Literal["defer", "reject"] = "defer"
    digest_key_file: Path | None = None
    unknown: Literal["warn", "error", "ignore"] = "warn"
    sent: Sent = NOTHING_SENT
    guards_overlay: bool = True
    _revalidates: bool = field(init=False)

    def __post_init__(self) -> None:
        declared = any(getattr(model, "__revalidate__", False) for _, model in models_within(self.model))
        # What the program changed in place is replaced by a reload.
        object.__setattr__(self, "_revalidates", declared or bool(mutable(self.model)))

    @property
    def model(self) -> type[BaseModel]:
        """The settings class."""
        return self.constructor.model

    def for_patch(self, values: Mapping[str, Any]) -> CandidateBuilder:
        """Return one for a patch: its faults quote nothing of it, and what it takes from the overlay is meant."""
        return dataclasses.replace(self, sent=Sent.in_patch(self.model, values), guards_overlay=False)

    def build(
        self,
        readings: Readings,
        running: Candidate[Any] | None,
        *,
        force: bool = False,
        afresh: bool = False,
        expected: Expected | None = None,
    ) -> Candidate[Any]:
        """Merge, guard, validate, compare and defer; then lay overrides on top, validate and compare again.

        Where the sources said the very same before, what was built from them then is built upon.

        Args:
            readings: what the sources said.
            running: what is in force, None at the first load.
            force: overrule the guard.
            afresh: build also from what is running already.
            expected: what ran before the process started. It counts until the sources have been applied once.

        Raises:
            Rejected: with every fault at once.
        """
        starts = running is None or (running.readings.from_last_good and not readings.from_last_good)
        if starts and expected is not None and self.guard is not None:
            faults = guard_start(expected, readings.by_source(), self.guard)
            if faults:
                raise Rejected(self.scrubbed(faults, expected.values, running=running), "guard")
        before = running.from_sources if running is not None else None
        afresh = afresh or self._revalidates
        if before is not None and not afresh and readings.have_the_sources_of(before.readings):
            beneath: Candidate[Any] | None = before
        else:
            try:
                sources = dataclasses.replace(readings, overrides=())
                beneath = self._build_from_sources(sources, before, force=force)
            except Rejected:
                if before is not None or not readings.overrides:
                    raise
                beneath = None  # an override may supply what the sources lack
        candidate = self._build_overridden(readings, beneath) if readings.overrides or beneath is None else beneath
        if candidate is running:
            candidate = candidate.with_settings(candidate.settings) if candidate.changed else candidate
        elif running is not None and (candidate is not beneath or candidate is before or running is not before):
            # Only what is new may share parts with what is running: a candidate from before is published, and is not
            # changed.
            differ = differences if candidate is before else compare
            candidate = dataclasses.replace(candidate, changed=differ(running.settings, candidate.settings))
        _ = candidate.changed_names  # rendered in this thread and not on the event loop: there may be very many
        return candidate

    def _build_from_sources(self, readings: Readings, running: Candidate[Any] | None, *, force: bool) -> Candidate[Any]:
        merged = self.constructor.merge(readings.layers())
        if running is not None and not force:
            self._refuse_losses(readings, running, merged)
        settings, unknown = self._validated(merged, readings)
        if running is None:
            paths = every_path(settings)
            return Candidate(settings, merged, readings, paths, (), None, self.digest_key_file, unknown)
        changed = compare(running.settings, settings)
        if made_again := self._made_again(running, merged, settings, changed):
            changed = compare(running.settings, settings, made_again=made_again)
        built = Built(running.merged, running.settings)
        deferral = defer(self.model, built, Built(merged, settings), changed=changed, constructor=self.constructor)
        if deferral.pending:
            if self.on_restart_required == "reject":
                raise Rejected(refusals(deferral.pending), "defer")
            changed = compare(running.settings, deferral.settings)
        settings, merged, pending = deferral.settings, deferral.merged, deferral.pending
        return Candidate(settings, merged, readings, changed, pending, None, self.digest_key_file, unknown)

    def _validated(self, merged: Merged, readings: Readings) -> tuple[Any, tuple[UnknownKey, ...]]:
        """Return settings, and the unknown keys in what they were made from. Raises Rejected with every fault."""
        unknown = tuple(unknown_keys(self.model, readings.layers())) if self.unknown != "ignore" else ()
        refused = unknown if self.unknown == "error" else ()
        try:
            settings = validate(self.model, merged, self.constructor, sent=self.sent)
        except Rejected as rejected:
            said = {(fault.path, fault.origin) for fault in rejected.faults}
            more = (fault for fault in refused if (fault.path, fault.origin) not in said)
            raise Rejected((*rejected.faults, *more), rejected.stage) from None
        if refused:
            raise Rejected(refused)
        return settings, unknown

    def _build_overridden(self, readings: Readings, beneath: Candidate[Any] | None) -> Candidate[Any]:
        """Lay overrides over a candidate. What waits for a restart goes on waiting, unless an override supplies it."""
        merged = beneath.merged if beneath is not None else self.constructor.merge(readings.layers())
        values, given = (
            merge([Layer("", below), *readings.overrides]).values for below in (merged.values, merged.given)
        )
        merged = Merged(values, (*merged.layers, *readings.overrides), given)
        settings = validate(self.model, merged, self.constructor)
        origins = Origins(self.model, merged, settings)
        pending = beneath.pending if beneath is not None else ()
        waiting = tuple(entry for entry in pending if origins.at(keypath.parse(entry.path)).kind != "override")
        unknown = beneath.unknown if beneath is not None else ()
        paths = every_path(settings)
        return Candidate(settings, merged, readings, paths, waiting, beneath, self.digest_key_file, unknown)

    def _made_again(
        self, running: Candidate[Any], merged: Merged, settings: Any, changed: Sequence[KeyPath]
    ) -> set[int]:
        """Return the ids of changed objects that have no equality of their own and were made from the input of before.

        That input is the part that holds the object, or the outermost part above it whose class has model validators:
        they may make one value of a part from another.
        """
        found = set[int]()
        for path in changed:
            value = value_at(settings, path)
            if not path or not has_no_equality(value) or type(value) is not type(value_at(running.settings, path)):
                continue
            owners = (value_at(settings, path[:depth]) for depth in range(len(path)))
            decorated = (getattr(owner, "__pydantic_decorators__", None) for owner in owners)
            depth = next((depth for depth, own in enumerate(decorated) if own and own.model_validators), len(path) - 1)
            inputs = [
                [lookup(values, at) for at in input_paths(self.model, path[:depth])]
                for values in (running.merged.values, merged.values)
            ]
            if not differences(*inputs):
                found.add(id(value))
        return found

    def _refuse_losses(self, readings: Readings, running: Candidate[Any], merged: Merged) -> None:
        if readings.from_last_good or running.readings.from_last_good or self.guard is None:
            return  # the two are not from the same sources: `guard_start` compares them
        before = running.readings
        if not self.guards_overlay:
            before = dataclasses.replace(before, overlay=readings.overlay, patched=readings.patched)
        faults = guard(before.by_source(), readings.by_source(), self.guard)
        if faults:  # they name keys, and those of a secret mapping are a part of the secret
            raise Rejected(self.scrubbed(faults, merged.values, running=running), "guard")

    def scrubbed(self, faults: Sequence[Fault], *shown: Any, running: Candidate[Any] | None) -> list[Fault]:
        """Return faults without the secrets in `shown` values and in what is running."""
        # The settings as well: a default factory or a validator makes secrets that no source holds.
        known = (running.merged.values, running.settings) if running is not None else ()
        secrets = {secret for values in (*shown, *known) for secret in secret_texts(self.model, values)}
        hide = self.sent.hide
        return [dataclasses.replace(fault, message=hide(scrub(fault.message, secrets))) for fault in faults]


def every_path(settings: Any) -> tuple[KeyPath, ...]:
    """Return the path of every field of some settings, extra keys too; the root where they have no fields."""
    model: type = type(settings)
    names = (*fields_of(model), *(getattr(settings, "__pydantic_extra__", None) or ()))
    return tuple((name,) for name in names) or ((),)


def rendered(paths: Sequence[KeyPath]) -> tuple[str, ...]:
    """Return paths as reports and changes show them."""
    return tuple(keypath.render(path) for path in paths)
