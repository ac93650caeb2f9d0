"""A cache of what is built from a snapshot: once for all requests, in a thread where it takes long."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hotconf.schema.tree import children

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

O = TypeVar("O")  # noqa: E741 - the owner
T = TypeVar("T")

_LARGE = 300
"""Values. Writing so many takes a few milliseconds, in which the event loop could serve no other request."""


class BuildCache(Generic[O, T]):
    """Keeps what was built for the newest owner, a snapshot, by name; at most `most` of them. For one event loop.

    Requests for the same name wait for one build. A request that gives up does not cancel it. An error is raised in
    every request that waits, and is not kept.
    """

    def __init__(self, is_large: Callable[[O], bool], *, most: int = 1000) -> None:
        self._is_large = is_large
        self._most = most
        self._owner: O | None = None
        self._in_thread = False
        self._builds: dict[Hashable, asyncio.Task[T]] = {}

    def built(self, owner: O, name: Hashable) -> T | None:
        """Return what was built for an owner, without a wait; None if it was not, or not to its end."""
        building = self._builds.get(name) if self._owner is owner else None
        return building.result() if building is not None and building.done() else None

    async def get(self, owner: O, name: Hashable, build: Callable[[], T]) -> T:
        """Return the result of `build`, which is called once, in a thread where the owner is large."""
        if self._owner is not owner or len(self._builds) >= self._most:
            self._owner, self._in_thread, self._builds = owner, self._is_large(owner), {}
        building = self._builds.get(name)
        if building is None:
            building = self._builds[name] = asyncio.create_task(self._run(build))
            building.add_done_callback(functools.partial(_forget_failed, self._builds, name))
        if not building.done():
            await asyncio.wait({building})
        return building.result()

    async def _run(self, build: Callable[[], T]) -> T:
        return await asyncio.to_thread(build) if self._in_thread else build()


def _forget_failed(builds: dict[Hashable, asyncio.Task[T]], name: Hashable, building: asyncio.Task[T]) -> None:
    if building.cancelled() or building.exception() is not None:
        del builds[name]


def is_large(settings: Any) -> bool:
    """Whether writing settings takes too long for the event loop."""
    left, count = [settings], 0
    while left and count <= _LARGE:
        inner = children(left.pop())
        count += len(inner)
        left.extend(inner.values())
    return count > _LARGE
