"""Fixtures of the tests of a fleet."""

from __future__ import annotations

import contextlib
import functools

import pytest

from tests.fleet.engines import SERVERS
from tests.sources.remote.servers import serving


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Return a function that starts each server once, when it is first needed."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def start(kind):
            return stack.enter_context(serving(SERVERS[kind], tmp_path_factory))

        yield start
