"""Sources: where values come from, and the stack that reads all of them.

May import values, errors, abc, formats and schema. Read `stack` first: which sources a configuration has, and how they
are read together. Then the sources, each on its own: `file` with `reader` and `mounts`, `memory`, `dotenv`, `pydantic`
for what a settings class declares itself, `overlay` with `patch` and `atomic_write` for what PATCH writes. `content`
reads the files that settings name. Around `pydantic` stand `construct` (the class makes its settings), `lookups` (what
a source looks for), `provenance` (where it has a value from) and `failure` (what it says when it raises).

Sources that live elsewhere are imported when they are first used: `http`, `etcd` with `etcd_gateway`, `nats` and
`redis`. `remote` is what they share, `patience` and `frames` are what they share with the engine and the client.
"""

from typing import TYPE_CHECKING

from hotconf.sources.file import Dir as Dir, File as File
from hotconf.sources.memory import Memory as Memory

if TYPE_CHECKING:
    from hotconf.sources.etcd import Etcd as Etcd
    from hotconf.sources.http import Http as Http
    from hotconf.sources.nats import Nats as Nats
    from hotconf.sources.redis import Redis as Redis
else:
    _HOMES = {"Etcd": "etcd", "Http": "http", "Nats": "nats", "Redis": "redis"}

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = ("Dir", "Etcd", "File", "Http", "Memory", "Nats", "Redis")
