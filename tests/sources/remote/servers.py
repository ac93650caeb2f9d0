"""Servers of the tests of remote sources, where the machine has their programs."""

import contextlib

from tests.support import require_tool


@contextlib.contextmanager
def serving(server, factory, *options, **others):
    """Yield a running server in a folder of its own, or skip where its program is not installed."""
    require_tool(server.program)
    with server(factory.mktemp(server.program) / "server", *options, **others) as running:
        yield running
