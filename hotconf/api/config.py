"""Reading: `GET /config` and its parts, at once or when they change, with one state token for both."""

from __future__ import annotations

import functools
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from multidict import CIMultiDict

from hotconf.api.cache import BuildCache, is_large
from hotconf.api.exchange import GENERATION, Problem, Response
from hotconf.api.parameters import ANY, LONGEST_WAIT, duration, readable_tags, token_of
from hotconf.api.parts import keys_of, part_at
from hotconf.api.representations import JSON, Representation, best, written
from hotconf.schema.redact import with_types
from hotconf.schema.tree import value_at

if TYPE_CHECKING:
    from hotconf.api.exchange import Request
    from hotconf.api.feed import Feed
    from hotconf.conf import HotConf
    from hotconf.reload.snapshot import Snapshot
    from hotconf.values.keypath import KeyPath


class View(NamedTuple):
    """One part of one snapshot in one notation, with the two responses that clients get.

    `changed_in` is the generation in which the part's values last changed, `token` names it, and `tag` is the token
    with the suffix of the notation.
    """

    path: KeyPath
    changed_in: int
    token: str
    tag: str
    found: Response
    unchanged: Response


class ConfigHandlers:
    """Answers reads of one configuration, in one event loop. Each view is built once for a snapshot and shared."""

    def __init__(self, conf: HotConf[Any], feed: Feed) -> None:
        self._conf = conf
        self._feed = feed
        self._views: BuildCache[Snapshot[Any], View] = BuildCache(lambda snapshot: is_large(snapshot.settings))

    async def read(self, request: Request) -> Response:
        """Answer a read: at once, or with `wait` when the client's values are no longer in force."""
        wait = duration(request, "wait") if request.query else None
        view = await self._view(request)
        if wait is None:
            return view.unchanged if _matches(request, view) else view.found
        if not _is_current(request, view):
            return view.found
        path, changed_in = view.path, view.changed_in
        del view  # a waiting request must keep nothing of an old snapshot alive, nor its resources open
        request.release_snapshot()
        await self._feed.park(request, path, changed_in, seconds=min(wait, LONGEST_WAIT))
        now = await self._view(request)
        return now.found if now.changed_in > changed_in else now.unchanged

    def token(self, snapshot: Snapshot[Any]) -> str:
        """Return the state token of the whole."""
        return self._feed.token(snapshot.changed_in(()))

    async def _view(self, request: Request) -> View:
        snapshot = self._conf.snapshot  # read once: tag, generation and body must be of the same one
        keys = keys_of(request.tail)
        notation = best(request.header("Accept"))
        name = keys, notation.suffix  # by the keys: a path can be spelled in many ways
        view = self._views.built(snapshot, name)
        if view is not None:
            return view
        return await self._views.get(snapshot, name, functools.partial(self._build, snapshot, keys, notation))

    def _build(self, snapshot: Snapshot[Any], keys: tuple[str, ...], notation: Representation) -> View:
        path, value = part_at(snapshot.document, keys)
        changed_in = snapshot.changed_in(path)
        token = self._feed.token(changed_in)
        tag = token + notation.suffix
        if notation is not JSON:
            value = with_types(value, value_at(snapshot.settings, path))
        # In the form in which a face copies it: a response is made for each request.
        headers = CIMultiDict(
            {
                GENERATION: str(snapshot.generation),
                "ETag": f'"{tag}"',
                "Cache-Control": "no-cache",
                "Vary": "Accept",
            }
        )
        unchanged = Response(b"", HTTPStatus.NOT_MODIFIED, headers.copy())
        headers["Content-Type"] = notation.media_type
        return View(path, changed_in, token, tag, Response(written(notation, value), headers=headers), unchanged)


def _matches(request: Request, view: View) -> bool:
    """Whether a client has the very bytes. What cannot be read as a tag matches nothing."""
    given = request.header("If-None-Match")
    if given is None or given == view.unchanged.headers["ETag"]:
        return given is not None
    tags, _ = readable_tags(given)
    return view.tag in tags or ANY in tags


def _is_current(request: Request, view: View) -> bool:
    """Whether a client that wants to wait has the values that are in force, in whatever notation.

    Values from another process, or from an earlier run of this one, are not. Raises Problem for what is not a tag,
    unless another tag of the list names what is in force.
    """
    tags, is_well_formed = readable_tags(request.header("If-None-Match"))
    tokens = [tag if tag == ANY else token_of(tag) for tag in tags]
    if any(token in (ANY, view.token) for token in tokens):
        return True
    if None in tokens or not is_well_formed:
        raise Problem(
            HTTPStatus.BAD_REQUEST, "If-None-Match holds no token of this service: send the request once without it"
        )
    return False
