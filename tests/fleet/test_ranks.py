"""The exact test of Mann and Whitney, against a count of every way to draw the canaries."""

import itertools
import math
import random
import statistics

import pytest

from hotconf.fleet import mann_whitney


def counted(canary, control):
    pooled = sorted(canary + control)
    ranks = [statistics.mean(n + 1 for n, other in enumerate(pooled) if other == value) for value in canary + control]
    drawn = [sum(draw) for draw in itertools.combinations(ranks, len(canary))]
    return sum(total >= sum(ranks[: len(canary)]) - 1e-9 for total in drawn) / len(drawn)


@pytest.mark.parametrize("seed", range(40))
def test_it_counts_every_draw_ties_included(seed):
    dice = random.Random(seed)
    canary = [dice.randint(0, 4) for _ in range(dice.randint(1, 4))]
    control = [dice.randint(0, 4) for _ in range(dice.randint(1, 7))]
    assert math.isclose(mann_whitney(canary, control), counted(canary, control))


def test_the_least_sizes_that_can_tell_anything():
    assert mann_whitney([2], [1] * 99) == 0.01
    assert mann_whitney([2], [1] * 98) > 0.01
    assert mann_whitney([2] * 2, [1] * 13) <= 0.01 < mann_whitney([2] * 2, [1] * 12)
    assert mann_whitney([2] * 3, [1] * 7) <= 0.01 < mann_whitney([2] * 3, [1] * 6)


def test_published_values():
    # Tables of the exact distribution: U = 25 of 5 against 5, and U = 23.
    assert math.isclose(mann_whitney([6, 7, 8, 9, 10], [1, 2, 3, 4, 5]), 1 / 252)
    assert math.isclose(mann_whitney([5, 6, 8, 9, 10], [1, 2, 3, 4, 7]), 4 / 252)


def test_equal_groups_and_empty_ones_say_nothing():
    assert mann_whitney([1, 1], [1, 1, 1]) == 1.0
    assert mann_whitney([], [1]) == mann_whitney([1], []) == 1.0
    assert mann_whitney([1] * 300, [1] * 700) == 1.0


def test_infinity_ranks_highest_and_nan_not_at_all():
    assert mann_whitney([math.inf, math.inf], [1.0] * 13) <= 0.01
    with pytest.raises(ValueError, match="NaN"):
        mann_whitney([math.nan], [1.0])


def test_large_groups_agree_with_the_exact_count_on_both_sides_of_the_limit(monkeypatch):
    dice = random.Random(1)
    canary = [dice.gauss(0.3, 1) for _ in range(40)]
    control = [dice.gauss(0, 1) for _ in range(60)]
    exact = mann_whitney(canary, control)
    monkeypatch.setattr("hotconf.fleet.ranks._WORK", 0)
    assert math.isclose(mann_whitney(canary, control), exact, rel_tol=0.1)
