"""`conf.rehearse`: a dry run in which a source says what it may say next."""

from __future__ import annotations

import contextlib
import contextvars

from hotconf import HotConf, Options, Section
from hotconf.abc import Attachable
from hotconf.sources import Memory
from hotconf.values.layer import Layer


class App(Section):
    pool: int = 1


next_values = contextvars.ContextVar("next_values", default=None)


class Oracle(Memory):
    """A source that knows its future, and the configuration that reads it."""

    conf = None

    def attach(self, conf):
        self.conf = conf

    async def read(self):
        future = next_values.get()
        return await super().read() if future is None else Layer(self.name, future)


@contextlib.contextmanager
def future(values):
    token = next_values.set(values)
    try:
        yield
    finally:
        next_values.reset(token)


async def test_a_rehearsal_goes_through_everything_but_the_swap():
    source = Oracle({"pool": 1})
    conf = HotConf(App, sources=[source], options=Options(watch=False))
    asked = []

    @conf.prepare("pool")
    def prepare(change):
        asked.append(change.new.pool)

    async with conf.running(signals=()):
        report = await conf.rehearse(future({"pool": 5}))
        assert (report.outcome, report.dry_run, report.triggers) == ("applied", True, ("rehearsal",))
        assert report.changed == ("pool",)
        assert asked == [1, 5]
        assert conf.current.pool == 1
        assert (await conf.rehearse(future({"pool": "x"}))).outcome == "rejected"
        assert conf.status.consecutive_failures == 0
        assert (await conf.reload()).outcome == "unchanged"


async def test_the_guard_takes_part_in_a_rehearsal():
    source = Oracle({"pool": 1})
    conf = HotConf(App, sources=[source], options=Options(watch=False))
    async with conf.running(signals=()):
        assert (await conf.rehearse(future({}))).stage == "guard"


def test_a_source_is_told_once_of_the_configuration_that_reads_it():
    source, added = Oracle(), Oracle(name="added")
    assert isinstance(source, Attachable)
    conf = HotConf(App, sources=[source])
    assert source.conf is conf
    conf.amend([added], watch=False)
    assert added.conf is conf
