"""Edits: how a patch reaches the overlay. Tried in memory first, written beside the file, renamed as the last step."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from hotconf.errors import NoOverlay, NothingToConfirm, OperationRefused, Rejected, SourceError, Stale, Unconfirmed
from hotconf.reload.request import Confirm, Edition, Operation, Patch, Recover, Revert, Rollback
from hotconf.reload.subscribers import being_cancelled
from hotconf.schema.diff import differences
from hotconf.values.layer import Origin, SourceReading
from hotconf.values.merge import ABSENT, lookup, origin_in
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hotconf.reload.snapshot import Snapshot
    from hotconf.sources.overlay import Overlay, StagedOverlay
    from hotconf.values.layer import Layer

T = TypeVar("T")

_PATCH = Origin("overlay", "patch")


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """What one reload does to the overlay. `staged` is the next file, None where nothing is written.

    `reading` is what it is in force with, `file` what it will read as from then on: something else on a rollback that
    holds. `before` is what it changes. `unconfirmed` and `deadline`, on the monotonic clock, are what waits to be
    confirmed afterwards; `below` is what they stand on, None where it is the file.
    """

    reading: SourceReading
    file: SourceReading
    before: Layer
    staged: StagedOverlay | None = None
    unconfirmed: tuple[Mapping[str, Any], ...] = ()
    deadline: float | None = None
    below: Layer | None = None

    def blamed(self, faults: Sequence[Fault]) -> tuple[Fault, ...]:
        """Return the faults of what was rejected and is in no file: at its place before, or blamed on the patch."""
        return tuple(dataclasses.replace(fault, origin=self._place(fault.origin)) for fault in faults)

    def _place(self, origin: Origin | None) -> Origin | None:
        (proposed,) = self.reading.layers
        path = next((path for path, place in proposed.origins.items() if place == origin), None)
        if path is None:
            return origin
        old, new = (lookup(layer.values, path) for layer in (self.before, proposed))
        return origin_in(self.before, path) if old is not ABSENT and not differences(old, new) else _PATCH


class Editor:
    """Edits the overlay of one configuration, for one reload at a time."""

    def __init__(self, overlay: Overlay | None) -> None:
        self._overlay = overlay
        self.deadline: float | None = None
        self._below: Layer | None = None
        self._on_file = ""

    def check(self, operation: Operation | None, snapshot: Snapshot[Any] | None) -> None:
        """Raise OperationRefused for an operation on the overlay that is not possible as things are."""
        if operation is None or isinstance(operation, Rollback | Recover):
            return
        if self._overlay is None:
            raise NoOverlay
        if isinstance(operation, Patch):
            if self.deadline is not None:
                raise Unconfirmed
            if operation.expect is not None and (snapshot is None or not _is_expected(operation.expect, snapshot)):
                raise Stale
        elif self.deadline is None:
            raise NothingToConfirm

    async def begin(self, operation: Edition, running: Layer | None, *, held: bool) -> Edit:
        """Return what an operation makes of the overlay, which is `running`. Raises Rejected.

        A patch goes on top of the file or, where a rollback is held, of what it went back to.
        """
        overlay = self._editable
        try:
            file = await overlay.read_file()
            match operation:
                case Confirm():
                    return await self._written(self._to_confirm(file), file)
                case Revert():
                    return Edit(_reading(self._below or file), _reading(file), file)
            below = running if held and running is not None else file
            if operation.confirm is None:
                return await self._written(overlay.patched(below.values, operation.values), below)
            reading, on_file = (_reading(overlay.laid_over(layer, (operation.values,))) for layer in (below, file))
        except SourceError as error:
            raise Rejected(error.faults, "read") from None
        deadline = time.monotonic() + operation.confirm
        return Edit(reading, on_file, below, None, (operation.values,), deadline, below if held else None)

    def _to_confirm(self, file: Layer) -> Mapping[str, Any]:
        """Return what is to be permanent: on top of the file, lest an edit by hand that nobody has reloaded is lost.

        Or of what was gone back to, as long as the file is what it was.
        """
        overlay = self._editable
        on_file = overlay.laid_over(file, overlay.unconfirmed)
        if self._below is None or on_file.revision != self._on_file:
            return on_file.values
        return overlay.laid_over(self._below, overlay.unconfirmed).values

    async def _written(self, values: Mapping[str, Any], before: Layer) -> Edit:
        staging = await _to_its_end(functools.partial(self._editable.stage, values))
        try:
            staged = staging.result()
        except OSError as error:
            raise self._unwritable(error) from error
        if being_cancelled():
            staged.discard()
            raise asyncio.CancelledError
        reading = _reading(staged.layer)
        return Edit(reading, reading, before, staged)

    async def write(self, edit: Edit) -> None:
        """Rename the next file into its place: the last step that can fail, and then raises Rejected.

        Cancelled meanwhile, it comes to its end all the same: what is on disk must be what is running.
        """
        if edit.staged is None:
            return
        renaming = await _to_its_end(edit.staged.publish)
        try:
            renaming.result()
        except OSError as error:
            raise self._unwritable(error) from error

    async def without_unconfirmed(self) -> SourceReading | None:
        """Return what the overlay reads as when nothing waits any more; None where nothing does, or it is not known."""
        if self.deadline is not None:
            with contextlib.suppress(SourceError):
                return _reading(await self._editable.read_file())
        return None

    def settled(self, readings: Sequence[SourceReading]) -> Sequence[SourceReading]:
        """Return what was in force once, the overlay last, without a word that anything waits to be confirmed."""
        overlay = self._overlay
        if overlay is None:
            return readings
        last = readings[-1]
        return [*readings[:-1], dataclasses.replace(last, layers=tuple(map(overlay.settled, last.layers)))]

    def discard(self, edit: Edit) -> None:
        """Leave the overlay as it is. After `write`, this does nothing."""
        if edit.staged is not None:
            edit.staged.discard()

    def settle(self, edit: Edit | None) -> None:
        """Remember what waits to be confirmed. Without an edit, nothing does any more."""
        if self._overlay is not None:
            self._overlay.unconfirmed = edit.unconfirmed if edit is not None else ()
            self.deadline = edit.deadline if edit is not None else None
            self._below = edit.below if edit is not None else None
            self._on_file = edit.file.layers[0].revision if edit is not None else ""

    @property
    def _editable(self) -> Overlay:
        if self._overlay is None:
            raise NoOverlay
        return self._overlay

    def _unwritable(self, error: OSError) -> Rejected:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        place = Origin("overlay", self._editable.name)
        return Rejected([Fault("", f"the overlay cannot be written: {reason}; nothing was changed", place)], "prepare")


async def _to_its_end(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run something in a thread, and return when it has ended, also if cancelled meanwhile: a thread cannot be."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    while not running.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({running})
    return running


def _reading(layer: Layer) -> SourceReading:
    return SourceReading((layer,), guarded=False)


def _is_expected(expect: Callable[[Snapshot[Any]], bool], snapshot: Snapshot[Any]) -> bool:
    try:
        return expect(snapshot)
    except Exception as error:  # of whoever asked, and theirs to hear of
        raise OperationRefused(f"what is expected cannot be told: {type(error).__name__}") from error
