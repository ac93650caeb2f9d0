"""Times: the wall clock, and what counts as a number of seconds."""

from __future__ import annotations

import datetime as dt
import math
import re
import sys
import time

DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([sm]?)", re.ASCII)


def utcnow() -> dt.datetime:
    """Return the wall clock in UTC. Only this module reads it; every timer uses a monotonic clock."""
    return dt.datetime.now(dt.UTC)


def file_clock() -> int:
    """Return the time that a file gets which is written now, in nanoseconds; 0 where that is not known.

    It is compared with the times of files alone.
    """
    coarse = 5 if sys.platform == "linux" else getattr(time, "CLOCK_REALTIME", None)  # CLOCK_REALTIME_COARSE
    return time.clock_gettime_ns(coarse) if coarse is not None else 0


def check_seconds(name: str, value: float, *, least: float = 0.0) -> float:
    """Return a number of seconds that a timer can have: finite, and not below `least`.

    NaN has to be refused by name: every comparison with it is false, so it would pass any other check, and a timer that
    waits for it never fires.

    Raises:
        ValueError: The value is no such number. The message starts with `name`.
    """
    if not least <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of seconds, not below {least:g}")
    return value


def parse_duration(text: str) -> float:
    """Return the seconds that a text names: `30`, `30s`, `2m` or `0.5`.

    Raises:
        ValueError: The text is no duration. The message is for the user and does not quote the text.
    """
    found = DURATION.fullmatch(text)
    if found is None:
        raise ValueError("must be a time such as 30, 30s or 2m")
    return float(found[1]) * (60 if found[2] == "m" else 1)
