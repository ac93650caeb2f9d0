"""Processes for the tests of the command: each test's own end with the test, a shared one with the file."""

from __future__ import annotations

import contextlib

import pytest

from tests.support import HOTCONF, Demo, Process


@pytest.fixture
def launch():
    """Start a command; it is killed at the end if it still runs."""
    with contextlib.ExitStack() as stack:

        def start(*words, command=HOTCONF, **options):
            process = Process([*command, *words], **options)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def demo(tmp_path):
    """Start a demo in a folder of its own, and wait until it serves."""
    with contextlib.ExitStack() as stack:

        def start(*options, ready=True, **more):
            process = Demo(tmp_path, *options, **more)
            stack.callback(process.kill)
            return process.ready() if ready else process

        yield start
