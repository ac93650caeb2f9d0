"""The drain as a handler sees it: how far it is, and how a long-lived client learns of it.

The last message to a client is sent by the handler's own task wherever possible: it alone knows what it is sending.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from hotconf.web.server.sockets import host_of, unsent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 1.0
"""Seconds, unless the server says otherwise."""

_WS_ENDS = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})


@dataclass(slots=True, eq=False)
class DrainState:
    """How far the drain of one server is.

    In order: `closing`, every response is the last on its connection; `draining`, long-lived handlers must end;
    `cancelling`, what still runs is cancelled. `close_timeout` is in seconds. `informed` has the connections whose
    handler has taken `shutdown_event`, and closes its WebSocket itself.
    """

    close_timeout: float
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    closing: bool = False
    cancelling: bool = False
    informed: set[web.RequestHandler] = field(default_factory=set)

    def reset(self) -> None:
        """Begin anew: no drain is under way."""
        self.draining = asyncio.Event()
        self.closing = self.cancelling = False


def drain_state(request: web.BaseRequest) -> DrainState | None:
    """Return the state of the server that received a request; None under a server of another kind."""
    state = getattr(request.protocol, "drain", None)
    return state if isinstance(state, DrainState) else None


def shutdown_event(request: web.BaseRequest) -> asyncio.Event:
    """Return the event that tells a long-lived handler to send its last message and return.

    Args:
        request: The request that the handler answers.

    Returns:
        The event of the server's drain. Under a server of another kind: an event that is never set.
    """
    state = drain_state(request)
    if state is None:
        return asyncio.Event()
    state.informed.add(request.protocol)
    return state.draining


class OpenWebSocket:
    """A WebSocket that the server closes in a drain, with 1001 (going away), where nothing else does.

    A handler that waits for a message closes it in its own task: from another task aiohttp closes the transport without
    waiting for the client's reply, which then meets a reset. A handler that does something else has `close_timeout` to
    wait for a message again; then the socket is closed beside it, and what it still sends raises ConnectionError.
    """

    def __init__(self, ws: web.WebSocketResponse, request: web.BaseRequest, state: DrainState) -> None:
        self._ws = ws
        self._request = request
        self._state = state
        self._receive = ws.receive
        self._waiting: asyncio.Timeout | None = None
        self._ending = False
        self._closing: asyncio.Task[None] | None = None
        ws.receive = self.receive  # type: ignore[method-assign]  # every other way to wait for a message calls it
        if state.draining.is_set():
            self.end()

    @property
    def closed(self) -> bool:
        """Whether the close of the socket has begun."""
        return self._ws.closed

    async def receive(self, timeout: float | None = None) -> Any:
        """Wait for a message as `WebSocketResponse.receive` does; in a drain close the socket instead."""
        if not self._ending:
            limit = asyncio.timeout(None)
            try:
                async with limit:
                    self._waiting = limit
                    return await self._receive(timeout)
            except TimeoutError:
                if not limit.expired():
                    raise
            finally:
                self._waiting = None
        await self._close()
        return await self._receive(timeout)

    def end(self) -> None:
        """Close the socket, unless its handler does. A second call has no effect."""
        if self._ending or self._ws.closed or self._request.protocol in self._state.informed:
            return
        self._ending = True
        abort_slow_reader(self._request)
        loop = asyncio.get_running_loop()
        if self._waiting is None:
            loop.call_later(self._state.close_timeout, self._close_beside)
        else:
            self._waiting.reschedule(loop.time())

    def _close_beside(self) -> None:
        self._closing = asyncio.create_task(self._close())

    async def _close(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._state.close_timeout):
                await self._ws.close(code=WSCloseCode.GOING_AWAY)


async def iter_messages(ws: web.WebSocketResponse, request: web.BaseRequest) -> AsyncGenerator[WSMessage, None]:
    """Yield the messages of a WebSocket until its client leaves; in a drain close it with 1001 (going away).

    Wrap it in `contextlib.aclosing` if the loop may end early.

    Args:
        ws: The prepared WebSocket.
        request: The request that opened it.

    Yields:
        Each message but those that close the connection.
    """
    # The socket is closed here, in the task that reads: from another task aiohttp closes the transport without waiting
    # for the client's reply, which then meets a reset.
    draining = asyncio.ensure_future(shutdown_event(request).wait())
    draining.add_done_callback(lambda ended: None if ended.cancelled() else abort_slow_reader(request))
    receiving: asyncio.Task[WSMessage] | None = None
    try:
        while not draining.done():
            receiving = asyncio.ensure_future(ws.receive())
            await asyncio.wait((receiving, draining), return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                break
            message = receiving.result()
            if message.type in _WS_ENDS:
                return
            yield message
    finally:
        pending = [task for task in (draining, receiving) if task is not None]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_close_timeout(request)):
            await ws.close(code=WSCloseCode.GOING_AWAY)


def abort_slow_reader(request: web.BaseRequest) -> None:
    """Abort the connection of a long-lived handler if bytes wait to be sent when the server's `close_timeout` is over.

    To be called when the drain has begun: a client that does not read would hold it until its deadline, and the handler
    may be in the middle of a message.
    """

    def abort_unsent(transport: asyncio.Transport) -> None:
        if unsent(transport):
            log.info("closed a connection whose client stopped reading: %s", host_of(peername))
            transport.abort()

    if request.transport is not None:
        peername = request.transport.get_extra_info("peername")
        asyncio.get_running_loop().call_later(_close_timeout(request), abort_unsent, request.transport)


def _close_timeout(request: web.BaseRequest) -> float:
    state = drain_state(request)
    return CLOSE_TIMEOUT if state is None else state.close_timeout
