"""Writing: reload, patch, confirm and roll back. Everything here goes through the same reload as any other trigger."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from hotconf.values.times import utcnow
from hotconf.web.answers import report_answer
from hotconf.web.parameters import duration, flag, json_body, merge_patch, only_parameters
from hotconf.web.pin import GENERATION, release_snapshot
from hotconf.web.problem import Problem
from hotconf.web.safety import token_name
from hotconf.web.tokens import ANY, tags_in, token_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from aiohttp import web

    from hotconf.conf import HotConf
    from hotconf.reload.snapshot import Snapshot
    from hotconf.values.report import Report
    from hotconf.web.reading import SourceReading

_LONGEST_CONFIRM = 24 * 3600.0


class Writing:
    """Changes one configuration for clients. One that leaves before its answer came has aborted nothing."""

    def __init__(self, conf: HotConf[Any], reading: SourceReading) -> None:
        self._conf = conf
        self._reading = reading

    async def reload(self, request: web.Request) -> web.Response:
        """Read the sources again. While a reload runs, this waits for the one after it."""
        only_parameters(request, "force", "dry_run")
        await json_body(request)
        force, dry_run = flag(request, "force"), flag(request, "dry_run")
        return await self._carry_out(request, self._conf.reload(force=force, trigger="http", dry_run=dry_run))

    async def patch(self, request: web.Request) -> web.Response:
        """Merge a patch into the overlay, if nothing has changed since the client read what it names."""
        only_parameters(request, "confirm", "dry_run")
        tags = _required_tags(request)
        values = await merge_patch(request)
        confirm, dry_run = _confirm_within(request), flag(request, "dry_run")

        def expect(snapshot: Snapshot[Any]) -> bool:
            return any(tag == ANY or token_of(tag) == self._reading.token(snapshot) for tag in tags)

        patch = self._conf.patch(values, confirm=confirm, expect=expect, dry_run=dry_run, trigger="patch")
        return await self._carry_out(request, patch)

    async def confirm(self, request: web.Request) -> web.Response:
        """Make the patch permanent that waits for it."""
        only_parameters(request)
        await json_body(request)
        return await self._carry_out(request, self._conf.confirm())

    async def rollback(self, request: web.Request) -> web.Response:
        """Go back to a generation, without a body to the one before the running one."""
        only_parameters(request)
        generation = _generation(await json_body(request, "generation"))
        return await self._carry_out(request, self._conf.rollback(generation))

    async def _carry_out(self, request: web.Request, errand: Awaitable[Report]) -> web.Response:
        """Return the report of an errand, with the tag of what is in force afterwards: for the next patch."""
        release_snapshot(request)  # what is replaced must not wait for the request that asked for it
        number: int | None = None
        try:
            report = await errand
            number = report.id
        finally:
            self._note(request, number)
        snapshot = self._conf.snapshot
        headers = {"ETag": f'"{self._reading.token(snapshot)}"', GENERATION: str(snapshot.generation)}
        return report_answer(report, headers)

    def _note(self, request: web.Request, report: int | None) -> None:
        """Let the audit log say who asked. Without a report: for something that could not be done."""
        if self._conf.audit is not None:
            action, peer = f"{request.method} {request.path}", request.remote or "unix socket"
            self._conf.audit.asked(action, when=utcnow(), peer=peer, token=token_name(request), report=report)


def _required_tags(request: web.Request) -> tuple[str, ...]:
    try:
        tags = tags_in(request, "If-Match", strong=True)
    except ValueError:
        raise Problem(HTTPStatus.BAD_REQUEST, "If-Match must be the ETag of /config as it came, or *") from None
    if tags is None:
        detail = "read /config, and send its ETag as If-Match: nobody's change is to be overwritten unseen"
        raise Problem(HTTPStatus.PRECONDITION_REQUIRED, detail)
    return tags


def _confirm_within(request: web.Request) -> float | None:
    seconds = duration(request, "confirm")
    if seconds is not None and not 0 < seconds <= _LONGEST_CONFIRM:
        raise Problem(HTTPStatus.BAD_REQUEST, "confirm must be more than no time and at most 24 hours")
    return seconds


def _generation(body: Any) -> int | None:
    generation = body.get("generation")
    if generation is not None and (not isinstance(generation, int) or isinstance(generation, bool)):
        raise Problem(HTTPStatus.BAD_REQUEST, "generation must be a number, or left out for the one before")
    return generation
