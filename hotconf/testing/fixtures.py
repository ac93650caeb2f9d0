"""Fixtures for pytest, which finds this plugin by its entry point wherever hotconf is installed.

`-p no:hotconf.testing.fixtures` leaves it out. Nothing but pytest is imported before a fixture is used.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import BaseModel

    from hotconf.conf import HotConf
    from hotconf.testing.clock import ManualClock

    S = TypeVar("S", bound=BaseModel)


@pytest.fixture
def live() -> Iterator[Callable[[HotConf[S]], HotConf[S]]]:
    """Return a function that makes a configuration live until the test ends: `live(conf)` returns `conf`.

    Its engine runs in a thread of its own. Signals are not handled.
    """
    with contextlib.ExitStack() as until_the_end:

        def live(conf: HotConf[S]) -> HotConf[S]:
            return until_the_end.enter_context(conf.running(signals=()))

        yield live


@pytest.fixture
def override() -> Iterator[Callable[..., None]]:
    """Return a function that replaces values of a configuration until the test ends: `override(conf, port=1)`."""
    with contextlib.ExitStack() as until_the_end:

        def override(conf: HotConf[Any], /, **values: Any) -> None:
            until_the_end.enter_context(conf.override(**values))

        yield override


@pytest.fixture
def manual_clock() -> ManualClock:
    """Return a `ManualClock`, which stands still until `advance` is awaited."""
    from hotconf.testing.clock import ManualClock

    return ManualClock()
