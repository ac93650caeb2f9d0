"""The comparison of canaries with a control group: the exact one-sided test of Mann and Whitney, and nothing else."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORK = 2e9
"""Bytes that counting the distribution may touch: a third of a second. Beyond it, the groups are so large that the
normal approximation is within a tenth of it."""


def mann_whitney(canary: Sequence[float], control: Sequence[float]) -> float:
    """Return the probability that values at least as high as the canary's come about by chance.

    The test is exact and one-sided, and takes ties into account: of all ways to draw the canaries from both groups
    together, the share whose ranks add up to as much or more. For large groups, from 20
    against 500 on, it is the normal approximation.

    Args:
        canary: One value for each canary; infinity is allowed.
        control: One value for each instance of the control group.

    Returns:
        A number from 0 to 1; 1 where a group is empty.

    Raises:
        ValueError: A value is NaN.
    """
    if any(map(math.isnan, (*canary, *control))):
        raise ValueError("NaN has no rank")
    if not canary or not control:
        return 1.0
    pooled = sorted([(value, True) for value in canary] + [(value, False) for value in control])
    ranks, observed, ties, before = list[int](), 0, 0, 0
    for _, group in groupby(pooled, key=lambda item: item[0]):
        members = [is_canary for _, is_canary in group]
        rank = 2 * before + len(members) + 1  # twice the mean of the ranks: a whole number
        ranks += [rank] * len(members)
        observed += rank * sum(members)
        ties += len(members) ** 3 - len(members)
        before += len(members)
    width = (math.comb(len(ranks), len(canary)).bit_length() + 7) // 8
    if len(ranks) * len(canary) * (len(canary) * 2 * len(ranks)) * width > _WORK:
        return _normal(observed / 2, len(canary), len(control), ties)
    return _share_at_least(observed, ranks, len(canary), width)


def _share_at_least(observed: int, ranks: list[int], size: int, width: int) -> float:
    """Return the share of all subsets of a size whose ranks add up to `observed` or more.

    `sums[k]` is a polynomial that counts the subsets of k ranks by their sum. It is one large integer with a field of
    `width` bytes for each sum, so that adding and shifting polynomials is arithmetic of the interpreter.
    """
    sums = [1] + [0] * size
    for rank in ranks:
        for count in range(size, 0, -1):
            sums[count] += sums[count - 1] << (8 * rank * width)
    counts = sums[size].to_bytes((2 * size * len(ranks) + 2) * width, "little")
    found = sum(
        int.from_bytes(counts[place : place + width], "little") for place in range(observed * width, len(counts), width)
    )
    return found / math.comb(len(ranks), size)


def _normal(rank_sum: float, canaries: int, controls: int, ties: int) -> float:
    total = canaries + controls
    mean = canaries * (total + 1) / 2
    variance = canaries * controls / 12 * ((total + 1) - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    return 0.5 * math.erfc((rank_sum - mean - 0.5) / math.sqrt(2 * variance))
