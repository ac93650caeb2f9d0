"""The store: what a fleet needs of an engine that keeps its plan, documents and reports. Nothing here runs.

An engine has to offer one thing above keeping bytes: compare-and-swap of one key. Consensus, replication and membership
are the engine's own business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from hotconf.errors import HotconfError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

LEASE = 10.0
"""Seconds for which a report stands without being repeated."""


class StoreError(HotconfError):
    """A store cannot be reached or used. `reason` names no value and no credential."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.url}: {self.reason}"


class Conflict(HotconfError):
    """A swap came too late: the key has changed since it was read. Nothing was written."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"{self.key} has changed since it was read: read it again"


def first_of(error: BaseException) -> BaseException:
    """Return the first error of a group of errors, and of groups in it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class Entry(NamedTuple):
    """A value of the store, and the version that a swap of it has to expect. Versions only grow."""

    value: bytes
    version: int


class Store(Protocol):
    """One engine at one place. It holds no connection; `connect` opens one."""

    @property
    def url(self) -> str:
        """The URL, without credentials."""
        ...

    def connect(self, fleet: str) -> AbstractAsyncContextManager[Session]:
        """Open a session for one fleet, within the running event loop.

        Raises:
            StoreError: When entered: the engine cannot be reached.
        """
        ...


class Session(Protocol):
    """A connection for one fleet. Used in one event loop, by several tasks. Every method may raise StoreError."""

    async def get(self, key: str) -> Entry | None:
        """Return a value as it is now, never an earlier one; None where there is none."""
        ...

    async def put_once(self, key: str, value: bytes) -> None:
        """Write a key that never changes. Where it is there already, it stays."""
        ...

    async def swap(self, key: str, value: bytes, expect: int) -> int:
        """Replace a value if its version is still the expected one, 0 for a key that is not there.

        Returns:
            The new version.

        Raises:
            Conflict: The version is another one.
        """
        ...

    def follow(self, key: str) -> AsyncIterator[Entry | None]:
        """Yield the value as it is now, and again after each change. Changes that come together may be one.

        It ends with StoreError when the connection is lost; a new one begins with the value as it is by then.
        """
        ...

    async def names(self, prefix: str) -> Sequence[str]:
        """Return the keys that begin with a prefix, sorted."""
        ...

    async def report(self, name: str, value: bytes, lease: float = LEASE) -> None:
        """Write a report that stands for `lease` seconds. To repeat the same one costs less than a new one."""
        ...

    async def withdraw(self, name: str) -> None:
        """Remove a report before its lease is over."""
        ...

    def reports(self) -> AsyncIterator[Mapping[str, bytes | None]]:
        """Yield the reports that stand, and then those that have changed; None for one that is gone.

        The first mapping has all of them: before it, silence means nothing. Ends like `follow`.
        """
        ...
