"""etcd: one key that holds a document, or all keys below a prefix, followed by a watch."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import TYPE_CHECKING, Literal

from hotconf.errors import RevisionConflict
from hotconf.sources.etcd_gateway import PERMISSION_DENIED, EtcdError, Gateway
from hotconf.sources.remote import Remote

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from hotconf.sources.etcd_gateway import Found
    from hotconf.values.layer import Layer

log = logging.getLogger("hotconf")

_POLL = 5.0
"""Seconds between two questions to a server whose watches are not safe."""


class Etcd(Remote):
    """A document in one key of etcd 3.4 or newer, or the tree of all keys below a prefix, read at one revision.

    It needs no package: it speaks to the JSON gateway that every etcd has.

    Args:
        endpoints: As in Gateway: `https://HOST:PORT`, several with commas or as a list.
        key: The key of the document. Its suffix tells the format, unless `format` does.
        prefix: Instead of a key: with `shop/` the key `shop/db/pool_size` is `db.pool_size`. Values are text, as in the
            environment. Keys that belong together are written in one transaction.
        username: The user, whose password is in `password_file`, which is read at each authentication.
        format: As in Remote, like `required`, `outage`, `max_stale`, `cache` and `quiet`, 0.1 for a prefix.
        ca_file: The authorities that are trusted instead of the system's.
        cert_file: The certificate to show to the server, read again when it has changed.
        key_file: Its key.

    Raises:
        ValueError: There is neither a key nor a prefix, or both; an endpoint is no URL, or holds a password.
    """

    kind = "etcd"

    def __init__(
        self,
        endpoints: str | Sequence[str],
        key: str | None = None,
        *,
        prefix: str | None = None,
        username: str | None = None,
        password_file: str | os.PathLike[str] | None = None,
        format: str | None = None,  # noqa: A002 - the word for it
        required: bool = True,
        outage: Literal["keep", "reject"] = "keep",
        max_stale: float | None = None,
        cache: str | os.PathLike[str] | None = None,
        quiet: float | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        cert_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
    ) -> None:
        if bool(key) == bool(prefix):
            raise ValueError("name a key or a prefix of etcd")
        self._key = key or f"{(prefix or '').rstrip('/')}/"
        self._is_tree = key is None
        quiet = (0.1 if self._is_tree else 0.0) if quiet is None else quiet
        super().__init__(
            f"etcd:{self._key}", key, format=format, required=required, outage=outage, max_stale=max_stale,
            cache=cache, quiet=quiet,
        )  # fmt: skip

        def gateway() -> Gateway:
            return Gateway(
                endpoints, username=username, password_file=password_file,
                ca_file=ca_file, cert_file=cert_file, key_file=key_file,
            )  # fmt: skip

        gateway()  # to refuse what is no endpoint
        self._new_gateway = gateway
        self._gateway: Gateway | None = None
        self._seen: Found | None = None

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[None]:
        """Keep connections for as long as an engine runs."""
        self._was_read = asyncio.Event()
        async with self._new_gateway() as gateway:
            self._gateway = gateway
            try:
                yield
            finally:
                self._gateway = self._was_read = None

    async def read(self) -> Layer:
        """Return what the store holds now, at one revision.

        Raises:
            SourceError: It cannot be understood, or a required key is absent.
            SourceUnreachable: The server is out of reach, or denies access.
        """
        try:
            async with self._reached() as gateway:
                found = await gateway.range(self._key, prefix=self._is_tree)
        finally:
            if self._was_read is not None:
                self._was_read.set()
        self._seen = found
        if not found.keys:
            return self._absent("does not exist" if not self._is_tree else "holds no key")
        newest = str(max(key.mod_revision for key in found.keys))
        if not self._is_tree:
            return self._document(found.keys[0].value, newest)
        values = {key.key.removeprefix(self._key): key.value for key in found.keys}
        return self._tree(values, f"{newest}/{len(values)}")  # a deletion leaves the newest as it is

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yield for each change after the last read, also for those that were made while nothing watched."""
        await self._first_read()
        async with self._reached() as gateway:
            if await self._watches_block(gateway):
                self.polls = "polled: over TLS, 250 watches block this version of etcd"
                log.warning("source %s is %s", self.name, self.polls)
                while True:
                    await asyncio.sleep(_POLL * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
                    if await self.outdated():
                        yield
            seen = self._seen
            start = 0 if seen is None else seen.revision + 1
            async with contextlib.aclosing(gateway.watch(self._key, prefix=self._is_tree, start=start)) as messages:
                async for message in messages:
                    # A watch of the future is silent for ever: that store was restored, or is another one.
                    other = seen is None or message.cluster != seen.cluster or message.revision < seen.revision
                    if message.compacted or (message.created and other):
                        yield
                        if seen is not None:
                            return  # the next watch begins with what is read now
                    newest = self._seen.revision if self._seen is not None else 0
                    if any(key.mod_revision > newest for key in (*message.put, *message.deleted)):
                        yield

    async def outdated(self) -> bool:
        """Return whether the store holds other revisions than were read last. Raises SourceUnreachable."""
        async with self._reached() as gateway:
            now, seen = await gateway.range(self._key, prefix=self._is_tree, keys_only=True), self._seen
        return seen is None or (now.cluster, _revisions(now)) != (seen.cluster, _revisions(seen))

    async def put(self, data: bytes, *, if_revision: str | None = None) -> str:
        """Write the document, and return its revision.

        Args:
            data: The document.
            if_revision: Write only if this is the revision of what is there, "0" for nothing.

        Raises:
            RevisionConflict: It is another one.
            SourceUnreachable: The server is out of reach, or denies access. It may have written.
        """
        async with self._reached() as gateway:
            if if_revision is None:
                return str(await gateway.put(self._key, data))
            expected = int(if_revision) if if_revision.isdecimal() else -1
            revision = await gateway.swap(self._key, data, expect=expected)
        if revision is None:
            raise RevisionConflict(self.name, if_revision)
        return str(revision)

    @contextlib.asynccontextmanager
    async def _reached(self) -> AsyncIterator[Gateway]:
        """Give the gateway that is open, or one for this time."""
        try:
            if self._gateway is not None:
                yield self._gateway
            else:
                async with self._new_gateway() as gateway:
                    yield gateway
        except EtcdError as error:
            denied = "forbidden: " if error.code == PERMISSION_DENIED else ""
            raise self._unreachable(f"{denied}{error.reason}") from None

    @staticmethod
    async def _watches_block(gateway: Gateway) -> bool:
        """Whether 250 watches over TLS would block a member for every client, as before etcd 3.5.5 and 3.4.22."""
        if not gateway.is_secure:
            return False
        version = await gateway.version()
        return version < (3, 4, 22) or (3, 5) <= version < (3, 5, 5)


def _revisions(found: Found) -> list[tuple[str, int]]:
    return [(key.key, key.mod_revision) for key in found.keys]
