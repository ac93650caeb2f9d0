"""The configuration server: every endpoint of the configuration service, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from hotconf.web.app import config_app
from hotconf.web.safety import holds_no_data
from hotconf.web.server.server import Server

if TYPE_CHECKING:
    from pathlib import Path

    from hotconf.conf import HotConf
    from hotconf.process.service import Service
    from hotconf.web.safety import Safety


def config_server(
    service: Service,
    conf: HotConf[Any],
    *,
    safety: Safety,
    host: str,
    port: int,
    unix_socket: Path | None = None,
    heartbeat: float = 15.0,
    max_watchers: int = 10_000,
) -> Server:
    """Add a server of a configuration to a service, and return it."""
    app = config_app(conf, safety=safety, state=lambda: service.state, heartbeat=heartbeat, max_watchers=max_watchers)
    app.router.add_get("/", _front)
    server = Server(app, host=host, port=port, unix_socket=unix_socket)
    service.add(server)
    return server


@holds_no_data
async def _front(_request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "dashboard"})
