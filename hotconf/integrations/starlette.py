"""Starlette: a live configuration, one snapshot for each request, and the HTTP API, with one call."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from hotconf.integrations.asgi import PinSnapshot, Safety, config_app, lifespan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.applications import Starlette

    from hotconf.conf import HotConf

__all__ = ("setup",)


def setup(
    app: Starlette, conf: HotConf[Any], admin: str | None = "/hotconf", token_file: str | Path | None = None
) -> None:
    """Make a configuration live with an application, pin a snapshot for each request, and mount the HTTP API.

    The configuration becomes live before the application's own lifespan begins, and ends after it. The pin surrounds
    every middleware, those too that are added later. In a `Service` that runs the same configuration, the service
    routes the signals.

    Args:
        app: The application, before its first request.
        conf: The configuration.
        admin: The path of the HTTP API; None mounts none.
        token_file: A file with the token of the HTTP API, which is followed. Without one it is served to loopback
            addresses alone.

    Raises:
        ValueError: The file holds no token, or cannot be read.
    """
    if admin is not None:
        app.mount(admin, config_app(conf, safety=Safety(token_file=token_file)))
    own_lifespan, build = app.router.lifespan_context, app.build_middleware_stack

    @contextlib.asynccontextmanager
    async def live(app: Any) -> AsyncIterator[Any]:
        async with lifespan(conf)(app), own_lifespan(app) as state:
            yield state

    app.router.lifespan_context = live
    app.build_middleware_stack = lambda: PinSnapshot(build(), conf)  # type: ignore[method-assign]
