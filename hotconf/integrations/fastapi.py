"""FastAPI: what Starlette has, and the settings of a request as a dependency."""

# Without `from __future__ import annotations`: FastAPI reads the annotations of a dependency.

from typing import Generic, TypeVar

from pydantic import BaseModel

try:
    from starlette.requests import HTTPConnection
except ImportError:
    raise ImportError("hotconf.integrations.fastapi needs the extra: pip install 'hotconf[fastapi]'") from None

from hotconf.conf import HotConf
from hotconf.integrations.asgi import request_snapshot
from hotconf.integrations.starlette import setup

__all__ = ("Pinned", "setup")

S = TypeVar("S", bound=BaseModel)


class Pinned(Generic[S]):
    """A dependency with the settings that a request or WebSocket is pinned to: `Annotated[App, Depends(Pinned(conf))]`.

    The application must have been given to `setup`.

    Args:
        conf: The configuration.
    """

    def __init__(self, conf: HotConf[S]) -> None:
        self._conf = conf

    async def __call__(self, connection: HTTPConnection) -> S:
        """Return the settings. Raises KeyError where no snapshot is pinned."""
        settings: S = request_snapshot(connection.scope).settings
        return settings
