"""Reading: `GET /config` and its parts, at once or when they change, with one token for both."""

from __future__ import annotations

import functools
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

from hotconf.web.builds import Builds, is_large
from hotconf.web.parameters import LONGEST_WAIT, duration
from hotconf.web.parts import keys_of, part_at
from hotconf.web.pin import GENERATION, release_snapshot
from hotconf.web.problem import Problem
from hotconf.web.representations import best, written
from hotconf.web.tokens import ANY, tags_in, token_of

if TYPE_CHECKING:
    from hotconf.conf import HotConf
    from hotconf.reload.snapshot import Snapshot
    from hotconf.values.keypath import KeyPath
    from hotconf.web.feed import Feed
    from hotconf.web.representations import Representation


class View(NamedTuple):
    """One part of one snapshot in one notation, as clients see it.

    `changed_in` is the generation in which the part's values last changed, `token` names it, and `tag` is the token
    with the suffix of the notation. `headers` come with both answers.
    """

    path: KeyPath
    changed_in: int
    token: str
    tag: str
    headers: dict[str, str]
    media_type: str
    body: bytes

    def found(self) -> web.Response:
        """Return the answer with the body, which all its responses share."""
        return web.Response(body=self.body, headers={**self.headers, "Content-Type": self.media_type})

    def unchanged(self) -> web.Response:
        """Return the answer to a client that has the body."""
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=self.headers)


class SourceReading:
    """Answers reads of one configuration, in one event loop. Each view is built once for a snapshot and shared."""

    def __init__(self, conf: HotConf[Any], feed: Feed) -> None:
        self._conf = conf
        self._feed = feed
        self._views: Builds[Snapshot[Any], View] = Builds(lambda snapshot: is_large(snapshot.settings))

    async def config(self, request: web.Request) -> web.Response:
        """Answer a read: at once, or with `wait` when what the client has is not what is in force any more."""
        wait = duration(request, "wait")
        view = await self._view(request)
        if wait is None:
            return view.unchanged() if _matches(request, view) else view.found()
        if not _is_current(request, view):
            return view.found()
        path, changed_in = view.path, view.changed_in
        del view  # who waits must keep nothing of an old snapshot alive, nor its resources open
        release_snapshot(request)
        await self._feed.park(request, path, changed_in, seconds=min(wait, LONGEST_WAIT))
        now = await self._view(request)
        return now.found() if now.changed_in > changed_in else now.unchanged()

    def token(self, snapshot: Snapshot[Any]) -> str:
        """Return the token of the whole."""
        return self._feed.token(snapshot.changed_in(()))

    async def _view(self, request: web.Request) -> View:
        snapshot = self._conf.snapshot  # read once: tag, generation and body must be of the same one
        notation = best(",".join(request.headers.getall("Accept", ())))
        keys = keys_of(tail_of(request))  # by the keys: a path can be spelled in many ways
        build = functools.partial(self._build, snapshot, keys, notation)
        return await self._views.get(snapshot, (keys, notation.name), build)

    def _build(self, snapshot: Snapshot[Any], keys: tuple[str, ...], notation: Representation) -> View:
        path, value = part_at(snapshot.document, keys)
        changed_in = snapshot.changed_in(path)
        token = self._feed.token(changed_in)
        tag = token + notation.suffix
        headers = {
            GENERATION: str(snapshot.generation),
            "ETag": f'"{tag}"',
            "Cache-Control": "no-cache",
            "Vary": "Accept",
        }
        return View(path, changed_in, token, tag, headers, notation.media_type, written(notation, value))


def tail_of(request: web.Request) -> str:
    """Return what stands behind the route in the path as it was sent, the empty string where that is all."""
    if "path" not in request.match_info:
        return ""
    resource = request.match_info.route.resource
    prefix = resource.canonical.partition("{")[0] if resource is not None else "/"
    # Our prefix may have been sent in another spelling, %63onfig: its slashes count, not its letters.
    return request.rel_url.raw_path.split("/", prefix.count("/"))[-1]


def _matches(request: web.Request, view: View) -> bool:
    """Whether a client has the very bytes. What cannot be read as tags matches nothing."""
    given = request.headers.get("If-None-Match")
    if given is None or given == view.headers["ETag"]:
        return given is not None
    try:
        tags = tags_in(request, "If-None-Match") or ()
    except ValueError:
        return False
    return view.tag in tags or ANY in tags


def _is_current(request: web.Request, view: View) -> bool:
    """Whether a client that wants to wait has the values that are in force, in whatever notation.

    What it has from another process, or another life of this one, is not. Raises Problem for what no process gave.
    """
    try:
        tags = tags_in(request, "If-None-Match") or ()
    except ValueError:
        tags = ("",)
    tokens = [tag if tag == ANY else token_of(tag) for tag in tags]
    if None in tokens:
        raise Problem(HTTPStatus.BAD_REQUEST, "If-None-Match holds no token of this service: leave it out once")
    return any(token in (ANY, view.token) for token in tokens)
