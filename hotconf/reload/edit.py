"""Edits: how a patch reaches the overlay. It is written beside the file, and renamed as the last step that can fail."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from hotconf.errors import (
    NoOverlay,
    NothingToConfirm,
    OperationRefused,
    Rejected,
    RollbackHeld,
    SourceError,
    Stale,
    Unconfirmed,
)
from hotconf.reload.request import Patch, Revert
from hotconf.reload.subscribers import being_cancelled
from hotconf.schema.diff import differences
from hotconf.values.layer import Origin
from hotconf.values.merge import ABSENT, lookup, origin_in
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hotconf.reload.history import HeldRollback
    from hotconf.reload.request import OverlayOperation
    from hotconf.reload.snapshot import Snapshot
    from hotconf.sources.overlay import Overlay, StagedOverlay
    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import Layer, Readings

T = TypeVar("T")

_PATCH = Origin("overlay", "patch")


@dataclass(frozen=True, slots=True)
class PendingPatch:
    """A patch that is in force, in no file, and taken back at `deadline`, on the monotonic clock."""

    values: Mapping[str, Any] = field(repr=False)
    deadline: float


@dataclass(frozen=True, slots=True, eq=False)
class OverlayEdit:
    """What one reload does to the overlay: `before` becomes `after`.

    `staged` is the next file, None where no file is written. `pending` is what waits to be confirmed afterwards.
    """

    before: Layer
    after: Layer
    staged: StagedOverlay | None = None
    pending: PendingPatch | None = None

    def blamed(self, faults: Sequence[Fault]) -> tuple[Fault, ...]:
        """Return the faults of a rejected edit without a place in a file that was never written.

        A value that the edit left alone has its place of before, every other one is the patch's.
        """
        paths: dict[Origin, KeyPath] = {}
        for path, place in self.after.origins.items():
            paths.setdefault(place, path)
        places: dict[Origin | None, Origin | None] = {
            origin: self._place(paths[origin]) for origin in {fault.origin for fault in faults} if origin in paths
        }
        return tuple(dataclasses.replace(fault, origin=places.get(fault.origin, fault.origin)) for fault in faults)

    def _place(self, path: KeyPath) -> Origin | None:
        old, new = (lookup(layer.values, path) for layer in (self.before, self.after))
        return origin_in(self.before, path) if old is not ABSENT and not differences(old, new) else _PATCH

    def discard(self) -> None:
        """Remove a staged file. Does nothing after `OverlayEditor.write`."""
        if self.staged is not None:
            self.staged.discard()


class OverlayEditor:
    """Edits the overlay of one configuration, for one reload at a time. `pending` is the patch that waits, if any."""

    def __init__(self, overlay: Overlay | None) -> None:
        self._overlay = overlay
        self.pending: PendingPatch | None = None

    def check(self, operation: OverlayOperation, snapshot: Snapshot[Any] | None, held: HeldRollback | None) -> None:
        """Raise OperationRefused for an operation that the present state does not allow."""
        if self._overlay is None:
            raise NoOverlay
        if not isinstance(operation, Patch):
            if self.pending is None:
                raise NothingToConfirm
            return
        if self.pending is not None:
            raise Unconfirmed
        if operation.expect is not None and (snapshot is None or not _is_expected(operation.expect, snapshot)):
            raise Stale
        if held is not None:
            raise RollbackHeld(held.generation)

    def with_pending(self, readings: Readings) -> Readings:
        """Return readings with the patch that waits to be confirmed on top of the overlay's file. Raises Rejected."""
        if self.pending is None or self._overlay is None or readings.overlay is None:
            return readings
        # Rejected where the file was edited since, and holds a secret by now.
        patched = self._overlay.patched(readings.overlay, self.pending.values)
        return dataclasses.replace(readings, patched=patched)

    async def begin(self, operation: OverlayOperation, readings: Readings) -> tuple[Readings, OverlayEdit]:
        """Return what a patch, a confirmation or its timeout builds from, and what it does to the overlay.

        A patch goes on top of the file in `readings`; the other two read the file again, so that an edit by hand that
        no reload has seen is not lost. Raises Rejected.
        """
        overlay, file = self._overlay, readings.overlay
        if overlay is None or file is None:
            raise NoOverlay
        try:
            if not isinstance(operation, Patch):
                file = await overlay.read()
        except SourceError as error:
            raise Rejected(error.faults, "read") from None
        match operation:
            case Revert():
                return dataclasses.replace(readings, overlay=file, patched=None), OverlayEdit(file, file)
            case Patch(values=values, confirm=float() | int() as confirm):
                patched = await asyncio.to_thread(overlay.patched, file, values)
                edit = OverlayEdit(file, patched, pending=PendingPatch(values, time.monotonic() + confirm))
                return dataclasses.replace(readings, patched=patched), edit
            case Patch(values=values):
                pass
            case _:
                values = self.pending.values if self.pending is not None else {}
        staged = await self._staged(overlay, file, values)
        readings = dataclasses.replace(readings, overlay=staged.layer, patched=None)
        return readings, OverlayEdit(file, staged.layer, staged)

    async def _staged(self, overlay: Overlay, file: Layer, values: Mapping[str, Any]) -> StagedOverlay:
        staging = await _to_its_end(lambda: overlay.stage(overlay.merged(file, values)))
        try:
            staged = staging.result()
        except OSError as error:
            raise _unwritable(overlay, error) from error
        if being_cancelled():
            staged.discard()
            raise asyncio.CancelledError
        return staged

    async def write(self, edit: OverlayEdit) -> None:
        """Rename the next file into its place. Raises Rejected where the disk refuses.

        Cancelled meanwhile, it comes to its end all the same: the file must hold what is running.
        """
        if edit.staged is None or self._overlay is None:
            return
        renaming = await _to_its_end(edit.staged.publish)
        try:
            renaming.result()
        except OSError as error:
            raise _unwritable(self._overlay, error) from error

    def without_unconfirmed(self, readings: Readings) -> Readings:
        """Return what was in force once, as if each patch in it had been confirmed."""
        if self._overlay is None or readings.patched is None:
            return readings
        return dataclasses.replace(readings, overlay=self._overlay.confirmed(readings.patched), patched=None)


async def _to_its_end(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run a function in a thread and return when it has ended, also if cancelled: a thread cannot be cancelled."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    while not running.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({running})
    return running


def _unwritable(overlay: Overlay, error: OSError) -> Rejected:
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    message = f"the overlay cannot be written: {reason}; nothing was changed"
    return Rejected([Fault("", message, Origin("overlay", overlay.name))], "prepare")


def _is_expected(expect: Callable[[Snapshot[Any]], bool], snapshot: Snapshot[Any]) -> bool:
    try:
        return expect(snapshot)
    except Exception as error:  # the caller's own
        raise OperationRefused(f"what is expected cannot be told: {type(error).__name__}") from error
