"""A herd of instances: real processes, forked from one that has imported everything. Run with its options as JSON.

Each process appends a line to its own file for every release that it runs, so that a test can see which ones ran what.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from pydantic import ValidationInfo, field_validator

from hotconf import HotConf, Options, Settings
from hotconf.fleet import Fleet


class App(Settings):
    model_config = {"env_prefix": "HERD_"}

    message: str = "none"
    pool: int = 1
    limit: int = 100

    @field_validator("limit")
    @classmethod
    def allows_the_pool(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("pool", 0):
            raise ValueError("allows fewer connections than the pool has")
        return value


async def live(store: str, fleet: str, name: str, folder: Path) -> None:
    source = Fleet(store, fleet, instance=name, lease=5.0)
    conf = HotConf(App, sources=[source], options=Options(watch=False))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)

    def note(change: object) -> None:
        with (folder / name).open("a") as file:
            file.write(f"{conf.current.message} {conf.current.pool}\n")

    conf.on_change(note, initial=True)
    async with conf.running(signals=()):
        await ended.wait()


def main() -> None:
    options = json.loads(sys.argv[1])
    children = []
    for number in range(options["count"]):
        name = f"web-{number:02}"
        child = os.fork()
        if not child:
            if number in options["bad"]:
                os.environ["HERD_LIMIT"] = "5"
            asyncio.run(live(options["store"], options["fleet"], name, Path(options["folder"])))
            os._exit(0)
        children.append(child)
    signal.signal(signal.SIGTERM, lambda *_: [os.kill(child, signal.SIGTERM) for child in children])
    for child in children:
        while True:
            try:
                os.waitpid(child, 0)
                break
            except InterruptedError:
                continue


if __name__ == "__main__":
    main()
