"""Guards: what is compared at the end of each stage, as `propose --guard` spells it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

_MEASURE = re.compile(r"([A-Za-z_][\w.-]{0,63})(?::([0-9]{1,4}(?:\.[0-9]{1,3})?)%)?", re.ASCII)
_QUERY = re.compile(r"prometheus:(https?://[^#\s]+)#(.+)([<>])([-+0-9.eE]+)", re.DOTALL)

_TOLERANCE = 10.0
"""Per cent."""


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard: a measure of the instances, or a query of Prometheus with its limit.

    `NAME[:TOLERANCE%]` compares a measure; `prometheus:URL#QUERY<LIMIT` (or `>`) asks for one value. `tolerance` is a
    share: 0.1 for 10 %.
    """

    text: str
    name: str = ""
    tolerance: float = _TOLERANCE / 100
    url: str = ""
    query: str = ""
    limit: float = math.nan
    upper: bool = True

    @classmethod
    def parse(cls, text: str) -> Guard:
        """Return the guard that a text spells.

        Raises:
            ValueError: It spells none. The message is for the operator.
        """
        if found := _QUERY.fullmatch(text):
            url, query, sign, limit = found.groups()
            if "@" in url.split("/")[2]:
                raise ValueError("a guard's URL must hold no password")
            return cls(text, f"{query.strip()}", url=url, query=query.strip(), limit=float(limit), upper=sign == "<")
        if found := _MEASURE.fullmatch(text):
            return cls(text, found[1], float(found[2] or _TOLERANCE) / 100)
        raise ValueError("a guard is NAME[:TOLERANCE%], or prometheus:URL#QUERY<LIMIT")

    def judge_value(self, value: float | None) -> tuple[Literal["pass", "fail", "undecided"], str]:
        """Judge what the query returned: None and NaN decide nothing."""
        if value is None or math.isnan(value):
            return "undecided", f"{self.query} has no value"
        sign = "<" if self.upper else ">"
        kept = value < self.limit if self.upper else value > self.limit
        return "pass" if kept else "fail", f"{self.query} is {value:g}, and must be {sign} {self.limit:g}"
