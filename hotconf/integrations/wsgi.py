"""WSGI: a configuration that is live in the process of the server, and one snapshot for one request."""

from __future__ import annotations

import atexit
import contextlib
import threading
from typing import TYPE_CHECKING, Any

from hotconf.api.exchange import GENERATION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from hotconf.conf import HotConf
    from hotconf.reload.snapshot import Snapshot

__all__ = ("PinSnapshot", "request_snapshot", "start")

_KEY = "hotconf.snapshot"


def start(conf: HotConf[Any]) -> None:
    """Make a configuration live until the process ends, where it is not live yet.

    In the main thread SIGHUP reloads. A worker that is forked later goes on live by itself.

    Raises:
        ConfigError: The first reload was rejected.
    """
    if conf.status.state in ("new", "stopped"):
        is_main = threading.current_thread() is threading.main_thread()
        running = conf.running(signals=None if is_main else ())
        running.__enter__()
        atexit.register(running.__exit__, None, None, None)


class PinSnapshot:
    """Pins the snapshot in force for each request, and names its generation in the response.

    The pin lasts from the first instruction of the application to the last byte of its response. A response that names
    a generation itself keeps it.

    Args:
        app: The application.
        conf: The configuration.
    """

    def __init__(self, app: WSGIApplication, conf: HotConf[Any]) -> None:
        self.app = app
        self.conf = conf

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        leases = contextlib.ExitStack()
        environ[_KEY] = snapshot = leases.enter_context(self.conf.pin())

        def start_named(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            if all(name.lower() != GENERATION.lower() for name, _ in headers):
                headers = [*headers, (GENERATION, str(snapshot.generation))]
            return start_response(status, headers, *exc_info)

        try:
            body = self.app(environ, start_named)
        except BaseException:
            leases.close()
            raise
        if hasattr(body, "close"):
            leases.callback(body.close)  # before the lease ends: it may use what the snapshot has
        return _Body(body, leases)


class _Body:
    """The body of a response. The server closes it after the last byte, or when the client has left."""

    def __init__(self, body: Iterable[bytes], leases: contextlib.ExitStack) -> None:
        self._body = body
        self.close = leases.close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)


def request_snapshot(environ: Mapping[str, Any]) -> Snapshot[Any]:
    """Return the snapshot that a request is pinned to.

    Args:
        environ: The environment of the request.

    Returns:
        The snapshot that was in force when the request began.

    Raises:
        KeyError: `PinSnapshot` does not surround the application.
    """
    snapshot: Snapshot[Any] | None = environ.get(_KEY)
    if snapshot is None:
        raise KeyError("no snapshot is pinned: put PinSnapshot around the application")
    return snapshot
