"""Settings for the whole suite."""

import os
import signal
import tempfile

import pytest
from hypothesis import settings

# Under nohup this process ignores SIGHUP, and every process that a test starts would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# What hotconf keeps for a user is made here, and not in the home of the user who runs the tests.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="hotconf-state-")

# Nothing is timed here: on a busy machine any example may take longer than hypothesis allows by default.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SOAK_TIMEOUT = 900


def pytest_collection_modifyitems(items):
    """Give the long tests a longer timeout, also when they are run by name."""
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.timeout(SOAK_TIMEOUT))
