"""ASGI: a lifespan, one snapshot for each request, the HTTP interface as an application, and uvicorn in a `Service`.

Read `pin` first, then `config` (the face of `hotconf.api` for ASGI), then `uvicorn`. Nothing here needs a framework.
"""

from typing import TYPE_CHECKING, Any

from hotconf.api.safety import Safety as Safety
from hotconf.integrations.asgi.config import config_app as config_app
from hotconf.integrations.asgi.pin import (
    PinSnapshot as PinSnapshot,
    lifespan as lifespan,
    request_snapshot as request_snapshot,
)

if TYPE_CHECKING:
    from hotconf.integrations.asgi.uvicorn import UvicornServer as UvicornServer

__all__ = ("PinSnapshot", "Safety", "UvicornServer", "config_app", "lifespan", "request_snapshot")


def __getattr__(name: str) -> Any:
    """Import `UvicornServer` when it is asked for: its sockets come with aiohttp, which an ASGI service may lack."""
    if name != "UvicornServer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hotconf.integrations.asgi.uvicorn import UvicornServer

    return UvicornServer
