"""Signals: SIGHUP reloads, the first SIGINT or SIGTERM drains, the second one stops the process at once.

The only signal handlers of the package are here. They do nothing but write a byte to a pipe; a thread reads
the pipe and turns bytes into calls, so a blocked event loop can hold up neither the second signal nor the
deadline. The thread needs the interpreter lock for that: while a C call keeps the lock, only the
`faulthandler` timer behind `arm` still works, and signals that arrive meanwhile count as having arrived together.

This module is the first thing the command imports: keep it light.
"""

from __future__ import annotations

import errno
import faulthandler
import math
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress

from hotconf.errors import SignalsUnavailable

TYPE_CHECKING = False  # importing typing takes longer than this module does
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType, TracebackType
    from typing import NoReturn, Self, TypeAlias

    Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None

REPEAT_WINDOW = 0.1
"""Seconds in which a SIGINT or SIGTERM repeats the one before: a terminal and a supervisor both send it."""

RELOAD_PACE = 0.1
"""Seconds after the reload of one SIGHUP in which any number of others makes one more, so that a storm stays cheap."""

TERMINAL_CHECK = 5.0
"""Seconds between two looks at the controlling terminal. Who finds it closed twice got no SIGHUP for that."""

_NAMES = ("HUP", "INT", "TERM")
_SIGHUP: int | None = getattr(signal, "SIGHUP", None)
_STDERR = 2
_BYTES = [bytes((number,)) for number in range(256)]  # made beforehand: a handler should allocate nothing
_LONGEST_POLL = 86400.0  # seconds; poll() counts milliseconds in 32 bits
_WAKE = 0  # a byte that is no signal's number
_ECHO = 0x80  # marks the bytes of our Python handler; the interpreter's C handler writes the bare number
_PIPE_CAPACITY = 65536
_BELT_MARGIN = 1.0
_JOIN_TIMEOUT = 1.0


class SignalRouter:
    """Owns SIGHUP, SIGINT and SIGTERM, or those of them it is given, and turns them into calls.

    `signals` are names, with or without SIG; ValueError for any other. Between `install` and `route` the
    process is starting: SIGINT or SIGTERM ends it at once with 128+N, a SIGHUP is remembered. From `route`
    on, a SIGHUP asks for a reload, ten times a second at most, the first SIGINT or SIGTERM for a drain, and a
    second one ends the process with 128+N. Nothing reloads once a drain began.

    A SIGHUP sent because the controlling terminal closed drains, unless SIGHUP was ignored when we came
    (nohup). Who was left running when it closed (disown, or a shell that tells nobody) was meant to stay:
    ten seconds later a SIGHUP is a reload again.

    `install` and `restore` belong to the main thread; everything else may be called from any thread, but not
    from a signal handler. Callbacks run in the router's thread, or in the thread that calls `route`, `reload`
    or `drain`; they must return at once, since no signal is heard meanwhile. What they raise goes to
    `sys.excepthook`.
    """

    def __init__(self, signals: Iterable[str] = _NAMES) -> None:
        self._signals = tuple(_number(name) for name in signals)
        self._previous: dict[int, Handler] = {}
        self._pipe: _SelfPipe | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()  # never taken in a signal handler
        self._on_reload: Callable[[], object] | None = None
        self._on_drain: Callable[[int], object] | None = None
        self._reload_waits = False
        self._drain_signal: int | None = None
        self._stopped_at: float | None = None
        self._deadline: tuple[float, int] | None = None
        self._untold: set[int] = set()
        self._telling = False
        self._reload_due: float | None = None
        self._next_reload = 0.0
        self._watches_terminal = False
        self._terminal_closed = False
        self._next_look = 0.0

    @property
    def installed(self) -> bool:
        """Whether the handlers are in: after `install`, and before `restore`."""
        return self._pipe is not None

    @property
    def drain_signal(self) -> int | None:
        """The signal that began the drain, None before. It stays after `restore`."""
        return self._drain_signal

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

    def install(self) -> None:
        """Put our handlers in, remembering what was there.

        Raises SignalsUnavailable off the main thread of the main interpreter, RuntimeError if installed
        already.
        """
        if self._pipe is not None:
            raise RuntimeError("this router is installed already")
        wakeup_is_free = _wakeup_fd_is_free()
        self._watches_terminal = self._sees_terminal()
        self._pipe = pipe = _SelfPipe()
        _installed.append(self)
        self._thread = threading.Thread(target=self._serve, args=(pipe,), name="hotconf-signals", daemon=True)
        self._thread.start()
        for signum in self._signals:
            self._take(signum)
        if wakeup_is_free:
            # Python runs a handler only when the main thread executes bytecode. The C handler writes here at
            # once, whatever the main thread is blocked in and whichever thread the kernel picked.
            signal.set_wakeup_fd(pipe.writer, warn_on_full_buffer=False)

    def restore(self, *, ignore_hup: bool = False) -> None:
        """Put back what `install` found, disarm, and end the thread. Without effect unless installed.

        A handler that someone installed after us stays. One that was not installed from Python cannot be put
        back: the default takes its place. With `ignore_hup` SIGHUP is left ignored, so that it cannot kill a
        command that is ending, down to its last instruction. A signal that arrived before is still acted on.
        Call it outside of an event loop that began after `install`: uvloop remembers our wakeup descriptor
        until it ends. Raises SignalsUnavailable off the main thread.
        """
        if self._pipe is None:
            return
        if threading.current_thread() is not threading.main_thread():
            raise SignalsUnavailable
        if ignore_hup and _SIGHUP in self._signals:
            self._give_back(_SIGHUP, signal.SIG_IGN)
        self._release(self._pipe)
        self.disarm()
        with self._lock:  # else `_wake` in another thread might write to a number that was given out again
            self._pipe.close_writer()
            self._pipe = None
        _installed.remove(self)  # last: a child forked meanwhile must close its copy, or the thread sees no end
        if self._thread is not None:
            self._thread.join(_JOIN_TIMEOUT)

    def route(self, *, on_reload: Callable[[], object], on_drain: Callable[[int], object] | None = None) -> None:
        """Connect the callbacks, and deliver what came before: a drain, else one reload.

        `on_drain` gets the number of the signal. It may be left out by a router that has only SIGHUP: then a
        closed terminal sends SIGTERM to this process, for whoever handles that. Otherwise leaving it out is a
        ValueError.
        """
        if on_drain is None and any(signum != _SIGHUP for signum in self._signals):
            raise ValueError("a router of SIGINT or SIGTERM needs on_drain")
        with self._lock:
            self._on_reload, self._on_drain = on_reload, on_drain or _terminate
            drain_signal, reload_waits, self._reload_waits = self._drain_signal, self._reload_waits, False
        if drain_signal is not None:
            _call(self._on_drain, drain_signal)
        elif reload_waits:
            _call(on_reload)

    def reload(self) -> None:
        """Ask for a reload as SIGHUP does. Before `route` it is remembered, during a drain ignored."""
        with self._lock:
            if self._drain_signal is not None:
                return
            on_reload = self._on_reload
            self._reload_waits = on_reload is None
        if on_reload is not None:
            _call(on_reload)

    def drain(self, signum: int = signal.SIGTERM) -> None:
        """Begin the drain as a first signal does, once. Before `route` it is remembered.

        It does not count as a signal: the first SIGINT or SIGTERM after it changes nothing, the second ends
        the process.
        """
        with self._lock:
            if self._drain_signal is not None:
                return
            self._drain_signal, on_drain = signum, self._on_drain
        if on_drain is not None:
            _call(on_drain, signum)

    def arm(self, deadline: float, code: int) -> None:
        """End the process with `code` when `time.monotonic()` reaches `deadline`, all stacks dumped.

        One second later the `faulthandler` timer ends it with code 1, even if a C call keeps the interpreter
        lock; it is the process's only one, and replaces the user's. Arming again moves the deadline. Without
        effect unless installed.
        """
        if self._pipe is None:
            return
        self._deadline = (deadline, code)
        patience = max(deadline - time.monotonic(), 0) + _BELT_MARGIN
        faulthandler.dump_traceback_later(patience, exit=True, file=_STDERR)
        self._wake()

    def disarm(self) -> None:
        """Take the deadline back."""
        if self._deadline is not None:
            self._deadline = None
            faulthandler.cancel_dump_traceback_later()

    # The main thread: handlers in and out

    def _take(self, signum: int) -> None:
        previous = signal.signal(signum, self._on_signal)
        if previous != self._on_signal:  # else someone put us back after an earlier `restore`
            self._previous[signum] = previous

    def _give_back(self, signum: int, handler: Handler) -> None:
        if signal.getsignal(signum) == self._on_signal:
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)

    def _release(self, pipe: _SelfPipe) -> None:
        for signum in self._signals:
            self._give_back(signum, self._previous[signum])
        current = signal.set_wakeup_fd(-1)
        if current not in (-1, pipe.writer):
            signal.set_wakeup_fd(current)

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        # May interrupt anything, itself included: no lock, no event, no log line here.
        if self._pipe is not None:
            self._tell(signum)
        else:  # someone put us back after `restore`: swallowing SIGTERM would make the process unstoppable
            self._give_back(signum, self._previous[signum])
            signal.raise_signal(signum)

    def _tell(self, signum: int) -> None:
        # A flood interrupts this again and again: whoever comes in between leaves its number and returns, or the
        # stack would grow with every signal.
        self._untold.add(signum)
        while self._untold and not self._telling:
            self._telling = True
            while self._untold and self._pipe is not None:
                self._pipe.put(self._untold.pop() | _ECHO)
            self._telling = False

    def _sees_terminal(self) -> bool:
        if _SIGHUP not in self._signals or signal.getsignal(_SIGHUP) is signal.SIG_IGN:
            return False
        return not _has_no_terminal()

    def _leave_parent(self) -> None:
        """Undo `install` in a forked child, where the thread does not exist and the pipe is the parent's."""
        pipe, self._pipe = self._pipe, None
        self._thread, self._deadline, self._lock = None, None, threading.RLock()
        if pipe is not None:
            self._release(pipe)
            pipe.close_writer()
            pipe.close_reader()
            _installed.remove(self)

    # The router's thread: bytes into calls

    def _serve(self, pipe: _SelfPipe) -> None:
        echoes = _Echoes()
        while (data := pipe.take(self._time_left())) != b"":
            self._keep_deadline()
            now = time.monotonic()
            news = [byte & ~_ECHO for byte in data or b"" if self._concerns(byte) and echoes.is_news(byte)]
            for signum in dict.fromkeys(news):  # a burst of one signal is one call
                self._act(signum, now)
            self._reload_if_due(time.monotonic())
            self._look_at_terminal(time.monotonic())
        self._reload_if_due(math.inf)
        pipe.close_reader()

    def _concerns(self, byte: int) -> bool:
        """Whether a byte tells of a signal that is ours: the wakeup descriptor tells of everybody's.

        That goes for SIGHUP too, once someone who came later handles it.
        """
        if byte & _ECHO:
            return True
        return byte in self._signals and signal.getsignal(byte) == self._on_signal

    def _act(self, signum: int, now: float) -> None:
        if signum != _SIGHUP:
            self._stop(signum, now)
        elif self._watches_terminal and _has_no_terminal():
            self.drain(signum)
        else:
            self._reload_due = max(now, self._next_reload)

    def _reload_if_due(self, now: float) -> None:
        due = self._reload_due
        if due is not None and now >= due:
            self._reload_due, self._next_reload = None, time.monotonic() + RELOAD_PACE
            self.reload()

    def _look_at_terminal(self, now: float) -> None:
        if self._watches_terminal and now >= self._next_look:
            closed_before, self._terminal_closed = self._terminal_closed, _has_no_terminal()
            self._watches_terminal = not (closed_before and self._terminal_closed)
            self._next_look = now + TERMINAL_CHECK

    def _stop(self, signum: int, now: float) -> None:
        if self._on_drain is None:
            os._exit(128 + signum)
        if self._stopped_at is None:
            self._stopped_at = now
            self.drain(signum)
        elif now - self._stopped_at > REPEAT_WINDOW:
            _exit(128 + signum, f"hotconf: {signal.Signals(signum).name} again: stopping at once\n")

    def _time_left(self) -> float | None:
        look = self._next_look if self._watches_terminal else None
        dues = (self._deadline and self._deadline[0], self._reload_due, look)
        moments = [moment for moment in dues if moment is not None]
        return max(min(moments) - time.monotonic(), 0) if moments else None

    def _keep_deadline(self) -> None:
        deadline = self._deadline
        if deadline is not None and time.monotonic() >= deadline[0]:
            _exit(deadline[1], "hotconf: the deadline has passed: stopping at once\n", stacks=True)

    def _wake(self) -> None:
        with self._lock:
            if self._pipe is not None:
                self._pipe.put(_WAKE)


class _SelfPipe:
    """A pipe from signal handlers to one reading thread. Writing never blocks; what does not fit is dropped."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self.writer, False)

    def put(self, byte: int) -> None:
        try:  # noqa: SIM105 - `suppress` would be an object and two calls more in a signal handler
            os.write(self.writer, _BYTES[byte])
        except BlockingIOError:  # full: the reader has plenty to act on
            pass

    def take(self, timeout: float | None) -> bytes | None:
        """Return all that waits, None if nothing came within `timeout` seconds, b"" after `close_writer`."""
        # Not select.select, which refuses descriptors above 1023.
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        poll.poll(None if timeout is None else min(timeout, _LONGEST_POLL) * 1000)
        try:
            return os.read(self._reader, _PIPE_CAPACITY)
        except BlockingIOError:
            return None

    def close_writer(self) -> None:
        os.close(self.writer)

    def close_reader(self) -> None:
        os.close(self._reader)


class _Echoes:
    """Tells the two bytes of one signal from two signals.

    With the wakeup descriptor ours, a signal gives a bare byte at once and an echo when the main thread gets
    to it, one echo for any number of them. Once an event loop has taken the descriptor, there are only
    echoes.
    """

    def __init__(self) -> None:
        self._expected: set[int] = set()

    def is_news(self, byte: int) -> bool:
        """Whether this byte is the first to tell of its signal."""
        if not byte & _ECHO:
            self._expected.add(byte | _ECHO)
            return True
        if byte in self._expected:
            self._expected.remove(byte)
            return False
        return True


def _number(name: str) -> int:
    bare = name.upper().removeprefix("SIG")
    if bare not in _NAMES:
        raise ValueError(f"{name!r} cannot be routed: choose from {', '.join(_NAMES)}")
    number: int | None = getattr(signal, f"SIG{bare}", None)
    if number is None:
        raise ValueError(f"this platform has no SIG{bare}: leave it out of `signals`")
    return number


def _wakeup_fd_is_free() -> bool:
    """Raise SignalsUnavailable off the main thread of the main interpreter: only there may one ask."""
    try:
        current = signal.set_wakeup_fd(-1)
    except ValueError:
        raise SignalsUnavailable from None
    if current != -1:
        signal.set_wakeup_fd(current)
    return current == -1


def _has_no_terminal() -> bool:
    """Whether this process has no controlling terminal, or one that hung up. When in doubt, it has one."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError as error:
        return error.errno in (errno.ENXIO, errno.EIO)
    return False


def _terminate(_signum: int) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _call(callback: Callable[..., object], *args: int) -> None:
    try:
        callback(*args)
    except BaseException:  # noqa: BLE001 - whatever it is, the thread must live to hear the next signal
        with suppress(Exception):
            sys.excepthook(*sys.exc_info())


def _exit(code: int, line: str, *, stacks: bool = False) -> NoReturn:
    """End the process, telling stderr why. A stderr that nobody reads delays it by 0.1 s, with `stacks` 0.5 s."""
    speaker = threading.Thread(target=_say, args=(line,), kwargs={"stacks": stacks}, daemon=True)
    with suppress(RuntimeError):  # no thread to be had: then without words
        speaker.start()
        speaker.join(0.5 if stacks else 0.1)
    os._exit(code)


def _say(line: str, *, stacks: bool) -> None:
    with suppress(OSError):
        os.write(_STDERR, line.encode())
        if stacks:
            os.write(_STDERR, _stacks())


def _stacks() -> bytes:
    """Return the stacks of all threads, as much of them as a pipe takes."""
    # Not straight to stderr: faulthandler keeps the interpreter lock while it writes, and nobody may read there.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    faulthandler.dump_traceback(writer, all_threads=True)
    return os.read(reader, _PIPE_CAPACITY)


# Fork. A child has our handlers and our pipe, but no thread: a signal sent to it would be acted on by the
# parent. So the signals wait from before the fork until the child has let go of both.

_installed: list[SignalRouter] = []
_fork = threading.local()


def _before_fork() -> None:
    signums = {signum for router in _installed for signum in router._signals}  # noqa: SLF001 - the same module
    _fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, signums)


def _after_fork_in_parent() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _fork.mask)


def _after_fork_in_child() -> None:
    for router in reversed(_installed[:]):
        router._leave_parent()  # noqa: SLF001 - the same module
    _after_fork_in_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
