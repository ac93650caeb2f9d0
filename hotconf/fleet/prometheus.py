"""The guard that asks a Prometheus, over its HTTP API. What it cannot answer decides nothing."""

from __future__ import annotations

import logging
import math
from typing import Any, Final

from hotconf.fleet.guards import Guard

log = logging.getLogger("hotconf")

_TIMEOUT: Final = 2.0
_OLDEST: Final = 300.0
"""Seconds of the server's own clock that a sample may be old."""


async def ask_prometheus(text: str) -> float | None:
    """Return the value of a guard's query; None where there is no single, finite, recent one.

    An unreachable server, an error, no series, several series, NaN and an old sample are all no value.
    """
    import aiohttp

    guard = Guard.parse(text)
    url = f"{guard.url.rstrip('/')}/api/v1/query"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT)) as session,
            # The time of the newest sample comes as a value, so that the server's clock alone counts.
            session.get(url, params={"query": guard.query}) as answer,
            session.get(url, params={"query": f"time() - max(timestamp({guard.query}))"}) as aged,
        ):
            value, age = _single(await answer.json()), _single(await aged.json())
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
        log.warning("the guard %s has no value: %s", guard.query, type(error).__name__)
        return None
    return None if value is None or (age is not None and age > _OLDEST) else value


def _single(document: Any) -> float | None:
    """Return the one number of an answer, None for any other answer."""
    try:
        data = document["data"]
        if data["resultType"] == "scalar":
            value = float(data["result"][1])
        else:
            (series,) = data["result"]
            value = float(series["value"][1])
    except (LookupError, TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
