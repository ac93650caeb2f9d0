"""Status: one look at how a configuration fares. Health, metrics, log and dashboard are all derived from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from hotconf.values.report import PendingRestart, Report

State: TypeAlias = Literal["new", "starting", "ready", "draining", "stopped"]


@dataclass(frozen=True, slots=True)
class Held:
    """A rollback that holds: the generation in force, and what keeps the sources from it."""

    generation: int
    reason: str = "the sources hold what was rolled away from: change them, or force the reload"

    def __str__(self) -> str:
        return f"generation {self.generation} was rolled back to and is held, since {self.reason}"

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {"generation": self.generation, "reason": self.reason}


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
    sources: tuple[Mapping[str, Any], ...]
    watching: Mapping[str, Any]
    pending_restart: tuple[PendingRestart, ...]
    held: Held | None
    degraded: tuple[str, ...]
    leased: Mapping[int, int]
    uptime: float

    def as_dict(self) -> dict[str, Any]:
        """Return the status as JSON shows it."""
        return {
            "state": self.state,
            "generation": self.generation,
            "digest": self.digest,
            "loaded_at": self.loaded_at.isoformat() if self.loaded_at else None,
            "last_reload": self.last_reload.as_dict() if self.last_reload else None,
            "consecutive_failures": self.consecutive_failures,
            "sources": [dict(source) for source in self.sources],
            "watching": dict(self.watching),
            "pending_restart": [entry.as_dict() for entry in self.pending_restart],
            "held": self.held.as_dict() if self.held else None,
            "degraded": list(self.degraded),
            "leased": {str(generation): count for generation, count in self.leased.items()},
            "uptime": self.uptime,
        }
