"""gRPC with asyncio: one snapshot for each call, unary or streaming."""

from __future__ import annotations

import contextvars
import inspect
from typing import TYPE_CHECKING, Any

try:
    import grpc
except ImportError:
    raise ImportError("hotconf.integrations.grpc needs the extra: pip install 'hotconf[grpc]'") from None

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from hotconf.conf import HotConf
    from hotconf.reload.snapshot import Snapshot

__all__ = ("PinSnapshot", "call_snapshot")

_current: contextvars.ContextVar[Snapshot[Any]] = contextvars.ContextVar("hotconf.snapshot")


class PinSnapshot(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # gRPC has no types
    """An interceptor that pins a snapshot for each call: `grpc.aio.server(interceptors=[PinSnapshot(conf)])`.

    The first of the interceptors, so that the others see the snapshot too. A stream keeps it, and the resources in it,
    until it ends: one that is to follow changes iterates over `conf.changes()`. Handlers that are not async run in a
    thread of gRPC, without a pin.

    Args:
        conf: The configuration.
    """

    def __init__(self, conf: HotConf[Any]) -> None:
        self._conf = conf

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """Return the handler of a call, with a pin around it."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        kind = f"{_kind(handler.request_streaming)}_{_kind(handler.response_streaming)}"
        call = getattr(handler, kind)
        pinned: Callable[..., Any]
        if inspect.isasyncgenfunction(call):
            pinned = self._pinned_stream(call)
        elif inspect.iscoroutinefunction(call):
            pinned = self._pinned(call)
        else:
            return handler
        return getattr(grpc, f"{kind}_rpc_method_handler")(
            pinned,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _pinned(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def pinned(request: Any, context: Any) -> Any:
            with self._conf.pin() as snapshot:
                _current.set(snapshot)  # of this call alone: gRPC runs each in a task of its own
                return await call(request, context)

        return pinned

    def _pinned_stream(self, call: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def pinned(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._conf.pin() as snapshot:
                _current.set(snapshot)
                async for response in call(request, context):
                    yield response

        return pinned


def call_snapshot() -> Snapshot[Any]:
    """Return the snapshot that the running call is pinned to.

    Raises:
        LookupError: No call runs here, or the server has no `PinSnapshot`.
    """
    return _current.get()


def _kind(is_streaming: bool) -> str:  # noqa: FBT001 - named by its function
    return "stream" if is_streaming else "unary"
