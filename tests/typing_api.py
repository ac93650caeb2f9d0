"""Programs of a user, for the type checker alone: `test_typing.py` runs mypy --strict over this. It is never run."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import assert_type

from hotconf import Change, HotConf, Prepared, Report, Section, Settings, Snapshot
from hotconf.abc import Candidate, Resource
from hotconf.reload.history import Generation
from hotconf.sources import Dir, File, Memory


class Database(Section):
    url: str = ""
    pool_size: int = 10


class App(Settings):
    message: str = "hello"
    database: Database = Database()


conf = HotConf(
    App,
    files=["app.toml", File("local.toml", required=False)],
    sources=[File("b.toml"), Memory({"message": "x"}), "c.toml", Dir("conf.d")],
)

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


class Pool:
    """Something that is built from settings."""

    size = 1


@conf.resource("database")
@asynccontextmanager
async def pool(candidate: Candidate[App]) -> AsyncIterator[Pool]:
    assert_type(candidate.settings, App)
    assert_type(candidate.settings.database.pool_size, int)
    yield Pool()


@conf.resource("database", "message")
@contextmanager
def sizes(candidate: Candidate[App]) -> Iterator[list[int]]:
    assert_type(candidate[pool], Pool)
    yield [candidate[pool].size]


assert_type(pool, Resource[Pool])
assert_type(conf.snapshot[pool], Pool)
with conf.pin("a job") as held:
    assert_type(held[pool].size, int)
    assert_type(held[sizes], list[int])
conf.unsubscribe(pool)


async def changes() -> None:
    assert_type(await conf.rollback(), Report)
    assert_type(await conf.rollback(3, trigger="a button"), Report)
    patched = await conf.patch(
        {"database": {"pool_size": 3}}, confirm=60, expect=lambda snap: snap.settings.message == ""
    )
    assert_type(patched, Report)
    assert_type(await conf.confirm(), Report)
    assert_type(conf.unconfirmed, float | None)
    assert_type(await conf.reload(dry_run=True), Report)


assert_type(conf.history, tuple[Generation[App], ...])
assert_type(conf.history[-1].settings.database.pool_size, int)
assert_type(conf.history[-1].changed, tuple[str, ...])


def overridden() -> None:
    with conf.override(database={"pool_size": 1}, message="test"):
        assert_type(conf.current.message, str)


@conf.override(message="test")
def decorated(number: int) -> str:
    return conf.current.message * number


@conf.override(message="test")
async def decorated_later(number: int) -> str:
    return conf.current.message * number


assert_type(decorated(2), str)
together: Callable[[int], Awaitable[str]] = decorated_later


class Watchdog:
    """A subscriber as an object."""

    name = "watchdog"

    async def prepare(self, change: Change[App]) -> Prepared | None:
        assert_type(change.new, App)
        return None


assert_type(conf.prepare(Watchdog()), Watchdog)


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
conf.snapshot[pool].colour  # type: ignore[attr-defined]  # noqa: B018
conf.snapshot["pool"]  # type: ignore[index]
conf.resource("database")(overridden)  # type: ignore[arg-type]
decorated("2")  # type: ignore[arg-type]
conf.history[-1].settings.mesage  # type: ignore[attr-defined]  # noqa: B018
asyncio.run(conf.rollback("3"))  # type: ignore[arg-type]
