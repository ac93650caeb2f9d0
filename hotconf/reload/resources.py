"""Resources: objects built from settings, which belong to a snapshot and close when it has no leases left.

A resource is opened before the swap and closed after the last lease, both in a task of its own: what a context manager
opens in one task, such as a cancel scope, it must close in the same one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from hotconf.errors import NotBuilt
from hotconf.reload.subscribers import system_exit_as_error, timed
from hotconf.schema.redact import traceback_without_message

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hotconf.abc import Resource
    from hotconf.reload.holder import Holder
    from hotconf.values.keypath import KeyPath

R = TypeVar("R")

log = logging.getLogger("hotconf")

_CANCEL_TIMEOUT = 1.0
"""Seconds that a cancelled resource has to end. One that swallows the cancellation is left behind."""


class BuildContext:
    """What a factory gets as its candidate: the settings to build from, and the resources that are built already."""

    __slots__ = ("_built", "needs", "settings")

    def __init__(self, settings: Any, built: Mapping[Resource[Any], Any]) -> None:
        self.settings = settings
        self.needs: set[Resource[Any]] = set()
        self._built = built

    def __getitem__(self, resource: Resource[R]) -> R:
        """Return the object of an earlier resource, and remember that it is needed. Raises NotBuilt."""
        if resource not in self._built:
            raise NotBuilt(resource.name)
        self.needs.add(resource)
        value: R = self._built[resource]
        return value


class Instance:
    """One object of a resource: opened and closed in one task. Prepared, as the reload sees it."""

    __slots__ = ("_leave", "_opened", "_task", "generation", "needs", "resource", "users", "value")

    def __init__(self, resource: Resource[Any]) -> None:
        self.resource = resource
        self.value: Any = None
        self.needs: Mapping[Resource[Any], Instance] = {}
        self.generation = 0
        self._leave = asyncio.Event()
        self._opened = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self.users: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """What reports and logs call it."""
        return f"resource {self.resource.name}"

    @property
    def dead(self) -> bool:
        """Whether it has ended although nothing closed it."""
        return self._task is not None and self._task.done() and not self._leave.is_set()

    async def open(self, candidate: BuildContext, built: Mapping[Resource[Any], Instance]) -> None:
        """Open it. Raises what its context manager raises; cancelled, it leaves nothing open.

        `built` are those that the candidate has: the ones that it asks for stay open until this one has closed.
        """
        self._task = asyncio.create_task(self._live(candidate), name=f"hotconf-{self.name}")
        try:
            await asyncio.wait({self._task, self._opened}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.add_done_callback(self._ended)
            await self._abandon(self._task)
            raise
        if not self._opened.done():
            await self._task
            raise RuntimeError("its context manager swallowed an error")
        self.needs = {need: built[need] for need in candidate.needs}
        for needed in self.needs.values():
            needed.users.add(self._task)
            self._task.add_done_callback(needed.users.discard)
        self._task.add_done_callback(self._ended)

    async def _live(self, candidate: BuildContext) -> None:
        with system_exit_as_error():
            with timed(self.name):
                context = self.resource.factory(candidate)
            if isinstance(context, AbstractAsyncContextManager):
                async with context as self.value:
                    await self._stay()
            elif isinstance(context, AbstractContextManager):
                await self._live_sync(context)
            else:
                raise TypeError(f"{self.resource.name} returned no context manager")

    async def _live_sync(self, context: AbstractContextManager[Any]) -> None:
        with contextlib.ExitStack() as entered:
            with timed(self.name):
                self.value = entered.enter_context(context)
            await self._stay()

    async def _stay(self) -> None:
        if not self._opened.cancelled():
            self._opened.set_result(None)
            await self._leave.wait()

    async def _abandon(self, task: asyncio.Task[None]) -> None:
        self._leave.set()
        self._opened.cancel()
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_TIMEOUT)
        if not task.done():
            log.warning("%s does not end although it was cancelled", self.name)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if not self._leave.is_set():
            log.error("%s ended by itself; it is built anew when the configuration changes", self.name)
        if error is not None and not task.cancelled():
            log.error("%s raised\n%s", self.name, traceback_without_message(error))

    def commit(self) -> None:
        """Stay open: from now on the snapshot has it."""

    async def rollback(self) -> None:
        """Close it again: another part refused."""
        await self.close()

    async def close(self, *, deadline: float | None = None) -> None:
        """Close it, after those that were built from it. After `deadline`, monotonic, it is cancelled and named.

        May be called again, and by several tasks at once. Cancelling one of them cancels the resource.
        """
        if self._task is None:
            return
        try:
            if self.users:
                await asyncio.wait(self.users, timeout=_left(deadline))
            self._leave.set()
            await asyncio.wait({self._task}, timeout=_left(deadline))
        except asyncio.CancelledError:
            await self._cut(self._task)
            raise
        if not self._task.done():
            await self._cut(self._task)

    async def _cut(self, task: asyncio.Task[None]) -> None:
        log.warning("%s did not close in time and is cancelled", self.name)
        await self._abandon(task)


class Assembly:
    """The resources of one candidate: those that stay, and those that are built for it."""

    def __init__(
        self, settings: Any, standing: Mapping[Resource[Any], Instance], registered: Sequence[Resource[Any]]
    ) -> None:
        self._settings = settings
        self._standing = standing
        self._registered = registered
        self.instances = dict(standing)

    @property
    def changed(self) -> bool:
        """Whether anything was built."""
        return self.instances != self._standing

    @property
    def values(self) -> dict[Resource[Any], Any]:
        """The objects by their resources, as a snapshot holds them."""
        return {resource: instance.value for resource, instance in self.instances.items()}

    def wants(self, resource: Resource[Any], changed: Iterable[KeyPath]) -> bool:
        """Whether a resource must be built anew: its part changed, or what it was built from."""
        instance = self._standing.get(resource)
        if instance is None or instance.dead or resource.wants(changed):
            return True
        # One that was taken back is refused where it is asked for again, rather than closed under those who use it.
        return any(self.instances.get(need) is not built for need, built in instance.needs.items())

    async def build(self, resource: Resource[Any], _change: object) -> Instance:
        """Open a new instance. Raises what its context manager raises."""
        # Those that are registered later may still be replaced in this very reload.
        keys = itertools.takewhile(lambda key: key is not resource, self._registered)
        earlier = {key: self.instances[key] for key in keys if key in self.instances}
        instance = Instance(resource)
        candidate = BuildContext(self._settings, {key: built.value for key, built in earlier.items()})
        await instance.open(candidate, earlier)
        self.instances[resource] = instance
        return instance


@dataclass(slots=True, eq=False)
class _Retired:
    """What one swap put out of use: no new lease can hold it, and old ones may."""

    generation: int
    instances: tuple[Instance, ...]
    timer: asyncio.TimerHandle | None = None

    def is_held(self, leased: Iterable[int]) -> bool:
        oldest = min(instance.generation for instance in self.instances)
        return any(oldest <= generation < self.generation for generation in leased)


@dataclass(slots=True, eq=False)
class Resources:
    """The resources in force, and those that wait for the last lease of their snapshot. Lives in one event loop.

    `retire_after`, seconds, bounds that wait; None: it may take for ever.
    """

    holder: Holder[Any]
    retire_after: float | None = None
    current: dict[Resource[Any], Instance] = field(default_factory=dict)
    _retired: list[_Retired] = field(default_factory=list)
    _closing: dict[asyncio.Task[None], tuple[Instance, ...]] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop | None = None

    @property
    def dead(self) -> tuple[str, ...]:
        """The names of those that have ended by themselves."""
        return tuple(instance.name for instance in self.current.values() if instance.dead)

    def assemble(self, settings: Any, registered: Sequence[Resource[Any]]) -> Assembly:
        """Begin with what stands and is still registered, in the order of registration."""
        standing = {key: self.current[key] for key in registered if key in self.current}
        return Assembly(settings, standing, registered)

    def adopt(self, assembly: Assembly, generation: int) -> None:
        """Take over what was built for the generation that has just been swapped in, and retire what it replaced."""
        replaced = [old for key, old in self.current.items() if assembly.instances.get(key) is not old]
        for instance in assembly.instances.values():
            instance.generation = instance.generation or generation
        self.current = assembly.instances
        if replaced:
            self._retire(_Retired(generation, tuple(replaced)))

    def _retire(self, retired: _Retired) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self._retired.append(retired)
        self.holder._on_release(self._released)  # noqa: SLF001 - the other half of a lease
        if self.retire_after is not None:
            retired.timer = loop.call_later(self.retire_after, self._on_retire_timeout, retired)
        self._look()

    def _released(self) -> None:
        """Look again, from whatever thread let go of a snapshot."""
        if self._retired and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has closed
                self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        leased = self.holder.leased
        for retired in [retired for retired in self._retired if not retired.is_held(leased)]:
            self._begin_closing(retired)

    def _on_retire_timeout(self, retired: _Retired) -> None:
        if retired in self._retired:
            names = ", ".join(instance.name for instance in retired.instances)
            log.warning("%s closes although a lease of its snapshot is still held after %g s", names, self.retire_after)
            self._begin_closing(retired)

    def _begin_closing(self, retired: _Retired) -> None:
        self._retired.remove(retired)
        if retired.timer is not None:
            retired.timer.cancel()
        task = asyncio.create_task(_close(reversed(retired.instances)), name=f"hotconf-retire-{retired.generation}")
        self._closing[task] = retired.instances
        task.add_done_callback(self._closing.pop)

    async def close(self, *, timeout: float) -> None:
        """Close everything in reverse order, `timeout` seconds in all, leases or not.

        A resource that takes longer than its share of the time goes on beside those after it.
        """
        deadline = time.monotonic() + timeout
        for retired in self._retired:
            if retired.timer is not None:
                retired.timer.cancel()
        under_way = tuple(self._closing)
        # What was retired first may have been built from what was retired later, or from what is current.
        replaced = (*self._closing.values(), *(retired.instances for retired in self._retired))
        batches = [*replaced, tuple(self.current.values())]
        self._retired, self.current = [], {}
        await _close_by(deadline, [instance for batch in batches for instance in reversed(batch)])
        await _end(under_way)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


async def _close(instances: Iterable[Instance]) -> None:
    """Close one after the other. Cancelled, it gives none any more time: it raises when all of them are cancelled."""
    interrupted: asyncio.CancelledError | None = None
    deadline: float | None = None
    for instance in instances:
        try:
            await instance.close(deadline=deadline)
        except asyncio.CancelledError as error:
            interrupted, deadline = error, 0.0
    if interrupted is not None:
        raise interrupted


async def _close_by(deadline: float, instances: Sequence[Instance]) -> None:
    """Close one after the other. One that has had its share of the time does not delay those after it.

    What a resource was built from must stay open under it. So a resource with needs is cancelled when its share of the
    time is over, and any other at the deadline.
    """
    closing: list[asyncio.Task[None]] = []
    try:
        for left, instance in zip(range(len(instances), 0, -1), instances, strict=True):
            now = time.monotonic()
            until = now + max(0.0, deadline - now) / left
            closing.append(asyncio.create_task(instance.close(deadline=until if instance.needs else deadline)))
            await asyncio.wait(closing[-1:], timeout=until - now)
        await asyncio.gather(*closing)
    except asyncio.CancelledError:
        await _end(closing)
        for instance in instances[len(closing) :]:
            await instance.close(deadline=0.0)
        raise


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
