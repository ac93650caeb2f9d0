"""Status: one look at how a configuration fares. Health, metrics, log and dashboard are all derived from it."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - the OpenAPI document reads these annotations
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003
from typing import Any, Literal, TypeAlias

from hotconf.sources.stack import SourceStatus  # noqa: TC001
from hotconf.values.report import PendingRestart, Report  # noqa: TC001

State: TypeAlias = Literal["new", "starting", "ready", "draining", "stopped"]


@dataclass(frozen=True, slots=True)
class Held:
    """A rollback that holds: the generation in force, and what keeps the sources from it."""

    generation: int
    reason: str = "the sources hold what was rolled away from: change them, or force the reload"

    def __str__(self) -> str:
        return f"generation {self.generation} was rolled back to and is held, since {self.reason}"


@dataclass(frozen=True, slots=True)
class Status:
    """How things stand. `generation` is 0, `digest` and `loaded_at` are None before the first load.

    `degraded` lists the reasons why something less than wished for is in force; `held` is None where no rollback holds;
    `leased` counts leases by generation; `uptime` is in seconds since the engine started.
    """

    state: State
    generation: int
    digest: str | None
    loaded_at: datetime | None
    last_reload: Report | None
    consecutive_failures: int
    sources: tuple[SourceStatus, ...]
    watching: Mapping[str, Any]
    pending_restart: tuple[PendingRestart, ...]
    held: Held | None
    degraded: tuple[str, ...]
    leased: Mapping[int, int]
    uptime: float
