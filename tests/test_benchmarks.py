"""The measurements run, and give rows of one shape. No test depends on the figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.rows import Row, Target, compared, in_turns, skipped

ROOT = Path(__file__).parents[1]


def test_one_command_prints_the_table_and_writes_the_results(tmp_path):
    output = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "read", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(output.read_text(encoding="utf-8"))
    row = results["rows"][0]
    assert row["work"] == "conf.current.db.pool_size"
    assert row["unit"] == "ns"
    assert row["peer_value"] > 0
    assert row["hotconf"] > 0
    assert row["ratio"] > 0
    assert row["target"] == "≤ 1.15 times"
    assert isinstance(row["met"], bool)
    assert results["quick"] is True
    assert results["machine"]["processors"] >= 1
    lines = done.stdout.splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == [
        "work",
        "limit or peer",
        "of the peer",
        "hotconf",
        "ratio",
        "target",
        "met",
    ]
    assert lines[2].startswith("| conf.current.db.pool_size")


def test_the_ratio_is_that_of_neighbours_so_that_a_slow_moment_cancels_out():
    row = compared("w", {"hotconf": [2, 20, 2], "p": [1, 10, 1]}, "p", unit="ms", target=Target("ratio", 2))
    assert (row.hotconf, row.peer_value, row.ratio, row.met) == (2, 1, 2, True)


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target("value", 5), True),
        (Target("value", 4.9), False),
        (Target("ratio", 2.5), True),
        (Target("ratio", 2.4), False),
        (Target("ratio", 2.5, at_least=True), True),
        (Target("ratio", 2.6, at_least=True), False),
        (None, None),
    ],
)
def test_a_target_bounds_the_figure_or_its_ratio(target, met):
    row = Row("w", "p", "ms", peer_value=2.0, hotconf=5.0, ratio=2.5, target=target)
    assert row.met is met
    assert row.as_dict()["met"] is met


def test_what_was_not_measured_has_met_no_target():
    row = skipped("w", "dynaconf", "not installed")
    assert row.met is None
    assert row.note == "skipped: not installed"


def test_each_contender_is_first_in_turn():
    calls = []
    work = {name: lambda name=name: calls.append(name) or 1.0 for name in "abc"}
    samples = in_turns(work, rounds=3)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert samples == {"a": [1.0] * 3, "b": [1.0] * 3, "c": [1.0] * 3}
