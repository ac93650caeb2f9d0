"""Where a fleet keeps its plan, documents and reports: one file an engine, each with the protocol of `fleet.store`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from hotconf.fleet.store import StoreError

if TYPE_CHECKING:
    from hotconf.fleet.store import Store

_SCHEMES = {
    "sqlite": ("sqlite", "SqliteStore"),
    "memory": ("memory", "MemoryStore"),
    "etcd": ("etcd", "EtcdStore"),
    "etcds": ("etcd", "EtcdStore"),
    "nats": ("nats", "NatsStore"),
    "tls": ("nats", "NatsStore"),
}


def open_store(url: str) -> Store:
    """Return the store that a URL names. Nothing is connected yet.

    Args:
        url: `sqlite:PATH`, `etcd://HOST:PORT[,HOST:PORT]` (`etcds` for TLS), `nats://HOST:PORT[,HOST:PORT]` (`tls`), or
            `memory:NAME` for tests.

    Raises:
        StoreError: The URL names no store.
    """
    scheme, colon, _ = url.partition(":")
    if not colon or scheme not in _SCHEMES:
        raise StoreError(url.partition("@")[2] or url, "a store is sqlite:PATH, etcd://HOST:PORT or nats://HOST:PORT")
    module, name = _SCHEMES[scheme]
    store: Store = getattr(import_module(f"{__name__}.{module}"), name).of(url)
    return store
