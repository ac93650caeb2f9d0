"""A bound belongs to the thing that is kept, logged and served, and not to one of those that make it."""

from __future__ import annotations

import json

import pytest

from hotconf import Settings
from hotconf.values.report import Fault, Report
from hotconf.values.times import utcnow
from tests.web.sites import site_of

ANSWER, LINE = 256 * 1024, 64 * 1024


class App(Settings):
    limits: dict[str, int] = {}
    tags: list[int] = []


MANY = {f"key{n:05}": 1 for n in range(9_990)}
PATCHES = {
    "unknown keys": MANY,
    "wrong items": {"tags": ["x"] * 9_990},
    "wrong values": {"limits": dict.fromkeys(MANY, "x")},
    "right values": {"limits": MANY},
    "one long key": {"k" * 900_000: 1},
    "one long key of a mapping": {"limits": {"k" * 900_000: "x"}},
    "one long key that is right": {"limits": {"k" * 900_000: 1}},
    "long keys": {"limits": {f"{n:03}" + "k" * 10_000: "x" for n in range(90)}},
    "long keys, three bytes a letter": {"limits": {f"{n:03}" + "€" * 3_000: "x" for n in range(40)}},
}


@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES)
async def test_no_patch_makes_a_large_report(tmp_path, patch):
    audit = tmp_path / "audit.jsonl"
    async with site_of(App, {}, overlay=tmp_path / "o.toml", audit_log=audit) as site:
        reply = await site.ask("/config", method="PATCH", json=patch, headers={"If-Match": "*"})
        assert reply.status in (200, 422)
        assert len(reply.text) <= ANSWER
        assert max(map(len, audit.read_bytes().splitlines())) <= LINE
        assert len((await site.ask("/reloads")).text) <= LINE + 10_000
        assert len((await site.ask("/status")).text) <= LINE + 10_000


async def test_a_patch_of_more_values_is_refused_before_the_work(tmp_path):
    async with site_of(App, {}, overlay=tmp_path / "o.toml") as site:
        for patch in ({f"key{n:05}": 1 for n in range(40_000)}, {"tags": ["x"] * 60_000}):
            reply = await site.ask("/config", method="PATCH", json=patch, headers={"If-Match": "*"})
            assert reply.status == 413


def report_with(**members):
    return Report(1, "rejected", ("call",), 1, utcnow(), 0.1, **members)


def test_a_report_says_how_much_it_leaves_out():
    faults, changed = tuple(Fault(f"a.{n}", "wrong") for n in range(5_000)), tuple(f"b.{n}" for n in range(5_000))
    report = report_with(faults=faults, changed=changed)
    assert report.faults == faults[: len(report.faults)]
    assert len(report.faults) + report.more_faults == 5_000
    assert len(report.changed) + report.more_changed == 5_000
    assert f"and {5_000 - 50} more" in str(report)


def test_a_small_report_is_whole():
    faults, changed = tuple(Fault(f"a.{n}", "wrong") for n in range(100)), tuple(f"b.{n}" for n in range(100))
    report = report_with(faults=faults, changed=changed)
    assert (report.faults, report.changed, report.more_faults, report.more_changed) == (faults, changed, 0, 0)


def test_a_long_text_is_cut_and_says_how_long_it_was():
    report = report_with(faults=(Fault("a" * 5_000, "b" * 6_000),), commit_errors=("c" * 7_000,))
    assert len(json.dumps([fault.text for fault in report.faults])) < 2_100
    assert "(5,000 characters)" in report.faults[0].path
    assert "(6,000 characters)" in report.faults[0].message
    assert "(7,000 characters)" in report.commit_errors[0]
