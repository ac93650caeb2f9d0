"""The wall clock. Everything else goes by the monotonic one, which nobody sets."""

from __future__ import annotations

import datetime as dt


def utcnow() -> dt.datetime:
    """Return the wall clock in UTC. The only place that reads it."""
    return dt.datetime.now(dt.UTC)
