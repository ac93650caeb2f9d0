"""Trips: one reload under way, and who is a part of it."""

from __future__ import annotations

import contextlib
import contextvars
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hotconf.errors import ReentrantReload
from hotconf.values.times import utcnow

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Sequence

    from hotconf.reload.edit import Edit
    from hotconf.reload.request import Errand
    from hotconf.values.layer import Layer, SourceReading
    from hotconf.values.report import Stage

_inside: contextvars.ContextVar[Trip | None] = contextvars.ContextVar("hotconf_reload", default=None)


@dataclass(slots=True, eq=False)
class Trip:
    """One reload under way, on behalf of `owner`: its errand, and what it has come by so far.

    `stage` is where it is, as far as a report of what nobody foresaw can tell: "guard" and "defer" count as "validate".
    `away` is what must not come back by itself afterwards, `overrides` are those that it was made with.
    """

    errand: Errand
    owner: object
    started_at: dt.datetime = field(default_factory=utcnow)
    started: float = field(default_factory=time.monotonic)
    open: bool = True
    stage: Stage = "read"
    note: str = ""
    edit: Edit | None = None
    away: Sequence[SourceReading] | None = None
    overrides: tuple[Layer, ...] = ()

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """Count whatever is called or begun within as a part of this trip, until it has come to its end."""
        token = _inside.set(self)
        try:
            yield
        finally:
            self.open = False
            _inside.reset(token)


def refuse_reentry(owner: object) -> None:
    """Raise ReentrantReload where the caller is itself part of a reload, which would wait for itself."""
    trip = _inside.get()
    if trip is not None and trip.open and trip.owner is owner:
        raise ReentrantReload
