"""What holds for the whole suite."""

import pytest
from hypothesis import settings

# Nothing is timed here: on a busy machine any example may take longer than hypothesis allows by default.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SOAK_TIMEOUT = 900


def pytest_collection_modifyitems(items):
    """Give the long tests their time, however they are called."""
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.timeout(SOAK_TIMEOUT))
