"""The boot: a start from the last known good where the sources are broken, and what is remembered for it."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from hotconf.errors import LastGoodUnusable
from hotconf.reload.last_good import boot_layers
from hotconf.reload.request import Recover
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from hotconf.reload.last_good import Copy, LastGood
    from hotconf.reload.reloader import Reloader
    from hotconf.reload.request import Errand
    from hotconf.sources.stack import Stack
    from hotconf.values.layer import Layer
    from hotconf.values.report import Report

log = logging.getLogger("hotconf")

_RECOVERED = "started from the last known good, generation {copy.generation} of {copy.written_at:%F %T} UTC"


class Boot:
    """Makes the first reload, and keeps what a later process may have to start from. Without `last_good`, neither."""

    def __init__(self, reloader: Reloader[Any], stack: Stack, last_good: LastGood | None) -> None:
        self._reloader = reloader
        self._stack = stack
        self._saved = 0
        self.last_good = last_good

    async def run(self, errand: Errand) -> Report:
        """Make the first trip. Where the sources are broken, start from the last known good, if there is one.

        Then the reports have both: the rejected one with its faults, and the one that is returned.
        """
        report = await self._reloader.reload(errand)
        if report.outcome != "rejected" or report.stage == "prepare" or self._reloader.pointer.snapshot is not None:
            return report
        if self.last_good is None or errand.operation is not None:
            return report
        try:
            copy = await asyncio.to_thread(self.last_good.read)
        except LastGoodUnusable as error:
            return dataclasses.replace(report, faults=(*report.faults, Fault("", str(error))))
        return await self._recover(errand, report, copy, boot_layers(self.last_good.model, copy, self._live()))

    async def _recover(self, errand: Errand, broken: Report, copy: Copy, layers: list[Layer]) -> Report:
        operation = Recover(layers, _RECOVERED.format(copy=copy))
        report = await self._reloader.reload(dataclasses.replace(errand, operation=operation))
        if report.outcome == "rejected":
            missing = copy.missing(layers[1:])
            said = {fault.path for fault in missing}  # and why: that these are not there need not be said again
            others = (fault for fault in report.faults if fault.path not in said)
            return dataclasses.replace(broken, faults=(*broken.faults, *missing, *others))
        log.error("%s; the sources are broken: %s", self._reloader.recovered, "; ".join(map(str, broken.faults)))
        return report

    def _live(self) -> list[Layer]:
        return [layer for state in self._stack.states if state.state != "failed" for layer in state.layers or ()]

    async def remember(self) -> None:
        """Write the last known good, if anything new was applied. What waits to be confirmed is not good yet."""
        draft, snapshot = self._reloader.pointer.draft, self._reloader.pointer.snapshot
        if self.last_good is None or draft is None or snapshot is None or snapshot.generation == self._saved:
            return
        if self._reloader.is_from_sources:
            generation, when = snapshot.generation, snapshot.loaded_at
            await asyncio.to_thread(
                self.last_good.write,
                draft.merged.values,
                settings=draft.settings,
                generation=generation,
                when=when,
            )
            self._saved = generation if self.last_good.error is None else 0
