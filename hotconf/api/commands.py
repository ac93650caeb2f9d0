"""Commands: reload, patch, confirm and roll back. Each goes through the same reload as any other trigger."""

from __future__ import annotations

import asyncio
import functools
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from hotconf.api.exchange import GENERATION, Problem, json_response
from hotconf.api.parameters import ANY, duration, flag, json_body, merge_patch, only_parameters, tags_in, token_of
from hotconf.values.report import jsonable
from hotconf.values.times import utcnow

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from hotconf.api.config import ConfigHandlers
    from hotconf.api.exchange import Request, Response
    from hotconf.conf import HotConf
    from hotconf.reload.snapshot import Snapshot
    from hotconf.values.report import Report

_LONGEST_CONFIRM = 24 * 3600.0
_LARGE_REPORT = 300  # changed paths and faults


class CommandHandlers:
    """Changes one configuration for clients. A client that leaves before its response came has aborted nothing."""

    def __init__(self, conf: HotConf[Any], config: ConfigHandlers) -> None:
        self._conf = conf
        self._config = config

    async def reload(self, request: Request) -> Response:
        """Read the sources again. While a reload runs, this waits for the one after it."""
        only_parameters(request, "force", "dry_run")
        await json_body(request)
        force, dry_run = flag(request, "force"), flag(request, "dry_run")
        return await self._carry_out(request, self._conf.reload(force=force, trigger="http", dry_run=dry_run))

    async def patch(self, request: Request) -> Response:
        """Merge a patch into the overlay, if nothing has changed since the client read the state that it names."""
        only_parameters(request, "confirm", "dry_run")
        try:
            tags = tags_in(request.header("If-Match"), strong=True)
        except ValueError:
            raise Problem(
                HTTPStatus.BAD_REQUEST, "If-Match must be the ETag of /config as it was received, or *"
            ) from None
        if tags is None:
            detail = "send the ETag of /config as If-Match to avoid overwriting a concurrent change"
            raise Problem(HTTPStatus.PRECONDITION_REQUIRED, detail)
        values = await merge_patch(request)
        confirm, dry_run = duration(request, "confirm"), flag(request, "dry_run")
        if confirm is not None and not 0 < confirm <= _LONGEST_CONFIRM:
            raise Problem(HTTPStatus.BAD_REQUEST, "confirm must be between 0 and 24 hours")

        def expect(snapshot: Snapshot[Any]) -> bool:
            return any(tag == ANY or token_of(tag) == self._config.token(snapshot) for tag in tags)

        patch = self._conf.patch(values, confirm=confirm, expect=expect, dry_run=dry_run, trigger="patch")
        return await self._carry_out(request, patch)

    async def confirm(self, request: Request) -> Response:
        """Make the patch permanent that waits for it."""
        only_parameters(request)
        await json_body(request)
        return await self._carry_out(request, self._conf.confirm())

    async def rollback(self, request: Request) -> Response:
        """Go back to a generation, without a body to the previous one."""
        only_parameters(request)
        generation = (await json_body(request, "generation")).get("generation")
        if generation is not None and (not isinstance(generation, int) or isinstance(generation, bool)):
            raise Problem(HTTPStatus.BAD_REQUEST, "generation must be a number, or left out for the previous one")
        return await self._carry_out(request, self._conf.rollback(generation))

    async def _carry_out(self, request: Request, command: Awaitable[Report]) -> Response:
        """Return the report of a command, with the tag of the state in force afterwards: for the next patch.

        Where it was rejected: a problem document (422) with every fault.
        """
        request.release_snapshot()  # a snapshot that is replaced must not wait for the request that asked for it
        number: int | None = None
        try:
            report = await command
            number = report.id
        finally:
            if self._conf.audit is not None:  # without a number: the command could not be done
                action, peer = f"{request.method} {unquote(request.path)}", request.peer
                self._conf.audit.asked(action, when=utcnow(), peer=peer, token=request.token, report=number)
        write = functools.partial(self._written, report, self._conf.snapshot)
        # Tens of thousands of paths or faults would hold the event loop.
        is_large = len(report.faults) + len(report.changed) > _LARGE_REPORT
        return await asyncio.to_thread(write) if is_large else write()

    def _written(self, report: Report, snapshot: Snapshot[Any]) -> Response:
        document = jsonable(report)
        if report.outcome == "rejected":
            return Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "rejected; the running configuration stays in force: fix the faults and retry",
                faults=document.pop("faults"),
                report=document,
            ).response()
        headers = {"ETag": f'"{self._config.token(snapshot)}"', GENERATION: str(snapshot.generation)}
        return json_response(document, headers=headers)
