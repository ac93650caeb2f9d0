"""Cohorts: which instances run a release first. A pure function of the plan and an instance's own id.

Every process, in every language, comes to the same answer without asking another: `tests/fleet/vectors.json` has
examples. A change here would deal the fleet anew in the middle of a rollout.
"""

from __future__ import annotations

import math
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from hotconf.fleet.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hotconf.fleet.plan import Stage

WHOLE_FLEET = 2**64
"""The threshold that every bucket is below."""


def bucket(salt: str, instance: str) -> int:
    """Return the place of an instance in the order of one rollout: the first 8 bytes of SHA-256(salt, NUL, instance).

    Args:
        salt: The salt of the rollout. Each rollout has its own, so that other instances go first.
        instance: The id of the instance. Both are taken as UTF-8.

    Returns:
        A number from 0 to 2^64 - 1, from bytes in network order.
    """
    text = f"{salt}\0{instance}"
    return int.from_bytes(sha256(text.encode("utf-8", "surrogateescape")).digest()[:8], "big")


def wanted(plan: Plan | Mapping[str, Any], instance: str) -> str:
    """Return the digest of the document that an instance should run.

    Args:
        plan: The plan, or its JSON as a mapping.
        instance: The id of the instance.

    Returns:
        The SHA-256 of the document in hexadecimal digits; empty where the plan has no document for the instance.
    """
    plan = plan if isinstance(plan, Plan) else Plan.model_validate(plan)
    rollout = plan.rollout
    if rollout is not None and bucket(rollout.salt, instance) < rollout.threshold:
        return rollout.digest
    return plan.stable.digest if plan.stable is not None else ""


def threshold_for(stage: Stage, salt: str, instances: Iterable[str]) -> int:
    """Return the threshold that gives a stage its share of the instances that are alive, exactly.

    The share of the buckets alone would leave the cohort of a small fleet empty: 5 % of 20 instances in a third of all
    rollouts.
    """
    if stage.percent >= 100:
        return WHOLE_FLEET
    buckets = sorted(bucket(salt, instance) for instance in set(instances))
    count = min(len(buckets), max(stage.least, math.floor(len(buckets) * stage.percent / 100)))
    return buckets[count - 1] + 1 if count else 0
