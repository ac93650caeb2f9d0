"""Reports: what one reload said. Log, metrics, status and HTTP answers are all derived from one of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from datetime import datetime

    from hotconf.values.layer import Origin

Outcome: TypeAlias = Literal["applied", "unchanged", "rejected"]
Stage: TypeAlias = Literal["read", "guard", "validate", "defer", "prepare"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One reason to refuse. Its text is `file:line:col: path: message`, the same everywhere it is shown.

    `path` is dotted and empty where the fault belongs to a whole source; `message` holds no secret.
    """

    path: str
    message: str
    origin: Origin | None = None

    def __str__(self) -> str:
        parts = (str(self.origin) if self.origin else "", self.path, self.message)
        return _one_line(": ".join(part for part in parts if part))

    def as_dict(self) -> dict[str, Any]:
        """Return the fault as JSON shows it."""
        where = self.origin
        return {
            "path": self.path,
            "message": self.message,
            "origin": str(where) if where else None,
            "source": where.source if where else None,
            "line": where.line if where else None,
            "column": where.column if where else None,
            "text": str(self),
        }


@dataclass(frozen=True, slots=True)
class PendingRestart:
    """A changed setting that only a restart can apply. Both values are masked where the setting is a secret."""

    path: str
    running: Any
    wanted: Any
    origin: Origin

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as JSON shows it."""
        return {"path": self.path, "running": self.running, "wanted": self.wanted, "origin": str(self.origin)}


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one trip from trigger to swap. Final when the last subscriber has committed.

    `triggers` are the distinct triggers that this reload answers, in the order they came; `generation` is the one in
    force afterwards, 0 before the first load. `duration` is in seconds. `stage` says where a candidate was rejected.
    `mutated` are the paths at which the program itself had changed the running settings.
    """

    id: int
    outcome: Outcome
    triggers: tuple[str, ...]
    generation: int
    started_at: datetime
    duration: float
    changed: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    stage: Stage | None = None
    pending_restart: tuple[PendingRestart, ...] = ()
    commit_errors: tuple[str, ...] = ()
    mutated: tuple[str, ...] = ()
    note: str = ""
    dry_run: bool = False

    def __str__(self) -> str:
        """Return the one line that the log shows."""
        who = f"{'dry run' if self.dry_run else 'reload'} {self.id} ({', '.join(self.triggers)})"
        return _one_line(f"{who}: {self.outcome}, {self._detail()} [{self.duration * 1000:.1f} ms]")

    def _detail(self) -> str:
        if self.outcome == "rejected":
            faults = "; ".join(str(fault) for fault in self.faults[:_SHOWN_FAULTS])
            if len(self.faults) > _SHOWN_FAULTS:
                faults += f"; and {len(self.faults) - _SHOWN_FAULTS} more"
            still = f"generation {self.generation} stays in force" if self.generation else "nothing is in force"
            return f"{still}: {faults}"
        parts = [f"generation {self.generation}"]
        if self.changed:
            parts.append(f"changed: {_listed(self.changed)}")
        if self.pending_restart:
            parts.append(f"pending restart: {_listed(tuple(entry.path for entry in self.pending_restart))}")
        if self.mutated:
            parts.append(f"the program had changed what was running, which is undone: {_listed(self.mutated)}")
        parts.extend(part for part in (*self.commit_errors, self.note) if part)
        return ", ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON shows it."""
        return {
            "id": self.id,
            "outcome": self.outcome,
            "triggers": list(self.triggers),
            "generation": self.generation,
            "started_at": self.started_at.isoformat(),
            "duration": self.duration,
            "changed": list(self.changed),
            "faults": [fault.as_dict() for fault in self.faults],
            "stage": self.stage,
            "pending_restart": [entry.as_dict() for entry in self.pending_restart],
            "commit_errors": list(self.commit_errors),
            "mutated": list(self.mutated),
            "note": self.note,
            "dry_run": self.dry_run,
        }


def _one_line(text: str) -> str:
    # Messages quote exceptions and keys of foreign make; a line break in one would forge a line of the log.
    return "".join(letter if letter.isprintable() else " " for letter in text)


_SHOWN = 10
_SHOWN_FAULTS = 50
"""In the one line of the log. The report itself has them all."""


def _listed(paths: tuple[str, ...]) -> str:
    text = ", ".join(path or "everything" for path in paths[:_SHOWN])
    return text if len(paths) <= _SHOWN else f"{text} and {len(paths) - _SHOWN} more"
