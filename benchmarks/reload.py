"""One reload of a large file: its duration, and for how long it blocks the event loop."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
import tomllib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import rtoml

from benchmarks.rows import Row, Target, compared, rotations
from benchmarks.services import Parts, WideParts, replace, toml_of, wide_toml_of
from hotconf import HotConf, Options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pydantic import BaseModel

LARGE = 10_000
_TABLE = 10  # keys in one more
SMALL = 1_000

TOMLLIB = "tomllib + model_validate"
RTOML = "rtoml + model_validate"
TOMLLIB_ALONE = "tomllib alone"
RTOML_ALONE = "rtoml alone"
IDLE = "an idle loop, as long"

_TICK = 0.001
_BOUND = 15.0  # ms, set on a machine where the peer took
_TOMLLIB_REFERENCE = 54.0


@dataclass(frozen=True, slots=True)
class Shape:
    """How the keys of a file are distributed over its sections, and the path that a change of one of them reports."""

    name: str
    model: type[BaseModel]
    text: Callable[[int, int], str]
    changed: str


NARROW = Shape("sections of 10", Parts, toml_of, "parts.part0.retries")
WIDE = Shape("sections of 100", WideParts, wide_toml_of, "parts.part0.retries0")


class Reloaded:
    """A file in which one value changes, or a whole table is added or removed, and that is then read again."""

    def __init__(self, path: Path, keys: int, shape: Shape = NARROW, *, whole: bool = False) -> None:
        self._keys = keys
        self._serial = 0
        self._whole = whole
        self._more = 0
        self.shape = shape
        self.path = path
        self.change()
        self.conf = HotConf(shape.model, files=[path], options=Options(watch=False))

    def change(self) -> None:
        """Write the next version of the file."""
        self._serial += 1
        serial = 0 if self._whole else self._serial
        replace(self.path, self.shape.text(self._keys + self._more, serial))

    async def reload(self, clock: Callable[[], float] = time.perf_counter) -> float:
        """Return the milliseconds from the request until the report."""
        self._more = _TABLE - self._more if self._whole else 0
        self.change()
        before = clock()
        report = await self.conf.reload()
        taken = clock() - before
        if report.changed != (f"parts.part{self._keys // 10}" if self._whole else self.shape.changed,):
            raise RuntimeError(f"not the reload that was to be measured: {report}")
        return taken * 1000

    async def parse(self, load: Callable[[str], object], clock: Callable[[], float] = time.perf_counter) -> float:
        """Return the milliseconds that a parser, and the steps after it, take for the same file."""
        self.change()
        before = clock()
        load(self.path.read_text(encoding="utf-8"))
        return (clock() - before) * 1000

    def validate(self, values: object) -> object:
        """Validate parsed values, as programs without hotconf do."""
        return self.shape.model.model_validate(values)


def rows(*, quick: bool) -> list[Row]:
    """Return the rows of this topic."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_rows(Path(folder), rounds=5 if quick else 40))


async def _rows(folder: Path, rounds: int) -> list[Row]:
    large, small = Reloaded(folder / "large.toml", LARGE), Reloaded(folder / "small.toml", SMALL)
    wide = Reloaded(folder / "wide.toml", LARGE, WIDE)
    # One after the other: every other live object makes each garbage collection longer.
    async with large.conf.running(signals=()):
        narrow_rows = [*await _duration_rows(large, rounds), await _gap_row(large, rounds)]
        async with small.conf.running(signals=()):
            narrow_rows.append(await _growth_row(large, small, rounds))
    async with wide.conf.running(signals=()):
        wide_rows = await _duration_rows(wide, rounds)
    whole = Reloaded(folder / "whole.toml", LARGE, whole=True)
    async with whole.conf.running(signals=()):
        return [*narrow_rows, *wide_rows, await _whole_row(whole, rounds)]


async def _duration_rows(reloaded: Reloaded, rounds: int) -> list[Row]:
    work = f"{LARGE:,} keys in {reloaded.shape.name}: read, merge, validate, diff"
    peers: dict[str, Callable[[str], object]] = {
        TOMLLIB: lambda text: reloaded.validate(tomllib.loads(text)),
        RTOML: lambda text: reloaded.validate(rtoml.loads(text)),
        TOMLLIB_ALONE: tomllib.loads,
        RTOML_ALONE: rtoml.loads,
    }
    parsers = {name: partial(reloaded.parse, load) for name, load in peers.items()}
    samples = await _in_turns({"hotconf": reloaded.reload, **parsers}, rounds)
    return [
        compared(work, samples, TOMLLIB, unit="ms", target=Target("value", _BOUND)),
        *(compared(work, samples, name, unit="ms") for name in (RTOML, TOMLLIB_ALONE, RTOML_ALONE)),
        await _processor_row(reloaded, peers[TOMLLIB], rounds),
    ]


async def _whole_row(reloaded: Reloaded, rounds: int) -> Row:
    work = f"{LARGE:,} keys in {reloaded.shape.name}, when a table comes or goes"
    peer = partial(reloaded.parse, lambda text: reloaded.validate(tomllib.loads(text)))
    samples = await _in_turns({"hotconf": reloaded.reload, TOMLLIB: peer}, rounds)
    return compared(work, samples, TOMLLIB, unit="ms")


async def _processor_row(reloaded: Reloaded, load: Callable[[str], object], rounds: int) -> Row:
    """Compare the ratios, which depend neither on the speed of the machine nor on its other work."""
    clock = time.process_time
    work = {"hotconf": partial(reloaded.reload, clock), TOMLLIB: partial(reloaded.parse, load, clock)}
    return compared(
        f"the same in {reloaded.shape.name}, processor time",
        await _in_turns(work, rounds),
        TOMLLIB,
        unit="ms",
        target=Target("ratio", round(_BOUND / _TOMLLIB_REFERENCE, 2)),
        note=f"{_BOUND:g} ms were set where the peer took {_TOMLLIB_REFERENCE:g} ms",
    )


async def _growth_row(large: Reloaded, small: Reloaded, rounds: int) -> Row:
    peer = f"hotconf with {SMALL:,} keys"
    samples = await _in_turns({"hotconf": large.reload, peer: small.reload}, rounds)
    return compared(
        f"{LARGE:,} keys, for 10 times the keys",
        samples,
        peer,
        unit="ms",
        target=Target("ratio", 12),
    )


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
    """Return the longest time, in milliseconds, for which a task that wakes every millisecond could not run."""
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
    """Do what `rows.in_turns` does, for coroutine functions."""
    samples: dict[str, list[float]] = {name: [] for name in work}
    for function in work.values():
        await function()
    for order, _ in zip(rotations(list(work)), range(rounds), strict=False):
        for name in order:
            samples[name].append(await work[name]())
    return samples
