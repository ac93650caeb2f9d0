"""Testing: for tests of services that use hotconf, and of sources. May import every earlier room.

Read `source` first (`FakeSource` returns values, fails, hangs and sends change notices on command), then `clock`
(`ManualClock` is an event loop's clock that a test advances). These two need no pytest. `conformance`, the tests that
every source must pass, and `fixtures`, a plugin, need it, and are imported by their own names. `faults` runs real
servers that tests kill, freeze and wipe.

pytest imports this package in every project that has hotconf installed, so both names are imported when they are first
used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hotconf.testing.clock import ManualClock as ManualClock
    from hotconf.testing.source import FakeSource as FakeSource
else:
    _HOMES = {"FakeSource": "source", "ManualClock": "clock"}

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name not in _HOMES:
            raise AttributeError(f"module 'hotconf.testing' has no attribute {name!r}")
        return getattr(import_module(f"hotconf.testing.{_HOMES[name]}"), name)


__all__ = ("FakeSource", "ManualClock")
