"""Engines of programs without an event loop: one thread with a loop for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import threading
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING

from hotconf.reload.holder import keep_for_ever

if TYPE_CHECKING:
    from hotconf.engine.engine import Engine

log = logging.getLogger("hotconf")


class EngineThread:
    """An engine in a thread that it shares with the other engines of programs without an event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._started: Future[None] = Future()
        self._finish: Future[None] = Future()
        self._ended: Future[None] = Future()
        # In the context of the caller: what a source reads may depend on a context variable.
        self._context = contextvars.copy_context()
        self._thread: LoopThread | None = None

    def start(self) -> None:
        """Start, and return when the first configuration is in force. Raises what the engine raises."""
        self._thread = loop_threads.enter()
        try:
            self._thread.loop.call_soon_threadsafe(self._spawn, context=self._context)
            self._started.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop, and wait until that is over. In the thread of the engine itself, that comes after the present call."""
        with contextlib.suppress(InvalidStateError):  # asked before
            self._finish.set_result(None)
        if self._thread is not None:
            if not self._thread.is_current:
                self._ended.result()
            loop_threads.leave(self._thread)

    def _spawn(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        finished = asyncio.wrap_future(self._finish)
        living = asyncio.create_task(self._live())
        try:
            await asyncio.wait({living, finished}, return_when=asyncio.FIRST_COMPLETED)
            for future in (living, finished):
                future.cancel()
            await asyncio.gather(living, return_exceptions=True)
        finally:
            self._ended.set_result(None)

    async def _live(self) -> None:
        try:
            async with self._engine:
                self._started.set_result(None)
                await asyncio.get_running_loop().create_future()
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            elif not isinstance(error, asyncio.CancelledError):
                log.exception("the engine's thread ended with an error")


class LoopThread:
    """A thread with an event loop, until its last engine has left."""

    def __init__(self) -> None:
        self.engines = 0
        ready: Future[asyncio.AbstractEventLoop] = Future()
        self._finished: Future[None] = Future()
        self._thread = threading.Thread(target=self._main, args=(ready,), name="hotconf-engine", daemon=True)
        self._thread.start()
        self.loop = ready.result()

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in it."""
        return threading.current_thread() is self._thread

    def finish(self) -> None:
        """End the thread, and wait for that."""
        self._finished.set_result(None)
        if not self.is_current:
            self._thread.join()

    def _main(self, ready: Future[asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            finished = asyncio.wrap_future(self._finished, loop=loop)
            ready.set_result(loop)
            while not finished.done():
                try:
                    loop.run_until_complete(finished)
                except BaseException:  # a SystemExit or KeyboardInterrupt of one task: the others go on
                    log.exception("a task ended with an error that ends event loops; the loop goes on")


class LoopThreads:
    """The thread that engines share, while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shared: LoopThread | None = None

    def enter(self) -> LoopThread:
        """Return the thread for one more engine: another one where the caller blocks the shared one."""
        with self._lock:
            thread = self._shared
            if thread is None or thread.is_current:
                thread = LoopThread()
                self._shared = self._shared or thread
            thread.engines += 1
            return thread

    def leave(self, thread: LoopThread) -> None:
        """End the thread after its last engine."""
        with self._lock:
            thread.engines -= 1
            if thread.engines:
                return
            if self._shared is thread:
                self._shared = None
        thread.finish()

    def leave_parent(self) -> None:
        """Begin anew in a forked child, which has no thread of its parent."""
        keep_for_ever(self._shared)
        self.__init__()  # type: ignore[misc]


loop_threads = LoopThreads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=loop_threads.leave_parent)
