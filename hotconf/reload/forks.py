"""Forks: a child has the settings, but neither the engine's thread nor a loop of its own.

No thread may stand inside a swap when the child is made: the lock would stay shut in it for ever. And what only the
parent's threads and loop can run is left behind.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class Forkable(Protocol):
    """What can go on in a forked child."""

    def _swapping(self) -> AbstractContextManager[object]:
        """Return what keeps others from swapping while it is entered."""
        ...

    def _leave_parent(self) -> None:
        """Go on in a child without what lives in the parent only."""
        ...


_everyone: weakref.WeakValueDictionary[int, Forkable] = weakref.WeakValueDictionary()
_fork = threading.local()


def follow(forkable: Forkable) -> None:
    """Let somebody know of forks from now on, as long as it lives."""
    _everyone[id(forkable)] = forkable


def _before() -> None:
    _fork.held = []
    for reference in _everyone.valuerefs():  # a list at once: others may construct meanwhile
        if (forkable := reference()) is not None:
            swapping = forkable._swapping()  # noqa: SLF001 - for this module only
            swapping.__enter__()
            _fork.held.append((forkable, swapping))


def _after_in_parent() -> None:
    for _, swapping in _fork.held:
        swapping.__exit__(None, None, None)
    del _fork.held


def _after_in_child() -> None:
    everyone = [forkable for forkable, _ in _fork.held]
    _after_in_parent()
    for forkable in everyone:
        forkable._leave_parent()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
