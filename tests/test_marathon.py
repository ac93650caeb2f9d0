"""Random steps of one process, with everything that it may do mixed: see `tests/marathon.py`."""

import random
import subprocess
import sys

import pytest


def run(seed, steps):
    command = [sys.executable, "-m", "tests.marathon", str(seed), str(steps)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_few_hundred_steps():
    run(seed=7, steps=300)


@pytest.mark.soak
def test_ten_thousand_steps():
    run(seed=random.randrange(1_000_000), steps=10_000)  # a failure names the seed
