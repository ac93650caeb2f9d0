"""Repeats: what was asked before, byte for byte, and is answered the same until something changes.

A client that polls sends the same head again and again. Who may ask, what was meant and which answer is due were found
out the first time, and once more when it came back. All of that hangs on the head alone, so that from then on the
answer can leave as soon as the bytes are in. Only `Ready` answers that say until when they hold are repeated, and only
where nobody else takes part.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet

from aiohttp import web

if TYPE_CHECKING:
    from hotconf.web.server.reach import Reach
    from hotconf.web.server.ready import Ready, ReadyResponse

M = TypeVar("M")

_MOST = 1024
_LONGEST = 2048  # bytes of a head that is kept
_END = b"\r\n\r\n"

_by_head: WeakSet[object] = WeakSet()


def by_head_alone(middleware: M) -> M:
    """Declare that what a middleware does to a request hangs on nothing but its head: it need not be asked again."""
    _by_head.add(middleware)
    return middleware


def can_repeat(app: web.Application) -> bool:
    """Whether no middleware and no signal of an application would miss a request that is answered without it."""
    return not app.on_response_prepare and all(middleware in _by_head for middleware in app.middlewares)


class Repeats:
    """The answers of one server, by the head that asked for them and the reach of the address that it came to.

    What may be told to this machine need not be for others to hear.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Reach, bytes], Ready] = {}

    def find(self, reach: Reach, head: bytes) -> Ready | None:
        """Return the answer to a head, None where it has to be found out."""
        ready = self._known.get((reach, head))
        return ready if ready is not None and ready.holds() else None

    def note(self, reach: Reach, head: bytes, request: web.BaseRequest, response: ReadyResponse) -> None:
        """Have an answer repeated if it leaves as it is. `head` is what came in one piece with the request."""
        if response.repeats and _is_whole(head, request):
            response.when_sent(lambda ready: self._keep((reach, head), ready))

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()

    def _keep(self, name: tuple[Reach, bytes], ready: Ready) -> None:
        # What was in force before goes as soon as anything newer is known: it would keep a whole snapshot alive.
        if len(self._known) >= _MOST or any(not known.holds() for known in islice(self._known.values(), 1)):
            self._known.clear()
        self._known[name] = ready


def is_one_head(data: bytes) -> bool:
    """Whether bytes end with the end of a head, and hold no other: what begins with them has none behind it."""
    return data.find(_END) == len(data) - len(_END) >= 0


def _is_whole(head: bytes, request: web.BaseRequest) -> bool:
    """Whether these bytes are one request to its end: no second one, no body and no other protocol behind it.

    And one that the server's application answered itself: one that is mounted in it has middlewares of its own.
    """
    if not isinstance(request, web.Request) or len(request.match_info.apps) > 1:
        return False
    if len(head) > _LONGEST or not is_one_head(head):
        return False
    return not request.body_exists and "Upgrade" not in request.headers
