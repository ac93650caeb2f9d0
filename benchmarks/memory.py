"""Memory: the memory of a process must not grow with its reloads, applied or rejected.

At the begin an allocator grows in a few steps of half a megabyte, and never in the same number of them.
glibc has an arena for each thread, each with steps of its own; here it has one. A leak goes on for ever: a report or a
layer left behind by each reload makes several hundred KiB in a thousand. So the second half is judged, and all samples
are shown.
"""

from __future__ import annotations

import asyncio
import ctypes
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import Alone, resident
from benchmarks.rows import Row, Target
from benchmarks.services import Parts, replace, toml_of
from benchmarks.topics import quiet
from hotconf import HotConf, Options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hotconf.reload.build import Candidate

KEYS = 1_000
UNIT = "KiB"

_COUNTS = {"applied": 10_000, "rejected": 10_000}
_QUICK_COUNTS = {"applied": 100, "rejected": 100}

_M_ARENA_MAX = -8  # mallopt(3)

_SAMPLES = 10  # between the first resident size and the last
_FLAT = 100  # KiB for each 1,000 reloads
_ENOUGH = 5_000  # reloads: a slope over fewer is noise


def rows(*, quick: bool) -> list[Row]:
    """Return the rows of this topic. Both processes run at once: time does not matter here."""
    warm, counts = (50, _QUICK_COUNTS) if quick else (1_000, _COUNTS)
    runs = {kind: Alone(sizes, kind, count, warm) for kind, count in counts.items()}
    return [_row(kind, counts[kind], warm, run.result()) for kind, run in runs.items()]


def _row(kind: str, count: int, warm: int, measured: list[int]) -> Row:
    half = measured[len(measured) // 2 :]
    reloads = (count - warm) * (len(half) - 1) / (len(measured) - 1)
    return Row(
        work=f"{count:,} {kind} reloads of {KEYS:,} keys: RSS growth for each 1,000 in the second half",
        peer=f"RSS after the first {warm:,}",
        unit=UNIT,
        peer_value=measured[0],
        hotconf=(half[-1] - half[0]) / reloads * 1000,
        target=Target("value", _FLAT) if count >= _ENOUGH else None,
        note=f"RSS in MiB, from the first {warm:,} on: {', '.join(f'{size / 1024:.1f}' for size in measured)}",
    )


def sizes(kind: str, count: int, warm: int) -> list[int]:
    """Return the resident size after the first `warm` reloads, and ten more times until the last."""
    quiet()
    _use_one_arena()
    return asyncio.run(_sizes(kind, count, warm))


async def _sizes(kind: str, count: int, warm: int) -> list[int]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "app.toml"
        path.write_text(toml_of(KEYS, 0), encoding="utf-8")
        conf = HotConf(Parts, files=[path], options=Options(watch=False))
        conf.resource("parts")(_built)
        async with conf.running(signals=()):
            measured: list[int] = []
            for serial in range(1, count + 1):
                replace(path, _text(kind, serial))
                with conf.pin():  # the old resource closes at its end
                    report = await conf.reload()
                if report.outcome != kind:
                    raise RuntimeError(f"not the reload that was to be measured: {report}")
                if serial >= warm and (serial - warm) % ((count - warm) // _SAMPLES) == 0:
                    measured.append(resident())
            return measured


def _use_one_arena() -> None:
    with suppress(AttributeError):  # another C library than glibc
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


@contextmanager
def _built(candidate: Candidate[Parts]) -> Iterator[list[str]]:
    yield list(candidate.settings.parts)


def _text(kind: str, serial: int) -> str:
    text = toml_of(KEYS, serial)
    return text if kind == "applied" else text.replace("port = 1030", f'port = "number {serial}"')
