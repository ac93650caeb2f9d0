"""The operator's side: what the command does to a fleet and reads of it, over a session of its store."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

import hotconf.fleet.operations as operations
from hotconf.fleet.cohort import bucket, wanted
from hotconf.fleet.documents import LIMIT, digest_of
from hotconf.fleet.judge import holder_of
from hotconf.fleet.operations import Declined
from hotconf.fleet.plan import Plan, ReleaseName
from hotconf.fleet.report import InstanceReport, members_of, refuses, standing
from hotconf.fleet.store import Conflict
from hotconf.values.times import utcnow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hotconf.fleet.plan import AuditLine, Stage
    from hotconf.fleet.store import Session

_TRIES = 20
"""Swaps that an operator tries while others change the plan."""

_SHOWN = 100
"""Instances that a status names of each kind."""


class Release(BaseModel):
    """A release as the store keeps it: it never changes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    release: int
    digest: str
    format: str
    by: str = ""
    at: str = ""
    message: str = ""
    parent: int | None = None

    @property
    def name(self) -> ReleaseName:
        """What the plan calls it."""
        return ReleaseName(release=self.release, digest=self.digest, format=self.format)


def now() -> str:
    """Return the time for the audit."""
    return utcnow().isoformat(timespec="seconds")


class Control:
    """What an operator does to one fleet. Every change is one swap of the plan, and needs no judge.

    Args:
        session: A session of the fleet's store.
        by: The operator, for the audit.
    """

    def __init__(self, session: Session, by: str) -> None:
        self.session = session
        self.by = by

    async def plan(self) -> Plan:
        """Return the plan; one without anything where the fleet has none yet.

        Raises:
            PlanUnreadable: This hotconf must not act on it.
        """
        entry = await self.session.get("plan")
        return Plan.decode(entry.value) if entry is not None else Plan()

    async def change(self, function: Callable[[Plan], Plan]) -> Plan:
        """Swap in what a function makes of the plan, as often as the plan changes meanwhile. Return the new plan.

        Raises:
            Declined: The function declines, or the plan changes all the time.
        """
        for _ in range(_TRIES):
            entry = await self.session.get("plan")
            plan = Plan.decode(entry.value) if entry is not None else Plan(fleet_id=secrets.token_hex(8))
            changed = function(plan)
            if changed is plan:
                return plan
            with contextlib.suppress(Conflict):
                await self.session.swap("plan", changed.encode(), entry.version if entry is not None else 0)
                await self._write_audit(changed.last[-1])
                return changed
        raise Declined("the plan changes all the time: try again")

    async def _write_audit(self, line: AuditLine) -> None:
        await self.session.put_once(f"audit/{line.seq}", line.model_dump_json().encode())

    async def act(self, verb: str, why: str = "", **options: Any) -> Plan:
        """Pause, resume, abort, promote or approve the rollout. Raises Declined."""
        operation: Callable[..., Plan] = getattr(operations, verb)
        return await self.change(lambda plan: operation(plan, by=self.by, at=now(), why=why, **options))

    async def propose(
        self, data: bytes, text_format: str, *, stages: Sequence[Stage], message: str = "", **options: Any
    ) -> Plan:
        """Store a document as the next release, and begin its rollout.

        Args:
            data: The document, which was checked already.
            text_format: Its format.
            stages: The stages of the rollout.
            message: What the release is for.
            options: Further arguments of `operations.propose`.

        Returns:
            The plan with the rollout, or with the release as the stable one.

        Raises:
            Declined: It is empty or too large, or a rollout is running.
        """
        if not data.strip():
            raise Declined("the document is empty")
        if len(data) > LIMIT:
            raise Declined(f"the document has {len(data)} bytes, and at most {LIMIT} are allowed")
        reports = await self.reports()
        digest = digest_of(data)
        options |= {
            "id": secrets.token_hex(8),
            "salt": secrets.token_hex(8),
            "stages": stages,
            "message": message,
            "is_empty": not reports,
            "by": self.by,
        }

        def propose(plan: Plan, number: int) -> Plan:
            name = ReleaseName(release=number, digest=digest, format=text_format)
            return operations.propose(plan, name, at=now(), **options)

        present = await self.plan()
        propose(present, 0)  # declined before anything is written
        await self.session.put_once(f"doc/{digest}", data)
        parent = present.stable.release if present.stable is not None else None
        release = await self._next_release(
            Release(release=0, digest=digest, format=text_format, by=self.by, at=now(), message=message, parent=parent)
        )
        return await self.change(lambda plan: propose(plan, release.release))

    async def _next_release(self, release: Release) -> Release:
        number = max((int(key.partition("/")[2]) for key in await self.session.names("release/")), default=0)
        while True:
            number += 1
            numbered = release.model_copy(update={"release": number})
            with contextlib.suppress(Conflict):
                await self.session.swap(f"release/{number}", numbered.model_dump_json().encode(), 0)
                return numbered

    async def roll_back(self, number: int | None, why: str = "") -> Plan:
        """Make an earlier release the stable one; None for the one before the present one. Raises Declined."""
        release = (await self.release(number)).name if number is not None else None
        return await self.change(lambda plan: operations.roll_back(plan, release, by=self.by, at=now(), why=why))

    async def release(self, number: int) -> Release:
        """Return a release. Raises Declined where there is none of that number."""
        entry = await self.session.get(f"release/{number}")
        if entry is None:
            raise Declined(f"there is no release {number}")
        return Release.model_validate_json(entry.value)

    async def document(self, digest: str) -> bytes:
        """Return a document. Raises Declined where the store does not have it."""
        entry = await self.session.get(f"doc/{digest}")
        if entry is None:
            raise Declined(f"the store has no document {digest[:12]}")
        return entry.value

    async def releases(self) -> list[Release]:
        """Return every release, the oldest first."""
        numbers = sorted(int(key.partition("/")[2]) for key in await self.session.names("release/"))
        return [await self.release(number) for number in numbers]

    async def audit(self) -> list[Mapping[str, Any]]:
        """Return every audit line, the oldest first."""
        sequence = sorted(int(key.partition("/")[2]) for key in await self.session.names("audit/"))
        entries = [await self.session.get(f"audit/{number}") for number in sequence]
        return [json.loads(entry.value) for entry in entries if entry is not None]

    async def reports(self) -> dict[str, InstanceReport]:
        """Return the report of each process that is alive."""
        async for listed in self.session.reports():
            members = members_of({key: value for key, value in listed.items() if value is not None})
            return {key: report for key, report in members.items() if not report.left}
        return {}

    async def judge(self) -> str:
        """Return the judge that holds the lead; empty where none does."""
        entry = await self.session.get("leader")
        return holder_of(entry.value) if entry is not None else ""

    async def export(self) -> dict[str, Any]:
        """Return plan, releases and documents as JSON can hold them."""
        releases = await self.releases()
        digests = {release.digest for release in releases}
        documents = {digest: base64.b64encode(await self.document(digest)).decode() for digest in sorted(digests)}
        return {
            "version": 1,
            "plan": json.loads((await self.plan()).encode()),
            "releases": [release.model_dump() for release in releases],
            "audit": await self.audit(),
            "documents": documents,
        }

    async def import_(self, content: Any) -> Plan:
        """Write an export into a store that has no such fleet. A document is checked against its digest.

        Raises:
            Declined: It is no export, or the fleet is there already.
        """
        try:
            plan = Plan.decode(json.dumps(content["plan"]).encode())
            releases = [Release.model_validate(release) for release in content["releases"]]
            documents = {digest: base64.b64decode(text) for digest, text in content["documents"].items()}
            audit = {int(line["seq"]): json.dumps(line).encode() for line in content["audit"]}
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise Declined(f"this is no export of a fleet: {type(error).__name__}") from None
        if any(digest_of(data) != digest for digest, data in documents.items()):
            raise Declined("the export is damaged: a document is not the one that its digest names")
        if await self.session.get("plan") is not None:
            raise Declined("the store has a fleet of this name already")
        for digest, data in documents.items():
            await self.session.put_once(f"doc/{digest}", data)
        for release in releases:
            await self.session.put_once(f"release/{release.release}", release.model_dump_json().encode())
        for number, line in audit.items():
            await self.session.put_once(f"audit/{number}", line)
        try:
            await self.session.swap("plan", plan.encode(), 0)
        except Conflict:
            raise Declined("the store has a fleet of this name already") from None
        return plan

    async def status(self) -> dict[str, Any]:
        """Return how the fleet stands, as `hotconf fleet status` shows it."""
        entry = await self.session.get("silence")
        silence = json.loads(entry.value) if entry is not None else {"silent": [], "silent_count": 0}
        return status_of(await self.plan(), await self.reports(), silence) | {"judge": await self.judge()}


def status_of(
    plan: Plan, reports: Mapping[str, InstanceReport], silence: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return how a fleet stands: the plan, and the instances by how they stand towards it."""
    rollout = plan.rollout
    kinds: dict[str, list[str]] = {"applied": [], "refused": [], "waiting": [], "drift": [], "rehearsed": []}
    faults: dict[str, list[str]] = {}
    cohort = 0
    for report in sorted(reports.values(), key=lambda report: report.id):
        stands = standing(report, plan)
        refused = stands == "refused" or (rollout is not None and not rollout.is_finished and refuses(report, plan))
        kinds["refused" if refused else stands].append(report.id)
        if refused and len(faults) < _SHOWN:
            faults[report.id] = list(report.rehearsal or report.faults)
        if report.patched and stands != "drift":
            kinds["drift"].append(report.id)
        if rollout is not None:
            cohort += bucket(rollout.salt, report.id) < rollout.threshold
            kinds["rehearsed"] += [report.id] if report.rehearsed == rollout.id else []
    kinds["silent"] = list(silence["silent"]) if silence is not None else []
    counts = {f"{kind}_count": len(ids) for kind, ids in kinds.items()}
    counts["silent_count"] = silence["silent_count"] if silence is not None else 0
    return {
        "state": plan.state,
        "stage": rollout.stage if rollout is not None else None,
        "stages": [stage.model_dump() for stage in rollout.stages] if rollout is not None else [],
        "stable": plan.stable.digest if plan.stable is not None else None,
        "stable_release": plan.stable.release if plan.stable is not None else None,
        "target": rollout.digest if rollout is not None else None,
        "target_release": rollout.release if rollout is not None else None,
        "reason": rollout.reason if rollout is not None else "",
        "since": rollout.since if rollout is not None else "",
        "instances": len(reports),
        "cohort": cohort,
        "term": plan.term,
        "seq": plan.seq,
        "faults": faults,
        "measures": _measures(plan, reports),
        **{kind: ids[:_SHOWN] for kind, ids in kinds.items()},
        **counts,
    }


def _measures(plan: Plan, reports: Mapping[str, InstanceReport]) -> dict[str, Any]:
    """Return for each measure what cohort and control group report of it, instance by instance."""
    rollout = plan.rollout
    found: dict[str, Any] = {}
    for report in reports.values():
        inside = rollout is not None and bucket(rollout.salt, report.id) < rollout.threshold
        for name, sampled in report.measures.items():
            groups = found.setdefault(name, {"better": sampled.better, "cohort": [], "control": []})
            group = groups["cohort" if inside else "control"]
            if len(group) < _SHOWN:
                group.append({"id": report.id, "before": sampled.before, "after": sampled.after})
    return found


def instance_row(report: InstanceReport, plan: Plan) -> dict[str, Any]:
    """Return one process of the fleet as `hotconf fleet instances` shows it."""
    rollout = plan.rollout
    refused = rollout is not None and not rollout.is_finished and refuses(report, plan)
    return report.model_dump(mode="json", exclude={"measures", "left"}) | {
        "state": "refused" if refused else standing(report, plan),
        "should_run": wanted(plan, report.id),
    }
