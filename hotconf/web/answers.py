"""Answers: JSON documents that are built for one request."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from hotconf.values.report import jsonable
from hotconf.web.problem import Problem
from hotconf.web.representations import encoded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hotconf.values.report import Report


def json_answer(
    value: Any, *, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a JSON document. It is as it is now: nobody is to keep it."""
    return encoded_answer(encoded(value), status=status, headers=headers)


def encoded_answer(
    body: bytes, *, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Do what `json_answer` does with a document that is encoded already."""
    return web.Response(
        status=status,
        body=body,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def report_answer(report: Report, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a report. Raises Problem (422) with every fault for a rejected one."""
    members = jsonable(report)
    if report.outcome != "rejected":
        return json_answer(members, headers=headers)
    raise Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "rejected; what was running stays in force: mend the faults and ask again",
        faults=members.pop("faults"),
        report=members,
    )
