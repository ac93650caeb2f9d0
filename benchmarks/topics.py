"""The topics, each a module with `rows(*, quick)`, in the order of the table."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.rows import Row

TOPICS = ("read", "watch", "idle", "sighup", "reload", "http", "fanout", "memory")


def measure(topic: str, quick: bool) -> list[Row]:  # noqa: FBT001 - called across processes
    """Measure one topic, in this process."""
    quiet()
    measured: list[Row] = import_module(f"benchmarks.{topic}").rows(quick=quick)
    return measured


def quiet() -> None:
    """Let hotconf log as usual, and discard the log."""
    logger = logging.getLogger("hotconf")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
