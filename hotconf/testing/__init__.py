"""Testing: for tests of services that use hotconf, and of sources. May import every earlier room.

Read `source` first (`FakeSource` returns values, fails, hangs and sends change notices on command), then `clock`
(`ManualClock` is an event loop's clock that a test advances). These two need no pytest. `conformance`, the tests that
every source must pass, and `fixtures`, a plugin, need it, and are imported by their own names.
"""

from hotconf.testing.clock import ManualClock as ManualClock
from hotconf.testing.source import FakeSource as FakeSource

__all__ = ("FakeSource", "ManualClock")
