"""A configuration that is live for the life of an ASGI application, and one snapshot for one request."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from hotconf.api.exchange import GENERATION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from hotconf.conf import HotConf
    from hotconf.reload.snapshot import Snapshot

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_KEY = "hotconf.pin"
_GENERATION = GENERATION.lower().encode()


def lifespan(conf: HotConf[Any]) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Return a lifespan that keeps the configuration live: `Starlette(lifespan=lifespan(conf))`.

    In the main thread SIGHUP reloads. Where the configuration is live already, in a `Service` for example, its signals
    are left as they are.

    Args:
        conf: The configuration.

    Returns:
        A function of the application, as Starlette, FastAPI and others take it. Entering what it returns raises
        ConfigError where the first reload is rejected: the server does not start.
    """

    @contextlib.asynccontextmanager
    async def live(_app: Any) -> AsyncIterator[None]:
        is_ours = conf.status.state in ("new", "stopped") and threading.current_thread() is threading.main_thread()
        async with conf.running(signals=None if is_ours else ()):
            yield

    return live


class Pin(NamedTuple):
    """The snapshot of one request, and its lease."""

    snapshot: Snapshot[Any]
    leases: contextlib.ExitStack


class PinSnapshot:
    """Pins the snapshot in force for each request and each WebSocket, and names its generation in the response.

    Put it around everything else, so that all middlewares of a request see one snapshot. A response that names a
    generation itself keeps it. A WebSocket keeps its snapshot, and the resources in it, until it ends: one that is to
    follow changes iterates over `conf.changes()`.

    Args:
        app: The application.
        conf: The configuration.
    """

    def __init__(self, app: ASGIApp, conf: HotConf[Any]) -> None:
        self.app = app
        self.conf = conf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. A lifespan passes through."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        with contextlib.ExitStack() as leases:
            snapshot = leases.enter_context(self.conf.pin())
            scope[_KEY] = Pin(snapshot, leases)
            generation = (_GENERATION, b"%d" % snapshot.generation)

            async def send_named(message: Message) -> None:
                if message["type"] == "http.response.start":
                    headers = list(message.get("headers", ()))
                    if all(name.lower() != _GENERATION for name, _ in headers):
                        message = {**message, "headers": [*headers, generation]}
                await send(message)

            await self.app(scope, receive, send_named if scope["type"] == "http" else send)


def request_snapshot(scope: Mapping[str, Any]) -> Snapshot[Any]:
    """Return the snapshot that a request is pinned to.

    Args:
        scope: The scope of the request: `request.scope` in most frameworks.

    Returns:
        The snapshot that was in force when the request began.

    Raises:
        KeyError: `PinSnapshot` does not surround the application.
    """
    pin: Pin | None = scope.get(_KEY)
    if pin is None:
        raise KeyError("no snapshot is pinned: put PinSnapshot around the application")
    return pin.snapshot


def release_snapshot(scope: Mapping[str, Any]) -> None:
    """End the lease of a request that is about to wait. Does nothing without `PinSnapshot`."""
    pin = scope.get(_KEY)
    if pin is not None:
        pin.leases.close()
