"""Waiting for a change: the processor time that a watcher takes while nothing happens."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from watchfiles import awatch

from benchmarks.processes import Alone
from benchmarks.rows import Row, Target
from benchmarks.topics import quiet
from hotconf import HotConf, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

UNIT = "ms CPU/s"
STEP_10 = "watchfiles, step=10"
DEFAULTS = "watchfiles, its defaults"
NOTHING = "an event loop that sleeps"

_REST = 5.5  # seconds after the start in which a watcher may poll faster than later


class App(Settings):
    """The settings."""

    port: int = 8080


def rows(*, quick: bool) -> list[Row]:
    """Return the rows of this topic. All are measured at once, each in a process that is idle nearly all the time."""
    seconds = 2.0 if quick else 15.0
    ours = {files: Alone(cost_of, "hotconf", files, seconds) for files in (1, 10)}
    theirs = {name: Alone(cost_of, name, 1, seconds) for name in (STEP_10, DEFAULTS, NOTHING)}
    one, ten = (ours[files].result() for files in (1, 10))
    peers = {name: future.result() for name, future in theirs.items()}
    return [
        _row("idle watching, 1 file", one, STEP_10, peers[STEP_10]),
        _row("idle watching, 10 files", ten, STEP_10, peers[STEP_10]),
        *(
            Row("idle watching, 1 file", name, UNIT, peers[name], one, one / peers[name])
            for name in (DEFAULTS, NOTHING)
        ),
    ]


def _row(work: str, cost: float, peer: str, peer_cost: float) -> Row:
    return Row(work, peer, UNIT, peer_cost, cost, cost / peer_cost, Target("value", 3))


def cost_of(watcher: str, files: int, seconds: float) -> float:
    """Return the milliseconds of processor time that waiting takes each second, in this process."""
    quiet()
    return asyncio.run(_cost(watcher, files, seconds))


async def _cost(watcher: str, files: int, seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"app{index}.toml" for index in range(files)]
        for path in paths:
            path.write_text("port = 1024\n", encoding="utf-8")
        async with _watching(watcher, paths):
            await asyncio.sleep(_REST)
            before, since = time.process_time(), time.perf_counter()
            await asyncio.sleep(seconds)
            return (time.process_time() - before) * 1000 / (time.perf_counter() - since)


def _watching(watcher: str, paths: Sequence[Path]) -> AbstractAsyncContextManager[object]:
    if watcher == "hotconf":
        return HotConf(App, files=paths).running(signals=())
    if watcher == NOTHING:
        return contextlib.nullcontext()
    return _watchfiles(paths[0].parent, step=10 if watcher == STEP_10 else 50)


@contextlib.asynccontextmanager
async def _watchfiles(folder: Path, step: int) -> AsyncIterator[None]:
    async def follow() -> None:
        async for _ in awatch(folder, step=step):
            pass

    task = asyncio.create_task(follow())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
