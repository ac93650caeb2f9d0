"""The engines that the tests of a fleet run on: real servers, each started once for a file of tests."""

from __future__ import annotations

from hotconf.fleet.stores import open_store
from hotconf.fleet.stores.memory import MemoryStore
from hotconf.fleet.stores.sqlite import SqliteStore
from hotconf.testing.faults import EtcdServer, NatsServer

SERVERS = {"etcd": EtcdServer, "nats": NatsServer}


def url_of(server):
    """The URL of a server as a store."""
    return server.url.replace("http://", "etcd://")


def store_of(kind, folder, servers):
    """A store of a kind: memory, sqlite, etcd or nats."""
    if kind == "memory":
        return MemoryStore()
    return SqliteStore(folder / "fleet.db") if kind == "sqlite" else open_store(url_of(servers(kind)))
