"""What tests of services that use hotconf need, and authors of sources.

- `FakeSource` holds values, fails, hangs and tells of changes, as a test says.
- `ManualClock` makes time pass when a test says so.

These two need no pytest. `hotconf.testing.conformance`, the tests that every source must pass, and the plugin
`hotconf.testing.fixtures` do, and are imported by their own names.
"""

from hotconf.testing.clock import ManualClock as ManualClock
from hotconf.testing.source import FakeSource as FakeSource

__all__ = ("FakeSource", "ManualClock")
