"""A live fleet in one process: instances with a store of their own choice, a judge, and an operator."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from hotconf import HotConf, Options, Section
from hotconf.fleet.control import Control
from hotconf.fleet.judge import Judge
from hotconf.fleet.plan import Stage
from hotconf.fleet.source import Fleet
from hotconf.fleet.verdict import Patience
from tests.support import PATIENCE

GOOD = b'message = "good"\n'
BETTER = b'message = "better"\n'
BAD = b"message = 5\n"
QUICK = (Stage(percent=10, bake=0.2), Stage(percent=100, bake=0.1))


class App(Section):
    message: str = "none"
    pool: int = 1


class Live:
    """Begin with `async with Live(store) as fleet`. What it starts ends with it."""

    def __init__(self, store, *, name="shop", judge=True, **judging):
        self.store, self.name = store, name
        self._wants_judge, self._judging = judge, judging
        self.confs, self.sources, self._lives = {}, {}, {}

    async def __aenter__(self):
        self._stack = contextlib.AsyncExitStack()
        self.session = await self._stack.enter_async_context(self.store.connect(self.name))
        self.control = Control(self.session, "ann")
        if self._wants_judge:
            self.judge()
        return self

    async def __aexit__(self, *error):
        await self._stack.aclose()
        for name in list(self._lives):
            await self.leave(name)

    def judge(self, **options):
        """Start a judge, and return it with its task."""
        options = {"lease": 1.0, "silent_after": 1.5, "patience": Patience(15.0, 15.0, 15.0)} | self._judging | options
        judge = Judge(self.store, self.name, **options)
        task = asyncio.create_task(judge.run())

        async def end():
            task.cancel()
            await asyncio.wait([task])

        self._stack.push_async_callback(end)
        return judge, task

    async def join(self, *names, schema=App, sources=(), prepare=None, **options):
        """Start instances, and wait until they are live."""
        for name in names:
            source = Fleet(self.store, self.name, instance=name, **{"lease": 5.0, "report_every": 0.05} | options)
            conf = HotConf(schema, sources=[source, *sources], options=Options(watch=False))
            if prepare is not None:
                prepare(conf, name)
            running = conf.running(signals=())
            await running.__aenter__()
            self.confs[name], self.sources[name], self._lives[name] = conf, source, running
        return [self.confs[name] for name in names]

    async def leave(self, name):
        await self._lives.pop(name).__aexit__(None, None, None)
        del self.confs[name]

    def messages(self):
        return {conf.current.message for conf in self.confs.values()}

    async def propose(self, data, **options):
        options.setdefault("stages", QUICK)
        return await self.control.propose(data, "toml", **options)

    async def until(self, *states, where=lambda plan: True):
        """Wait until the plan is in one of the states."""
        async with asyncio.timeout(PATIENCE):
            async for entry in self.session.follow("plan"):
                plan = await self.control.plan() if entry is not None else None
                if plan is not None and plan.state in states and where(plan):
                    return plan
        raise AssertionError(states)

    async def stable(self, *documents):
        """Make one document after another the stable release."""
        for data in documents:
            plan = await self.propose(data, rehearse=False)
            if plan.state != "idle":
                await self.control.act("abort")
                await self.control.roll_back(plan.rollout.release)

    async def wait(self, condition):
        """Wait until a condition holds. It may be a function or a coroutine function."""
        async with asyncio.timeout(PATIENCE):
            while not (found := await condition() if asyncio.iscoroutinefunction(condition) else condition()):
                await asyncio.sleep(0.02)
            return found


logging.getLogger("hotconf").addHandler(logging.NullHandler())
