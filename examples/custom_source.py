"""A source of your own: settings in a table of SQLite, with dotted keys and JSON values, that notices changes.

    python examples/custom_source.py

    sqlite3 examples/custom_source.db "UPDATE settings SET value = '\"Good evening\"' WHERE key = 'message'"

`tests/test_example_programs.py` runs hotconf's conformance suite over it.
"""

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path

from hotconf import Fault, HotConf, Layer, Origin, Service, Settings
from hotconf.errors import SourceError


class Table:
    """Reads `settings(key, value)` of a database. Every failure is raised; none reads as empty."""

    kind = "sqlite"

    def __init__(self, path, *, required=True, poll=0.5):
        self.name = str(path)
        self.required = required
        self._path = path
        self._poll = poll
        self._last = None

    async def read(self):
        # In a thread: a database may be slow, and must not block the event loop.
        self._last = rows = await asyncio.to_thread(self._rows)
        values, origins = {}, {}
        for key, text in rows:
            *sections, leaf = path = key.split(".")
            origins[tuple(path)] = place = Origin("source", f"{self.name} {key}")
            section = values
            for name in sections:
                section = section.setdefault(name, {})
            try:
                section[leaf] = json.loads(text)
            except ValueError:
                raise SourceError([Fault(key, "is not JSON", place)]) from None  # quotes nothing: it may be secret
        return Layer(self.name, values, origins, revision=str(hash(tuple(rows))))

    async def changes(self):
        """Yield while the table differs from the last read: two looks could miss a change and its reversal."""
        while True:
            if await asyncio.to_thread(self._rows) != self._last:
                yield
            await asyncio.sleep(self._poll)

    def _rows(self):
        if not self.required and not self._path.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as database:
            return database.execute("SELECT key, value FROM settings ORDER BY key").fetchall()


class App(Settings):
    message: str = "Hello"


if __name__ == "__main__":
    path = Path(__file__).with_suffix(".db")
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT)")
        database.execute("INSERT OR IGNORE INTO settings VALUES ('message', '\"Good day\"')")
    conf = HotConf(App, sources=[Table(path)])
    conf.on_change(lambda change: print(change.new.message, flush=True))
    service = Service(conf)
    service.on_ready(lambda: print(conf.current.message, flush=True))
    raise SystemExit(service.run())
