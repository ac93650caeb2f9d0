"""Durations: what may be given as a number of seconds."""

from __future__ import annotations

import math


def seconds(name: str, value: float, *, least: float = 0.0) -> float:
    """Return a value that is a finite number of seconds, not below `least`. Raises ValueError, which names it.

    Without this a NaN passes for anything: no comparison with it holds, and a timer of it never rings.
    """
    if not least <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of seconds, not below {least:g}")
    return value
