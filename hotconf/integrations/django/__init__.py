"""Django: a configuration that is live where requests are served, one snapshot for each request, and a system check.

`HOTCONF = "module:attribute"` in Django's settings names the configuration. Management commands start no engine: the
middleware does, which only a server makes.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any

try:
    from asgiref.sync import iscoroutinefunction, markcoroutinefunction
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
except ImportError:
    raise ImportError("hotconf.integrations.django needs the extra: pip install 'hotconf[django]'") from None

import hotconf.integrations.wsgi as wsgi
from hotconf.api.exchange import GENERATION
from hotconf.conf import HotConf

if TYPE_CHECKING:
    from collections.abc import Callable

    from hotconf.reload.snapshot import Snapshot

__all__ = ("PinSnapshotMiddleware", "configuration", "request_snapshot")

_KEY = "hotconf.snapshot"


def configuration() -> HotConf[Any]:
    """Return the configuration that `settings.HOTCONF` names.

    Raises:
        ImproperlyConfigured: It names none.
    """
    module, _, attribute = str(getattr(settings, "HOTCONF", "")).partition(":")
    found = getattr(importlib.import_module(module), attribute, None) if module and attribute else None
    if not isinstance(found, HotConf):
        raise ImproperlyConfigured('HOTCONF names a HotConf as "module:attribute"')
    return found


class PinSnapshotMiddleware:
    """Makes the configuration live in a process that serves, and pins a snapshot for each request.

    The first of `MIDDLEWARE`, so that all others of a request see its snapshot. For WSGI and ASGI.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.conf = configuration()
        self.get_response = get_response
        wsgi.start(self.conf)
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Answer a request, or return what does so."""
        if iscoroutinefunction(self.get_response):
            return self._answer(request)
        with contextlib.ExitStack() as leases:
            snapshot = self._pin(request, leases)
            return self._named(self.get_response(request), snapshot, leases)

    async def _answer(self, request: Any) -> Any:
        with contextlib.ExitStack() as leases:
            snapshot = self._pin(request, leases)
            return self._named(await self.get_response(request), snapshot, leases)

    def _pin(self, request: Any, leases: contextlib.ExitStack) -> Snapshot[Any]:
        request.META[_KEY] = snapshot = leases.enter_context(self.conf.pin())
        return snapshot

    def _named(self, response: Any, snapshot: Snapshot[Any], leases: contextlib.ExitStack) -> Any:
        response.headers.setdefault(GENERATION, str(snapshot.generation))
        if response.streaming:  # its content comes later, and Django closes it then
            kept, close = leases.pop_all(), response.close

            def close_both() -> None:
                with kept:
                    close()

            response.close = close_both
        return response


def request_snapshot(request: Any) -> Snapshot[Any]:
    """Return the snapshot that a request is pinned to.

    Args:
        request: The request of Django.

    Returns:
        The snapshot that was in force when the request began.

    Raises:
        KeyError: `PinSnapshotMiddleware` is not in `MIDDLEWARE`.
    """
    if _KEY not in request.META:
        raise KeyError("no snapshot is pinned: put PinSnapshotMiddleware first into MIDDLEWARE")
    snapshot: Snapshot[Any] = request.META[_KEY]
    return snapshot
