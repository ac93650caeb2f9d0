"""How a user writes it, for the type checker alone: `test_typing.py` runs mypy --strict over this. It is never run."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import assert_type

from hotconf import Change, HotConf, Report, Section, Settings, Snapshot
from hotconf.sources import File, Memory


class Database(Section):
    url: str = ""
    pool_size: int = 10


class App(Settings):
    message: str = "hello"
    database: Database = Database()


conf = HotConf(App, files=["app.toml"], sources=[File("b.toml"), Memory({"message": "x"}), "c.toml"])

assert_type(conf, HotConf[App])
assert_type(conf.current, App)
assert_type(conf.current.database.pool_size, int)
assert_type(conf.snapshot, Snapshot[App])
assert_type(conf.snapshot.settings.message, str)
assert_type(conf.load(), Report)
assert_type(conf.reload_blocking(timeout=1.5), Report)

with conf.pin() as snapshot:
    assert_type(snapshot, Snapshot[App])

with conf.running(signals=("HUP",)) as same:
    assert_type(same.current, App)


async def main() -> None:
    async with conf.running(signals=()) as running:
        assert_type(running, HotConf[App])
        assert_type(await conf.reload(force=True), Report)


@conf.on_change
def everything(change: Change[App]) -> None:
    assert_type(change.old, App | None)
    assert_type(change.new, App)


@conf.on_change("database", "message")
async def parts(change: Change[App]) -> None:
    await asyncio.sleep(0)


@conf.prepare
def refuse(change: Change[App]) -> None: ...


@conf.prepare("database")
async def reachable(change: Change[App]) -> int:
    return 1


def typed(
    plain: Callable[[Change[App]], None],
    later: Callable[[Change[App]], Awaitable[None]],
    counted: Callable[[Change[App]], Awaitable[int]],
) -> None: ...


typed(everything, parts, reachable)
typed(refuse, parts, reachable)
conf.unsubscribe(parts)


class Facade(HotConf[App]):
    """A configuration with a name of its own."""

    def message(self) -> str:
        return self.current.message


facade: AbstractContextManager[HotConf[App]] = Facade(App).running()

# What must not pass: each ignore would be reported as unused if it did.
HotConf(int)  # type: ignore[type-var]
conf.current.mesage  # type: ignore[attr-defined]  # noqa: B018
typed(parts, parts, reachable)  # type: ignore[arg-type]
conf.current.message = "new"  # type: ignore[misc]
