"""HTTP with aiohttp: the endpoints of `hotconf.api` as an application, and a server that drains.

May import every earlier room. Read `app` first (routes, applications, and how requests and streams are handed over),
then `safety` and `pin` (middlewares), then `server/`, which serves any application. `client` is the other side:
requests to a running service, and its stream of changes.
"""

from hotconf.web.app import config_app as config_app, config_routes as config_routes
from hotconf.web.pin import pin_snapshot as pin_snapshot, request_snapshot as request_snapshot
from hotconf.web.safety import Safety as Safety
from hotconf.web.server.drain import iter_messages as iter_messages, shutdown_event as shutdown_event
from hotconf.web.server.limits import BodyTimeout as BodyTimeout, Limits as Limits
from hotconf.web.server.server import Server as Server

# The names of these two functions in hotconf 0.1.
draining_of = shutdown_event
messages = iter_messages

__all__ = (
    "BodyTimeout",
    "Limits",
    "Safety",
    "Server",
    "config_app",
    "config_routes",
    "draining_of",
    "iter_messages",
    "messages",
    "pin_snapshot",
    "request_snapshot",
    "shutdown_event",
)
