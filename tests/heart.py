"""What the tests of the pipeline share: a settings class, sources that wait or fail on command, and a recorder."""

import asyncio
from contextlib import suppress

from hotconf import HotConf, Layer, Options, Section, Settings
from hotconf.sources import Memory

QUIET = Options(watch=False)


class Database(Section):
    url: str = "db://one"
    pool_size: int = 10


class App(Settings):
    model_config = {"env_prefix": "HEART_", "env_nested_delimiter": "__"}

    message: str = "hello"
    port: int = 8080
    database: Database = Database()


class Gate:
    """A source whose reads wait while it is shut. Each returns what it held when it began."""

    kind = "gate"
    name = "gate"
    required = True

    def __init__(self, **values):
        self.values = values
        self.reads = 0
        self.entered = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()

    async def read(self):
        self.reads += 1
        held = dict(self.values)
        self.entered.set()
        await self._open.wait()
        return Layer(self.name, held)

    def shut(self):
        self._open.clear()
        self.entered.clear()

    def open(self):
        self._open.set()


class Record:
    """A list of events, in order. A Prepared made by it adds its commit or rollback."""

    def __init__(self):
        self.events = []

    def prepared(self, name, *, commit=None, rollback=None):
        self.events.append(f"prepare {name}")
        return _Prepared(self.events, name, commit, rollback)

    def subscriber(self, name, **ends):
        """A prepare function of this name."""

        def prepare(_change):
            return self.prepared(name, **ends)

        return prepare

    def __eq__(self, other):
        return self.events == other

    __hash__ = None

    def __repr__(self):
        return repr(self.events)


class _Prepared:
    def __init__(self, events, name, commit, rollback):
        self._events, self._name, self._commit, self._rollback = events, name, commit, rollback

    def commit(self):
        self._events.append(f"commit {self._name}")
        if self._commit:
            self._commit()

    def rollback(self):
        self._events.append(f"rollback {self._name}")
        return self._rollback() if self._rollback else None


def memory_conf(model=App, *, options=QUIET, **values):
    """A configuration that is fed from memory and watches nothing, and its source."""
    memory = Memory(values)
    return HotConf(model, sources=[memory], options=options), memory


async def until(condition, *, timeout=10.0):
    """Wait until a condition holds; fail loudly when it never does."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.001)


def eventually(condition, *, timeout=10.0):
    """What `until` does, where no loop runs."""
    asyncio.run(until(condition, timeout=timeout))


async def cancel(task):
    """Cancel a task and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


class Panic(BaseException):
    """The panic of an extension in Rust: neither an Exception nor a request to exit."""


def raising(error):
    """A function that raises, whatever it is given."""

    def raise_it(*_arguments, **_options):
        raise error

    return raise_it
