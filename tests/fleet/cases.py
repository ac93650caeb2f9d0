"""What the tests of the pure part share: plans, reports, and a fleet that answers as it is told."""

from __future__ import annotations

from hotconf.fleet.cohort import bucket
from hotconf.fleet.operations import propose
from hotconf.fleet.plan import Plan, ReleaseName, Stage
from hotconf.fleet.report import InstanceReport
from hotconf.fleet.verdict import Evidence, step

OLD = ReleaseName(release=1, digest="old")
NEW = ReleaseName(release=2, digest="new")
STAGES = (Stage(percent=10, bake=10), Stage(percent=50, bake=10), Stage(percent=100, bake=10))
SALT = "s"
WHEN = {"by": "ann", "at": "2026-01-01T00:00:00+00:00"}


def proposed(*, stages=STAGES, stable=OLD, **options):
    """A plan whose rollout has just been proposed, without a rehearsal unless asked for."""
    options.setdefault("rehearse", False)
    return propose(Plan(stable=stable, term=1), NEW, id="r1", salt=SALT, stages=stages, **WHEN, **options)


class Fleet:
    """Instances by the order of their buckets, so that `0` is the first one of every cohort."""

    def __init__(self, count=20):
        self.ids = sorted((f"web-{n}" for n in range(count)), key=lambda i: bucket(SALT, i))
        self.reports = {i: InstanceReport(id=i, boot="b", applied="old", wanted="old") for i in self.ids}
        self.silent = {}
        self.now = 0.0

    def tell(self, index, **fields):
        """Let an instance report something else."""
        name = self.ids[index]
        self.reports[name] = self.reports[name].model_copy(update=fields)

    def apply(self, count, digest="new"):
        for index in range(count):
            self.tell(index, applied=digest)

    def rehearse(self, count, rollout="r1"):
        for index in range(count):
            self.tell(index, rehearsed=rollout)

    def refuse(self, index, fault="env SHOP_URL: url: must be set"):
        self.tell(index, failed="new", failed_in="r1", faults=(fault,))

    def fall_silent(self, *indices):
        for index in indices:
            self.silent[self.ids[index]] = self.reports.pop(self.ids[index])

    def judge(self, plan, waited=0.0, **evidence):
        """The plan after one look of a judge; the same one where nothing changes."""
        seen = Evidence(self.reports, self.silent, now=waited, entered=0.0, at="now", judge="judge", **evidence)
        return step(plan, seen) or plan
