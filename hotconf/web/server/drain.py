"""A server's drain, as a handler meets it: how far it is, and how a client that stays for long hears of it.

Whatever is said last is said in the handler's own task, which alone knows what it is in the midst of.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from hotconf.web.server.connection import unsent
from hotconf.web.server.listener import host_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 1.0
"""Seconds, unless the server says otherwise."""

_WS_ENDS = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})


@dataclass(slots=True, eq=False)
class DrainState:
    """How far the drain of one server is.

    In order: `last_words`, every answer is the last on its connection; `draining`, long-lived handlers must come to an
    end; `cutting`, whatever still runs is cancelled. `close_timeout` is in seconds.
    """

    close_timeout: float
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    last_words: bool = False
    cutting: bool = False

    def reset(self) -> None:
        """Begin anew: no drain is under way."""
        self.draining = asyncio.Event()
        self.last_words = self.cutting = False

    def mark(self, request: web.BaseRequest) -> None:
        """Have `drain_state` find this state for a request."""
        request[_STATE] = self


_STATE = web.RequestKey("drain", DrainState)


def drain_state(request: web.BaseRequest) -> DrainState | None:
    """Return the state of the server that a request came to, None where it is another than ours."""
    return request.get(_STATE)


def shutdown_event(request: web.BaseRequest) -> asyncio.Event:
    """Return the event that tells a long-lived handler to end: send its last words, and return.

    Under another server than ours: an event that is never set.
    """
    state = drain_state(request)
    return asyncio.Event() if state is None else state.draining


async def iter_messages(ws: web.WebSocketResponse, request: web.BaseRequest) -> AsyncGenerator[WSMessage, None]:
    """Yield what the client sends until it leaves; in a drain close with 1001 (going away).

    Wrap it in `contextlib.aclosing` if the loop may end early. Closing happens here, in the task that reads: from
    another one aiohttp closes the transport without waiting for the client's reply, which then meets a reset.
    """
    draining = asyncio.ensure_future(shutdown_event(request).wait())
    draining.add_done_callback(lambda ended: None if ended.cancelled() else limit_goodbye(request))
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
        await _settle(draining, receiving)
    await _go_away(ws, timeout=_close_timeout_of(request))


def limit_goodbye(request: web.BaseRequest) -> None:
    """Tear the connection of a long-lived handler down where, after the server's `close_timeout`, bytes wait for it.

    To be called when the drain has begun: a client that does not read what it is sent would hold it to its deadline,
    and its handler perhaps in the middle of a message.
    """
    if request.transport is not None:
        later = asyncio.get_running_loop().call_later
        later(_close_timeout_of(request), _abort_unsent, request.transport)


def _abort_unsent(transport: asyncio.Transport) -> None:
    if unsent(transport):
        log.info("a client did not read our last words: %s", host_of(transport.get_extra_info("peername")))
        transport.abort()


def _close_timeout_of(request: web.BaseRequest) -> float:
    state = drain_state(request)
    return CLOSE_TIMEOUT if state is None else state.close_timeout


async def _settle(*tasks: asyncio.Future[Any] | None) -> None:
    started = [task for task in tasks if task is not None]
    for task in started:
        task.cancel()
    await asyncio.gather(*started, return_exceptions=True)


async def _go_away(ws: web.WebSocketResponse, *, timeout: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await ws.close(code=WSCloseCode.GOING_AWAY)
