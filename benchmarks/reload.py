"""One reload of a large file: how long it takes as a whole, and how long it holds the event loop up."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import tempfile
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import rtoml

from benchmarks.rows import Row, Target, compared, rotations
from benchmarks.services import Parts, replace, toml_of
from hotconf import HotConf, Options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LARGE = 10_000
SMALL = 1_000

TOMLLIB = "tomllib + model_validate"
RTOML = "rtoml + model_validate"
TOMLLIB_ALONE = "tomllib alone"
RTOML_ALONE = "rtoml alone"
IDLE = "an idle loop, as long"

_TICK = 0.001
_TOMLLIB_REFERENCE = 54.0


class Reloaded:
    """A file that is changed by one value, then read anew."""

    def __init__(self, path: Path, keys: int) -> None:
        self._keys = keys
        self._serial = 0
        self.path = path
        self.change()
        self.conf = HotConf(Parts, files=[path], options=Options(watch=False))

    def change(self) -> None:
        """Write the next version of the file."""
        self._serial += 1
        replace(self.path, toml_of(self._keys, self._serial))

    async def reload(self) -> float:
        """Return the milliseconds from asking until the report."""
        self.change()
        before = time.perf_counter()
        report = await self.conf.reload()
        taken = time.perf_counter() - before
        if report.changed != ("parts.part0.retries",):
            raise RuntimeError(f"not the reload that was to be measured: {report}")
        return taken * 1000

    def parse(self, load: Callable[[str], object]) -> Callable[[], Awaitable[float]]:
        """Return what measures the same file with a parser, and whatever follows it."""

        async def parse() -> float:
            self.change()
            before = time.perf_counter()
            load(self.path.read_text(encoding="utf-8"))
            return (time.perf_counter() - before) * 1000

        return parse


def rows(*, quick: bool) -> list[Row]:
    """Return the rows of this topic."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_rows(Path(folder), rounds=5 if quick else 40))


async def _rows(folder: Path, rounds: int) -> list[Row]:
    large, small = Reloaded(folder / "large.toml", LARGE), Reloaded(folder / "small.toml", SMALL)
    async with large.conf.running(signals=()), small.conf.running(signals=()):
        return [
            *await _duration_rows(large, rounds),
            await _growth_row(large, small, rounds),
            await _gap_row(large, rounds),
        ]


async def _duration_rows(large: Reloaded, rounds: int) -> list[Row]:
    work = f"{LARGE:,} keys: read, merge, validate, diff"
    peers = {
        TOMLLIB: lambda text: Parts.model_validate(tomllib.loads(text)),
        RTOML: lambda text: Parts.model_validate(rtoml.loads(text)),
        TOMLLIB_ALONE: tomllib.loads,
        RTOML_ALONE: rtoml.loads,
    }
    measured = {"hotconf": large.reload, **{name: large.parse(load) for name, load in peers.items()}}
    samples = await _in_turns(measured, rounds)
    first = compared(work, samples, TOMLLIB, unit="ms", target=Target("value", 15))
    return [
        _with_reference(first),
        *(compared(work, samples, name, unit="ms") for name in (RTOML, TOMLLIB_ALONE, RTOML_ALONE)),
    ]


def _with_reference(row: Row) -> Row:
    """Say what the ratio comes to on the machine that the target is from: a busy or slow one misses any in ms."""
    there = (row.ratio or 0) * _TOMLLIB_REFERENCE
    note = f"where the target was set, the peer took {_TOMLLIB_REFERENCE:g} ms: this ratio makes {there:.0f} ms of it"
    return dataclasses.replace(row, note=note)


async def _growth_row(large: Reloaded, small: Reloaded, rounds: int) -> Row:
    peer = f"hotconf with {SMALL:,} keys"
    samples = await _in_turns({"hotconf": large.reload, peer: small.reload}, rounds)
    return compared(f"{LARGE:,} keys, for 10 times the keys", samples, peer, unit="ms", target=Target("ratio", 12))


async def _gap_row(large: Reloaded, rounds: int) -> Row:
    async def during() -> float:
        return await _largest_gap(large.reload())

    async def idle() -> float:
        return await _largest_gap(asyncio.sleep(0.02))

    samples = await _in_turns({"hotconf": during, IDLE: idle}, rounds)
    worst = max(samples["hotconf"])
    return compared(
        "largest gap of the event loop in that reload",
        samples,
        IDLE,
        unit="ms",
        target=Target("value", 12),
        note=f"medians of {rounds}; the largest of all {worst:.1f} ms, idle {max(samples[IDLE]):.1f} ms",
    )


async def _largest_gap(work: Awaitable[object]) -> float:
    """Return the longest time, in milliseconds, for which a task that wakes every millisecond did not come to run."""
    wake_ups = [time.perf_counter()]

    async def tick() -> None:
        while True:
            await asyncio.sleep(_TICK)
            wake_ups.append(time.perf_counter())

    ticking = asyncio.create_task(tick())
    await work
    await asyncio.sleep(2 * _TICK)
    ticking.cancel()
    return max(b - a for a, b in itertools.pairwise(wake_ups)) * 1000


async def _in_turns(work: dict[str, Callable[[], Awaitable[float]]], rounds: int) -> dict[str, list[float]]:
    """Do as `rows.in_turns` does, for what awaits."""
    samples: dict[str, list[float]] = {name: [] for name in work}
    for function in work.values():
        await function()
    for order, _ in zip(rotations(list(work)), range(rounds), strict=False):
        for name in order:
            samples[name].append(await work[name]())
    return samples
