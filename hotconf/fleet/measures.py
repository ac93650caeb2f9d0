"""Measures: what an instance samples of itself, so that a judge can compare before and after, here and elsewhere."""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Literal, TypeAlias

from hotconf.fleet.report import Sampled

if TYPE_CHECKING:
    from collections.abc import Callable

    from hotconf.fleet.plan import Plan

log = logging.getLogger("hotconf")

Better: TypeAlias = Literal["lower", "higher"]

_BEFORE = 120
"""Samples that are kept from before a rollout."""


class Measure:
    """One measure: the samples from before the rollout, and those since the present stage began."""

    def __init__(self, name: str, function: Callable[[], float], better: Better) -> None:
        self.name = name
        self._function = function
        self._better = better
        self._before: deque[float] = deque(maxlen=_BEFORE)
        self._after: list[float] = []
        self._has_failed = False

    def sample(self, *, is_after: bool) -> None:
        """Take a sample. A function that raises, or returns no finite number, gives none."""
        try:
            value = float(self._function())
        except Exception:
            if not self._has_failed:
                log.exception("the measure %s raised; it has no data until it works again", self.name)
            self._has_failed = True
            return
        self._has_failed = False
        if math.isfinite(value):
            (self._after if is_after else self._before).append(value)

    def begin_stage(self) -> None:
        """Forget what was measured in an earlier stage."""
        self._after.clear()

    def end_rollout(self) -> None:
        """Count what was measured last as usual from now on."""
        self._before.extend(self._after)
        self._after.clear()

    @property
    def sampled(self) -> Sampled:
        """What the report says of it."""
        return Sampled(better=self._better, before=_mean(self._before), after=_mean(self._after))


def _mean(values: deque[float] | list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def stage_of(plan: Plan | None) -> tuple[str, int] | None:
    """Return what a measure is taken for: the rollout and its stage; None while nothing is being rolled out."""
    rollout = plan.rollout if plan is not None else None
    if rollout is None or rollout.is_finished or not rollout.threshold:
        return None
    return rollout.id, rollout.stage
