"""Signals: SIGHUP reloads, the first SIGINT or SIGTERM drains, a second one ends the process at once.

All signal handlers of the package are here. A handler only writes a byte to a pipe. A thread reads the pipe and calls
the callbacks, so a blocked event loop delays neither the second signal nor the deadline. The thread needs the
interpreter lock: while a C call keeps it, only the `faulthandler` timer that `arm` sets still works, and the signals of
that time count as one.

The command imports this module before anything else: keep it light.
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
"""Seconds after a reload in which any number of SIGHUPs makes one more reload, so that a storm stays cheap."""

TERMINAL_CHECK = 5.0
"""Seconds between two checks of the controlling terminal. Closed at two of them, it closed without a SIGHUP."""

_NAMES = ("HUP", "INT", "TERM")
_SIGHUP: int | None = getattr(signal, "SIGHUP", None)
_STDERR = 2
_BYTES = [bytes((number,)) for number in range(256)]  # made here, because a handler should allocate nothing
_LONGEST_POLL = 86400.0  # seconds; poll() counts milliseconds in 32 bits
_WAKE = 0  # a byte that is no signal's number
_ECHO = 0x80  # marks the bytes of our Python handler; the interpreter's C handler writes the bare number
_PIPE_CAPACITY = 65536
_PIPE_ATOMIC = 4096  # bytes that a pipe takes at once when poll() calls it writable
_BELT_MARGIN = 1.0  # seconds after the deadline at which the faulthandler timer ends the process
_JOIN_TIMEOUT = 1.0


class SignalRouter:
    """Owns SIGHUP, SIGINT and SIGTERM, or some of them, and turns them into calls.

    Between `install` and `route` the process is starting: SIGINT or SIGTERM ends it at once with 128+N, a SIGHUP is
    remembered. After `route`, a SIGHUP asks for a reload, at most ten times a second; the first SIGINT or SIGTERM asks
    for a drain, and a second one ends the process with 128+N. After the drain has begun, nothing reloads.

    A SIGHUP that comes because the controlling terminal closed drains, unless SIGHUP was ignored at `install` (nohup).
    A process that keeps running when its terminal closes (disown, or a shell that sends no SIGHUP) is meant to stay:
    ten seconds later a SIGHUP is a reload again.

    `install` and `restore` belong to the main thread. All else can be called from any thread, but not from a signal
    handler. Callbacks run in the router's thread, or in the thread that calls `route`, `reload` or `drain`. They must
    return at once, because signals wait meanwhile. What they raise goes to `sys.excepthook`.

    Args:
        signals: Names of signals, with or without SIG.

    Raises:
        ValueError: A name is none of HUP, INT and TERM, or this platform does not have the signal.
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
        self._unwritten: set[int] = set()
        self._writing = False
        self._reload_due: float | None = None
        self._next_reload = 0.0
        self._watches_terminal = False
        self._terminal_closed = False
        self._next_check = 0.0

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
        """Replace the handlers of the signals, and remember those that were there.

        Raises:
            SignalsUnavailable: Not called in the main thread of the main interpreter.
            RuntimeError: The router is installed already.
        """
        if self._pipe is not None:
            raise RuntimeError("this router is installed already")
        wakeup_is_free = _wakeup_fd_is_free()
        if _SIGHUP is not None and _SIGHUP in self._signals:
            self._watches_terminal = signal.getsignal(_SIGHUP) is not signal.SIG_IGN and not _has_no_terminal()
        self._pipe = pipe = _SelfPipe()
        _installed.append(self)
        self._thread = threading.Thread(target=self._run, args=(pipe,), name="hotconf-signals", daemon=True)
        self._thread.start()
        for signum in self._signals:
            previous = signal.signal(signum, self._on_signal)
            if previous != self._on_signal:  # it is ours where other code put it back after a `restore`
                self._previous[signum] = previous
        if wakeup_is_free:
            # Python runs a handler only when the main thread executes bytecode. The C handler writes here at once,
            # whatever the main thread is blocked in and whichever thread the kernel picked.
            signal.set_wakeup_fd(pipe.writer, warn_on_full_buffer=False)

    def restore(self, *, ignore_hup: bool = False) -> None:
        """Put the former handlers back, disarm, and end the thread. Without effect unless installed.

        A handler that was installed after ours stays. One that was not installed from Python cannot be put back: the
        default takes its place. A signal that arrived before is still acted on. Call this outside of an event loop
        that began after `install`: uvloop remembers our wakeup descriptor until it ends.

        Args:
            ignore_hup: Leave SIGHUP ignored, so that it cannot kill a command that is about to exit.

        Raises:
            SignalsUnavailable: Not called in the main thread.
        """
        if self._pipe is None:
            return
        if threading.current_thread() is not threading.main_thread():
            raise SignalsUnavailable
        if ignore_hup and _SIGHUP in self._signals:
            self._put_back(_SIGHUP, signal.SIG_IGN)
        self._release(self._pipe)
        self.disarm()
        with self._lock:  # else `arm` in another thread might write to a descriptor that was given out again
            self._pipe.close_writer()
            self._pipe = None
        _installed.remove(self)  # last: a child forked before must close its copy, or the thread sees no end
        if self._thread is not None:
            self._thread.join(_JOIN_TIMEOUT)

    def route(self, *, on_reload: Callable[[], object], on_drain: Callable[[int], object] | None = None) -> None:
        """Connect the callbacks, and deliver what came before: a drain, or else one reload.

        Args:
            on_reload: Called for SIGHUP.
            on_drain: Called with the number of the signal. A router for SIGHUP alone can leave it out: a closed
                terminal then sends SIGTERM to this process, for the program's own handler.

        Raises:
            ValueError: A router for SIGINT or SIGTERM has no `on_drain`.
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

        It does not count as a signal: the first SIGINT or SIGTERM after it changes nothing, the second one ends the
        process.
        """
        with self._lock:
            if self._drain_signal is not None:
                return
            self._drain_signal, on_drain = signum, self._on_drain
        if on_drain is not None:
            _call(on_drain, signum)

    def arm(self, deadline: float, code: int) -> None:
        """End the process at a deadline, with the stacks of all threads on stderr. Without effect unless installed.

        One second after the deadline the `faulthandler` timer ends the process with code 1, even while a C call keeps
        the interpreter lock. A process has one such timer: this replaces the user's. Arming again moves the deadline.

        Args:
            deadline: The moment, on the clock of `time.monotonic()`.
            code: The exit code.
        """
        if self._pipe is None:
            return
        self._deadline = (deadline, code)
        timeout = max(deadline - time.monotonic(), 0) + _BELT_MARGIN
        faulthandler.dump_traceback_later(timeout, exit=True, file=_STDERR)
        with self._lock:
            if self._pipe is not None:
                self._pipe.put(_WAKE)

    def disarm(self) -> None:
        """Take the deadline back."""
        if self._deadline is not None:
            self._deadline = None
            faulthandler.cancel_dump_traceback_later()

    # In the main thread: the handlers

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        # This can interrupt anything, itself included: no lock, no event, no log line here.
        if self._pipe is None:  # other code put us back after `restore`: to swallow it would make SIGTERM useless
            self._put_back(signum, self._previous[signum])
            signal.raise_signal(signum)
            return
        # In a flood each signal interrupts the handler of the last one. The inner call leaves its number to the outer
        # one and returns, or the stack would grow with every signal.
        self._unwritten.add(signum)
        while self._unwritten and not self._writing:
            self._writing = True
            while self._unwritten and self._pipe is not None:
                self._pipe.put(self._unwritten.pop() | _ECHO)
            self._writing = False

    def _put_back(self, signum: int, handler: Handler) -> None:
        if signal.getsignal(signum) == self._on_signal:
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)

    def _release(self, pipe: _SelfPipe) -> None:
        for signum in self._signals:
            self._put_back(signum, self._previous[signum])
        current = signal.set_wakeup_fd(-1)
        if current not in (-1, pipe.writer):
            signal.set_wakeup_fd(current)

    def _leave_parent(self) -> None:
        """Undo `install` in a forked child, where the thread does not exist and the pipe is the parent's."""
        pipe, self._pipe = self._pipe, None
        self._thread, self._deadline, self._lock = None, None, threading.RLock()
        if pipe is not None:
            self._release(pipe)
            pipe.close_writer()
            pipe.close_reader()
            _installed.remove(self)

    # In the router's thread: bytes into calls

    def _run(self, pipe: _SelfPipe) -> None:
        echoes = _Echoes()
        while (data := pipe.take(self._timeout())) != b"":
            now, deadline = time.monotonic(), self._deadline
            if deadline is not None and now >= deadline[0]:
                _exit(deadline[1], "hotconf: the deadline has passed: stopping at once\n", stacks=True)
            news = [byte & ~_ECHO for byte in data or b"" if self._is_ours(byte) and echoes.is_news(byte)]
            for signum in dict.fromkeys(news):  # a burst of one signal is one call
                self._act(signum, now)
            self._reload_if_due(now)
            if self._watches_terminal and now >= self._next_check:
                closed_before, self._terminal_closed = self._terminal_closed, _has_no_terminal()
                self._watches_terminal = not (closed_before and self._terminal_closed)
                self._next_check = now + TERMINAL_CHECK
        self._reload_if_due(math.inf)
        pipe.close_reader()

    def _timeout(self) -> float | None:
        """Return the seconds until something is due; None where nothing is."""
        deadline, check = self._deadline, self._next_check if self._watches_terminal else None
        due = [moment for moment in (deadline and deadline[0], self._reload_due, check) if moment is not None]
        return max(min(due) - time.monotonic(), 0) if due else None

    def _is_ours(self, byte: int) -> bool:
        """Whether a byte stands for a signal that is ours.

        The wakeup descriptor reports all signals of the process, those that other code handles too.
        """
        return bool(byte & _ECHO) or (byte in self._signals and signal.getsignal(byte) == self._on_signal)

    def _act(self, signum: int, now: float) -> None:
        if signum == _SIGHUP:
            if self._watches_terminal and _has_no_terminal():
                self.drain(signum)
            else:
                self._reload_due = max(now, self._next_reload)
        elif self._on_drain is None:  # not routed yet: the process is still starting
            os._exit(128 + signum)
        elif self._stopped_at is None:
            self._stopped_at = now
            self.drain(signum)
        elif now - self._stopped_at > REPEAT_WINDOW:
            _exit(128 + signum, f"hotconf: {signal.Signals(signum).name} again: stopping at once\n")

    def _reload_if_due(self, now: float) -> None:
        if self._reload_due is not None and now >= self._reload_due:
            self._reload_due, self._next_reload = None, time.monotonic() + RELOAD_PACE
            self.reload()


class StopSignals:
    """SIGINT and SIGTERM in a process whose server handles them: callbacks hear them too, and then that handler does.

    For the main thread: elsewhere `listen` and `ignore` do nothing. Callbacks run in a signal handler.
    """

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], object]] = []
        self._previous: dict[int, Callable[[int, FrameType | None], object]] = {}

    def listen(self, callback: Callable[[], object]) -> None:
        """Call a function at each of these signals, as long as their handlers stay those of now."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._callbacks.append(callback)
        for signum in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(signum)
            if callable(handler) and signum not in self._previous:  # without a handler the process ends at once
                self._previous[signum] = handler
                signal.signal(signum, self._on_signal)

    def ignore(self, callback: Callable[[], object]) -> None:
        """Take `listen` back, once. The last one puts the handlers back that were there."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)
        if not self._callbacks and threading.current_thread() is threading.main_thread():
            for signum, handler in tuple(self._previous.items()):
                if signal.getsignal(signum) == self._on_signal:  # else another one was put over it, and may call it
                    signal.signal(signum, handler)
                    del self._previous[signum]

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        for callback in tuple(self._callbacks):
            callback()
        self._previous[signum](signum, frame)


stop_signals = StopSignals()


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

    While the wakeup descriptor is ours, a signal writes a bare byte at once, and an echo when the main thread comes to
    it: one echo for any number of them. Once an event loop has taken the descriptor, there are echoes only.
    """

    def __init__(self) -> None:
        self._expected: set[int] = set()

    def is_news(self, byte: int) -> bool:
        """Whether this byte is the first one of its signal."""
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
    """Whether no wakeup descriptor is set. Only the main thread of the main interpreter can ask.

    Raises:
        SignalsUnavailable: Called elsewhere.
    """
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
    except BaseException:  # noqa: BLE001 - the thread must live to hear the next signal
        with suppress(Exception):
            sys.excepthook(*sys.exc_info())


def _exit(code: int, reason: str, *, stacks: bool = False) -> NoReturn:
    """End the process with the reason on stderr. A stderr that is not read delays it by 0.1 s, with `stacks` 0.5 s."""
    writer = threading.Thread(target=_write_reason, args=(reason, stacks), daemon=True)
    try:
        writer.start()
        writer.join(0.5 if stacks else 0.1)
    except RuntimeError:  # no thread can be started: out of memory, or Python 3.12 while the interpreter exits
        _write_reason(reason, stacks)
    os._exit(code)


def _write_reason(reason: str, stacks: bool) -> None:  # noqa: FBT001
    """Write to stderr what it takes without blocking: the reason and, with `stacks`, the stacks of all threads."""
    text = reason.encode()
    if stacks:
        with suppress(OSError):  # through a pipe: faulthandler keeps the interpreter lock while it writes
            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            faulthandler.dump_traceback(writer, all_threads=True)
            text += os.read(reader, _PIPE_CAPACITY)
    poll = select.poll()
    poll.register(_STDERR, select.POLLOUT)
    with suppress(OSError):
        for start in range(0, len(text), _PIPE_ATOMIC):
            if not poll.poll(100):
                return
            os.write(_STDERR, text[start : start + _PIPE_ATOMIC])


# Fork. A child has our handlers and our pipe, but no thread, so the parent would act on a signal that was sent to the
# child. Signals are therefore blocked from before the fork until the child has given up handlers and pipe.

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
