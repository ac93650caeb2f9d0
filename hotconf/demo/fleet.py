"""The fleet of `hotconf fleet demo`: instances, a judge and three releases, in one process, on one SQLite file."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hotconf.conf import HotConf
from hotconf.fleet.control import Control
from hotconf.fleet.judge import Judge
from hotconf.fleet.plan import Stage
from hotconf.fleet.source import Fleet
from hotconf.schema.settings import Options, Settings
from hotconf.sources.memory import Memory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any

    from hotconf.abc import Candidate
    from hotconf.fleet.plan import Plan
    from hotconf.fleet.store import Store

FLEET = "demo"

STAGES = (Stage(percent=10, bake=3), Stage(percent=50, bake=2), Stage(percent=100, bake=1))

_STABLE = 'greeting = "hello"\npool_size = 10\ntimeout_ms = 200\n'
_RELEASES = (
    (
        "a larger pool: valid, but three databases allow 50 connections",
        ("pool_size = 10", "pool_size = 80"),
        "reverted",
    ),
    (
        "a shorter timeout: valid, applied, and every tenth request fails",
        ("timeout_ms = 200", "timeout_ms = 5"),
        "reverted",
    ),
    ("another greeting: nothing is wrong with it", ('"hello"', '"good morning"'), "done"),
)
"""What each release is for, what it changes in the stable one, and how it has to end."""


class Shop(Settings):
    """The settings of the demo's instances. What the database allows is a setting of each machine."""

    greeting: str
    connections_allowed: int = 100
    pool_size: Annotated[int, Field(ge=1, le=100)]
    timeout_ms: Annotated[int, Field(ge=1)]


@contextlib.contextmanager
def pool(candidate: Candidate[Shop]) -> Iterator[list[object]]:
    """Open a pool of connections. The database may allow fewer."""
    allowed, wanted = candidate.settings.connections_allowed, candidate.settings.pool_size
    if wanted > allowed:
        raise ConnectionError(f"the database allows {allowed} connections, and not {wanted}")
    yield []


@contextlib.asynccontextmanager
async def _instances(store: Store, count: int) -> AsyncIterator[None]:
    """Run so many instances. Three of them have a database that allows fewer connections."""
    async with contextlib.AsyncExitStack() as stack:
        for number in range(count):
            conf = _instance(store, f"web-{number:02}", most=50 if number % 7 == 3 else 100)
            await stack.enter_async_context(conf.running(signals=()))
        yield


def _instance(store: Store, name: str, *, most: int) -> HotConf[Shop]:
    zone = {"zone": "ab"[int(name[-1]) % 2]}
    source = Fleet(store, FLEET, instance=name, labels=zone, lease=5.0, report_every=0.25)
    machine = Memory({"connections_allowed": most}, name="machine")
    conf = HotConf(Shop, sources=[machine, source], options=Options(watch=False))
    conf.resource("pool_size")(pool)
    usual = random.uniform(0.005, 0.03)  # noqa: S311 - instances differ

    @source.measure("errors", better="lower")
    def share_of_errors() -> float:
        worse = 0.1 if conf.current.timeout_ms < 50 else 0.0
        return usual * random.uniform(0.9, 1.1) + worse  # noqa: S311

    return conf


async def play(store: Store, count: int, tell: Callable[[str], None]) -> bool:
    """Propose one release after another, tell what becomes of them, and return whether each ended as it must."""
    is_right = True
    async with store.connect(FLEET) as session:
        control = Control(session, "demo")
        while len(await control.reports()) < count:  # noqa: ASYNC110 - the store tells, and no event
            await asyncio.sleep(0.1)
        await asyncio.sleep(2.0)  # what is usual is measured first
        for number, (message, (old, new), expected) in enumerate(_RELEASES, 1):
            tell(f"{number}. {message}")
            document = _STABLE.replace(old, new).encode()
            await control.propose(document, "toml", stages=STAGES, message=message, guards=("errors:50%",))
            plan = await _follow(control, tell)
            ended = plan.state == expected
            is_right = is_right and ended
            tell(f"   {plan.state}{'' if ended else f', and not {expected}'}: {_running(await control.status())}")
            tell("")
    return is_right


async def _follow(control: Control, tell: Callable[[str], None]) -> Plan:
    shown = ""
    async for _ in control.session.follow("plan"):
        plan = await control.plan()
        rollout = plan.rollout
        if rollout is None:
            continue
        stage = rollout.stages[rollout.stage]
        share = f" {stage.percent:g}%" if rollout.state in ("spreading", "baking") else ""
        text = f"   {rollout.state}{share}{f': {rollout.reason}' if rollout.state in ('reverting', 'paused') else ''}"
        if rollout.state == "reverted" and "reverting" not in shown:
            tell(f"   rehearsal: {rollout.reason}")
        if text != shown and not rollout.is_finished and rollout.state != "approval":
            tell(text)
            shown = text
        if rollout.is_finished or rollout.state == "paused":
            return plan
    raise AssertionError("the store ended")


def _running(status: dict[str, Any]) -> str:
    return f"{status['applied_count']} of {status['instances']} run release {status['stable_release']}"


@contextlib.asynccontextmanager
async def running(store: Store, count: int) -> AsyncIterator[Judge]:
    """Run a judge, and so many instances with a first release."""
    async with store.connect(FLEET) as session:
        await Control(session, "demo").propose(_STABLE.encode(), "toml", stages=STAGES, message="the first one")
    judge = Judge(store, FLEET, judge="judge", lease=5.0, silent_after=7.5)
    task = asyncio.create_task(judge.run())
    try:
        async with _instances(store, count):
            yield judge
    finally:
        task.cancel()
        await asyncio.wait([task])
