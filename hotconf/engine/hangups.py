"""SIGHUP for the configurations of a process: one handler, and each live configuration reloads."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from hotconf.signals import SignalRouter

if TYPE_CHECKING:
    from collections.abc import Callable


class Hangups:
    """Routes SIGHUP to all configurations of the process that are live."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._routes: list[tuple[object, Callable[[], None]]] = []
        self._router: SignalRouter | None = None

    def add(self, owner: object, callback: Callable[[], None]) -> None:
        """Call a function for each SIGHUP from now on. Raises SignalsUnavailable outside the main thread."""
        with self._lock:
            if self._router is None:
                router = SignalRouter(("HUP",))
                router.install()
                self._router = router
                router.route(on_reload=self._on_reload)
            self._routes.append((owner, callback))

    def remove(self, owner: object) -> None:
        """Take `add` back, once. The last one restores the handler of before, which only the main thread can."""
        with self._lock:
            entry = next((entry for entry in reversed(self._routes) if entry[0] is owner), None)
            if entry is not None:
                self._routes.remove(entry)
            is_main = threading.current_thread() is threading.main_thread()
            if self._router is not None and not self._routes and is_main:
                self._router.restore()
                self._router = None

    def leave_parent(self) -> None:
        """Begin anew in a forked child, where the router has put the handlers back by itself."""
        self._begin()

    def _on_reload(self) -> None:
        for _, callback in tuple(self._routes):
            callback()


hangups = Hangups()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=hangups.leave_parent)
