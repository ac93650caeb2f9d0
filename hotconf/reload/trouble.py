"""Trouble: what keeps a file from being written, said once when it begins and once when it is over."""

from __future__ import annotations

import logging

log = logging.getLogger("hotconf")


class WriteStatus:
    """The state of one file that may fail for a while. `reason` is None as long as all is well."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.reason: str | None = None

    def begin(self, reason: str) -> None:
        """Note a failure. Only one that is new is logged."""
        if reason != self.reason:
            log.warning("%s %s", self.what, reason)
        self.reason = reason

    def end(self) -> None:
        """Note that all is well."""
        if self.reason is not None:
            log.info("%s can be written again", self.what)
        self.reason = None
