"""Reports: what an instance says of itself, and how it stands towards a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from hotconf.fleet.cohort import wanted

if TYPE_CHECKING:
    from hotconf.fleet.plan import Plan

MOST_FAULTS: Final = 10


class Sampled(BaseModel):
    """One measure of one instance: its mean before the rollout, and since the present stage began.

    `before` and `after` are None while nothing was measured.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    better: Literal["lower", "higher"] = "lower"
    before: float | None = None
    after: float | None = None


class InstanceReport(BaseModel):
    """What one process of an instance says of itself.

    Attributes:
        id: The instance; several processes may be one instance.
        boot: The process, anew at each start.
        applied: The digest in force; empty where it is none of the fleet's.
        wanted: The digest that it took from the plan.
        failed: The digest that it refused last, and `failed_in` the rollout that this was for.
        faults: The masked text of its refusal, at most ten lines.
        rehearsed: The rollout that it rehearsed last; `rehearsal` are the faults, none where it would apply it.
        held: It runs an earlier generation because of a rollback of its own.
        patched: It has an overlay or an override of its own.
        plan_seq: The plan that it has seen.
        fleet: The fleet that it belongs to; another one's plan is not followed.
        left: It ends on purpose.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    boot: str = ""
    fleet: str = ""
    labels: dict[str, str] = {}
    applied: str = ""
    wanted: str = ""
    failed: str = ""
    failed_in: str = ""
    faults: tuple[str, ...] = ()
    rehearsed: str = ""
    rehearsal: tuple[str, ...] = ()
    pending_restart: tuple[str, ...] = ()
    held: bool = False
    patched: bool = False
    generation: int = 0
    plan_seq: int = 0
    duration: float = 0.0
    degraded: tuple[str, ...] = ()
    schema_digest: str = ""
    version: str = ""
    measures: dict[str, Sampled] = {}
    left: bool = False

    @property
    def key(self) -> str:
        """The name of its report in the store: one for each process."""
        return f"{self.id}~{self.boot}"

    @classmethod
    def decode(cls, data: bytes) -> InstanceReport | None:
        """Return the report that JSON holds, None for one that cannot be read: it then counts as silent."""
        try:
            return cls.model_validate_json(data)
        except ValidationError:
            return None


Standing: TypeAlias = Literal["applied", "refused", "waiting", "drift"]


def standing(report: InstanceReport, plan: Plan) -> Standing:
    """Return how an instance stands towards what the plan wants of it.

    `drift` is an instance that a rollback of its own holds back: it neither refuses nor follows.
    """
    digest = wanted(plan, report.id)
    if report.held:
        return "drift"
    if report.applied == digest:
        return "applied"
    rollout = plan.rollout
    is_in_rollout = rollout is not None and digest == rollout.digest
    if digest and report.failed == digest and (not is_in_rollout or refuses(report, plan)):
        return "refused"
    return "waiting"


def refuses(report: InstanceReport, plan: Plan) -> bool:
    """Whether an instance has refused the release of the present rollout, in this rollout and not in an earlier one."""
    rollout = plan.rollout
    if rollout is None:
        return False
    tried = report.failed == rollout.digest and report.failed_in == rollout.id
    return tried or (report.rehearsed == rollout.id and bool(report.rehearsal))


def first_fault(report: InstanceReport, plan: Plan) -> str:
    """Return the first fault of a refusal in the present rollout."""
    rollout = plan.rollout
    rehearsed = rollout is not None and report.rehearsed == rollout.id and report.rehearsal
    return next(iter(report.rehearsal if rehearsed else report.faults), "without a reason")


def members_of(reports: dict[str, Any]) -> dict[str, InstanceReport]:
    """Return the reports that can be read, by their key."""
    decoded = {key: InstanceReport.decode(value) for key, value in reports.items()}
    return {key: report for key, report in decoded.items() if report is not None}
