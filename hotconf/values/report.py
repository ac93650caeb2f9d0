"""Reports: what one reload said. Log, metrics, status and HTTP answers are all derived from one of these."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypeVar

from hotconf.values.layer import Origin

T = TypeVar("T")

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

    @property
    def source(self) -> str | None:
        """The source of its origin."""
        return self.origin.source if self.origin else None

    @property
    def line(self) -> int | None:
        """The line of its origin."""
        return self.origin.line if self.origin else None

    @property
    def column(self) -> int | None:
        """The column of its origin."""
        return self.origin.column if self.origin else None

    @property
    def text(self) -> str:
        """Its whole text."""
        return str(self)


class MissingField(Fault):
    """A required field that no source sets."""

    __slots__ = ()


class UnknownKey(Fault):
    """A key that no field reads, and that the class does not refuse by itself."""

    __slots__ = ()


def in_order(faults: Sequence[Fault]) -> list[Fault]:
    """Return faults in the order of their places, source by source. Those without a place come last."""
    sources = list(dict.fromkeys(fault.origin.source for fault in faults if fault.origin))

    def place(fault: Fault) -> tuple[int, int, int]:
        where = fault.origin
        return (sources.index(where.source), where.line or 0, where.column or 0) if where else (len(sources), 0, 0)

    return sorted(faults, key=place)


@dataclass(frozen=True, slots=True)
class PendingRestart:
    """A changed setting that only a restart can apply. Both values are masked where the setting is a secret."""

    path: str
    running: Any
    wanted: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one reload. Final when the last subscriber has committed.

    `triggers` are the distinct triggers that this reload answers, in the order they came; `generation` is the one in
    force afterwards, 0 before the first load. `duration` is in seconds. `stage` says where a candidate was rejected.
    `revisions` are those that this reload read, by source, applied or not; a source without revisions is left out.

    Reports are kept, logged and served, so none is large, whatever a client has sent: `faults` and `changed` are the
    first ones, `more_faults` and `more_changed` say how many were left out, and a long text in them is cut.
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
    note: str = ""
    dry_run: bool = False
    revisions: Mapping[str, str] = field(default_factory=dict, hash=False)
    more_faults: int = 0
    more_changed: int = 0

    def __post_init__(self) -> None:
        faults = tuple(_fitting(map(_cut_fault, self.faults), _FAULTS_SIZE))
        changed = tuple(_fitting(map(_cut, self.changed), _CHANGED_SIZE))
        bounded = {
            "faults": faults,
            "more_faults": self.more_faults + len(self.faults) - len(faults),
            "changed": changed,
            "more_changed": self.more_changed + len(self.changed) - len(changed),
            "commit_errors": tuple(_fitting(map(_cut, self.commit_errors), _CHANGED_SIZE)),
        }
        for name, value in bounded.items():
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        """Return the one line that the log shows."""
        who = f"{'dry run' if self.dry_run else 'reload'} {self.id} ({', '.join(self.triggers)})"
        return _one_line(f"{who}: {self.outcome}, {self._detail()} [{self.duration * 1000:.1f} ms]")

    def _detail(self) -> str:
        if self.outcome == "rejected":
            faults = "; ".join(str(fault) for fault in self.faults[:_SHOWN_FAULTS])
            if more := self.more_faults + max(0, len(self.faults) - _SHOWN_FAULTS):
                faults += f"; and {more} more"
            still = f"generation {self.generation} stays in force" if self.generation else "nothing is in force"
            return f"{still}: {faults}"
        parts = [f"generation {self.generation}"]
        if self.changed:
            parts.append(f"changed: {_listed(self.changed, more=self.more_changed)}")
        if self.pending_restart:
            parts.append(f"pending restart: {_listed(tuple(entry.path for entry in self.pending_restart))}")
        parts.extend(part for part in (*self.commit_errors, self.note) if part)
        return ", ".join(parts)


def jsonable(value: Any) -> Any:
    """Return a value in the types of JSON, as log, audit log, command and HTTP show it.

    A dataclass is an object of its fields, then its properties. The OpenAPI document describes it by the same rule.
    """
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Origin):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(cls := type(value)):
        return {name: jsonable(getattr(value, name)) for name in members(cls)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    return [jsonable(item) for item in value] if isinstance(value, (list, tuple)) else value


@functools.cache
def members(cls: type) -> tuple[str, ...]:
    """Return the names of the fields and properties of a dataclass, which its JSON has."""
    owned = [vars(owner).items() for owner in reversed(cls.__mro__)]
    properties = (name for items in owned for name, member in items if isinstance(member, property))
    return (*(member.name for member in fields(cls)), *properties)


def _one_line(text: str) -> str:
    # Messages quote exceptions and keys of foreign make; a line break in one would forge a line of the log.
    return "".join(letter if letter.isprintable() else " " for letter in text)


_SHOWN = 10
_SHOWN_FAULTS = 50
"""In the one line of the log. The report itself has them all."""


def _listed(paths: tuple[str, ...], *, more: int = 0) -> str:
    text = ", ".join(path or "everything" for path in paths[:_SHOWN])
    more += max(0, len(paths) - _SHOWN)
    return f"{text} and {more} more" if more else text


_FAULTS_SIZE = 44 * 1024
_CHANGED_SIZE = 8 * 1024
"""Bytes of the JSON of the faults in one report, and of its changed paths."""

_LONGEST_TEXT = 1000


def _fitting(entries: Iterable[T], size: int) -> Iterator[T]:
    """Yield the first entries, as many as fit into a size."""
    for entry in entries:
        size -= len(json.dumps(jsonable(entry))) + 2
        if size < 0:
            return
        yield entry


def _cut_fault(fault: Fault) -> Fault:
    if len(fault.path) <= _LONGEST_TEXT and len(fault.message) <= _LONGEST_TEXT:
        return fault
    return replace(fault, path=_cut(fault.path), message=_cut(fault.message))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}… ({len(text):,} characters)"
