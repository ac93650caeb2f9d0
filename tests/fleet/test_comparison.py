"""False alarms and findings of a comparison: simulated rollouts, beside the naive ways to compare."""

from __future__ import annotations

import math
import random
import statistics
import sys

import pytest

from hotconf.fleet import mann_whitney
from hotconf.fleet.guards import Guard
from hotconf.fleet.verdict import compare

CANARIES, INSTANCES, POINTS, AUTOCORRELATION = 5, 100, 20, 0.8
GUARD = Guard("errors", "errors", 0.02)
ROLLOUTS = 1000
NOISE = 0.06


def series(dice, level, noise):
    """The points of one instance in time: each resembles the one before."""
    value, points = dice.gauss(0, 1), []
    for _ in range(POINTS):
        value = AUTOCORRELATION * value + math.sqrt(1 - AUTOCORRELATION**2) * dice.gauss(0, 1)
        points.append(level * math.exp(noise * value))
    return points


def rollout(dice, effect):
    """What each of the instances, which differ, measured before and after a release that has an effect on some."""
    measured = []
    for number in range(INSTANCES):
        level = math.exp(dice.gauss(0, 0.5))
        factor = effect if number < CANARIES else 1.0
        measured.append((series(dice, level, NOISE), series(dice, level * factor, NOISE)))
    return measured


def by_instance(measured):
    """As hotconf does: one ratio of after to before for each instance."""
    ratios = [statistics.fmean(after) / statistics.fmean(before) for before, after in measured]
    return compare(ratios[:CANARIES], ratios[CANARIES:], GUARD)[0] == "fail"


def by_level(measured):
    levels = [statistics.fmean(after) for _, after in measured]
    return mann_whitney(levels[:CANARIES], levels[CANARIES:]) <= 0.01


def by_point(measured):
    """As comparisons of time series do: the points of all canaries against those of as many others."""
    canary = [point for _, after in measured[:1] for point in after]
    control = [point for _, after in measured[50:51] for point in after]
    return mann_whitney(canary, control) <= 0.01


def shares(effect, seed):
    dice = random.Random(seed)
    rollouts = [rollout(dice, effect) for _ in range(ROLLOUTS)]
    return {judge.__name__: sum(map(judge, rollouts)) / ROLLOUTS for judge in (by_instance, by_level, by_point)}


@pytest.mark.soak
def test_false_alarms_are_rare_and_ten_per_cent_are_found():
    false, found = shares(1.0, 1), shares(1.1, 2)
    for name in false:
        sys.stdout.write(f"{name}: false alarms {false[name]:.1%}, +10 % found {found[name]:.1%}\n")
    assert false["by_instance"] <= 0.02
    assert found["by_instance"] >= 0.75
    assert false["by_point"] > 0.1, "the naive comparison that this one replaces"
    assert found["by_level"] < 0.25
