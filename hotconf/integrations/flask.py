"""Flask: a configuration that is live in each process that serves, and one snapshot for each request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel

try:
    import click
    import flask
except ImportError:
    raise ImportError("hotconf.integrations.flask needs the extra: pip install 'hotconf[flask]'") from None

import hotconf.integrations.wsgi as wsgi

if TYPE_CHECKING:
    from hotconf.conf import HotConf
    from hotconf.reload.snapshot import Snapshot

__all__ = ("HotConfFlask", "request_snapshot")

S = TypeVar("S", bound=BaseModel)


class HotConfFlask(Generic[S]):
    """Makes a configuration live with a Flask application, and pins a snapshot for each of its requests.

    The configuration is live from here to the end of the process, and in workers that are forked later. A command of
    `flask` other than `run` only loads it.

    Args:
        app: The application.
        conf: The configuration.

    Raises:
        ConfigError: The first reload was rejected.
    """

    def __init__(self, app: flask.Flask, conf: HotConf[S]) -> None:
        self.conf = conf
        command = click.get_current_context(silent=True)
        if command is None or command.info_name == "run":
            wsgi.start(conf)
        elif not conf.loaded:
            conf.load()
        app.wsgi_app = wsgi.PinSnapshot(app.wsgi_app, conf)  # type: ignore[method-assign]

    @property
    def snapshot(self) -> Snapshot[S]:
        """The snapshot of the running request. Raises KeyError in a request of another application."""
        return request_snapshot()

    @property
    def settings(self) -> S:
        """The settings of the running request."""
        return self.snapshot.settings


def request_snapshot() -> Snapshot[Any]:
    """Return the snapshot that the running request is pinned to.

    Raises:
        KeyError: The application was not given to `HotConfFlask`.
        RuntimeError: No request runs here.
    """
    return wsgi.request_snapshot(flask.request.environ)
