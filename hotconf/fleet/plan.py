"""The plan: the one mutable document of a fleet. It says what every instance should run, and is replaced as a whole.

A plan is small, whatever the size of the fleet: it names documents by their digest, and a cohort by a threshold. Every
change of it is one compare-and-swap in the store, so the verdict of a judge is also what instances act on.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationError

from hotconf.errors import HotconfError

VERSION: Final = 1
SIZE_LIMIT: Final = 4096
"""Bytes of an encoded plan. Every instance gets each of its versions."""

AUDIT_LINES: Final = 20
PAST_RELEASES: Final = 20

State: TypeAlias = Literal[
    "rehearsing", "approval", "spreading", "baking", "paused", "reverting", "reverted", "aborted", "done"
]
FINISHED: Final[frozenset[State]] = frozenset({"reverted", "aborted", "done"})

# JSON numbers above 2^53 are not exact in every language, so the threshold is written as text.
_Threshold: TypeAlias = Annotated[int, Field(ge=0, le=2**64), PlainSerializer(str, when_used="json")]


class PlanUnreadable(HotconfError):
    """A plan that this version of hotconf must not act on: it is damaged, or of a later version."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the plan cannot be read: {self.reason}"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ReleaseName(_Record):
    """A release as the plan names it: its number, and the digest and format of its document."""

    release: int
    digest: str
    format: str = "toml"


class Stage(_Record):
    """One stage of a rollout: the share of the fleet, at least so many instances, and seconds to bake."""

    percent: Annotated[float, Field(gt=0, le=100)]
    bake: Annotated[float, Field(ge=0)] = 0.0
    least: Annotated[int, Field(ge=1)] = 1


class AuditLine(_Record):
    """One change of the plan: its number, when, by which operator or judge, what, and why."""

    seq: int
    at: str
    by: str
    what: str
    why: str = ""


class Rollout(_Record):
    """The rollout of one release.

    An instance is in the cohort where its bucket is below `threshold`, and rehearses where it is below `rehearsal`.
    `resume` is the state that a paused rollout goes back to. `skip` is the stage whose bake an operator ended.
    """

    id: str = ""
    release: int = 0
    digest: str
    format: str = "toml"
    salt: str
    threshold: _Threshold = 0
    rehearsal: _Threshold = 0
    stage: int = 0
    stages: tuple[Stage, ...] = ()
    state: State = "spreading"
    resume: State | None = None
    since: str = ""
    by: str = ""
    reason: str = ""
    max_refused: int = 0
    guards: tuple[str, ...] = ()
    approve_by: int = 0
    approvals: tuple[str, ...] = ()
    skip: int = -1

    @property
    def name(self) -> ReleaseName:
        """The release that is rolled out."""
        return ReleaseName(release=self.release, digest=self.digest, format=self.format)

    @property
    def is_finished(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.state in FINISHED


class Plan(_Record):
    """What a fleet runs, and what is being rolled out. `seq` counts the changes, `term` the judges."""

    version: int = VERSION
    fleet_id: str = ""
    term: int = 0
    seq: int = 0
    stable: ReleaseName | None = None
    rollout: Rollout | None = None
    past: tuple[ReleaseName, ...] = ()
    last: tuple[AuditLine, ...] = ()

    @property
    def state(self) -> str:
        """The state of its rollout, `idle` where there is none."""
        return self.rollout.state if self.rollout is not None else "idle"

    def changed(self, *, at: str, by: str, what: str, why: str = "", **parts: Any) -> Plan:
        """Return the next plan: parts of it replaced, and an audit line that says so.

        Args:
            at: The time of the wall clock, for the audit.
            by: The operator or judge.
            what: What was done, one word.
            why: The reason.
            parts: Fields of the plan.
        """
        line = AuditLine(seq=self.seq + 1, at=at, by=by[:80], what=what, why=why[:240])
        return self.model_copy(update={**parts, "seq": line.seq, "last": (*self.last, line)[-AUDIT_LINES:]})

    def encode(self) -> bytes:
        """Return the plan as JSON, with as many audit lines as fit below `SIZE_LIMIT`."""
        plan = self
        while len(data := plan.model_dump_json(exclude_defaults=False).encode()) > SIZE_LIMIT and len(plan.last) > 1:
            plan = plan.model_copy(update={"last": plan.last[1:]})
        return data

    @classmethod
    def decode(cls, data: bytes) -> Plan:
        """Return the plan that JSON holds. Unknown fields are ignored.

        Raises:
            PlanUnreadable: It is no plan, or one that a later version has written.
        """
        try:
            document = json.loads(data)
            version = document.get("version", VERSION)
            state = (document.get("rollout") or {}).get("state", "done")
        except (ValueError, AttributeError):
            raise PlanUnreadable("it is no JSON object") from None
        if not isinstance(version, int) or version > VERSION:
            raise PlanUnreadable(f"it has version {version}, and this hotconf knows {VERSION}: upgrade it")
        if state not in get_args(State):
            raise PlanUnreadable(f"it has the state {state!r}, which this hotconf does not know: upgrade it")
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            places = ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors())
            raise PlanUnreadable(f"unexpected values: {places}") from None
