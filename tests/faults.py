"""Failures of the system, injected at the calls by which files are written: an error, or kill -9, at each of them."""

import itertools
import os
import signal
import warnings
from contextlib import contextmanager
from dataclasses import dataclass

CALLS = ("open", "fchmod", "write", "fsync", "fstat", "close", "replace", "unlink", "scandir")
"""What of the os module the writing of a file uses."""


@dataclass
class Failure:
    """The call that was made to fail, None as long as none was."""

    call: str | None = None


@contextmanager
def wrapped(wrap):
    """Replace each call by what `wrap(name, real)` returns."""
    real = {name: getattr(os, name) for name in CALLS}
    try:
        for name, function in real.items():
            setattr(os, name, wrap(name, function))
        yield
    finally:
        for name, function in real.items():
            setattr(os, name, function)


@contextmanager
def recorded():
    """Yield a list that gets the names of the calls."""
    calls = []

    def wrap(name, real):
        def call(*args, **options):
            calls.append(name)
            return real(*args, **options)

        return call

    with wrapped(wrap):
        yield calls


@contextmanager
def failing(where, number, *, after=0):
    """Make calls fail with an errno: the one at a step, counted from 0, or all of one name but the first `after`."""
    failure, steps = Failure(), itertools.count()

    def wrap(name, real):
        own = itertools.count()

        def call(*args, **options):
            step, turn = next(steps), next(own)
            if step != where and not (name == where and turn >= after):
                return real(*args, **options)
            if name == "close":  # a descriptor is gone, whatever its closing says
                real(*args)
            failure.call = name
            raise OSError(number, os.strerror(number), *args[:1])

        return call

    with wrapped(wrap):
        yield failure


def killed_at_every_step(action, check):
    """Run an action in child processes, each killed before another of its calls, and one in the middle of each write.

    `check(name)` is called after each. Returns the names of those calls. The last child is not killed.
    """
    names = []
    for step in itertools.count():
        name = _killed(action, step)
        if name is None:
            check("the end")
            return names
        names.append(name)
        check(name)
        if name == "write":
            _killed(action, step, half=True)
            check("half a write")
    return names


def _killed(action, step, *, half=False):
    """Run an action in a child. Return the call at which it was killed, None if it ended normally."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking among threads; this child needs none of them
        pid = os.fork()
    if not pid:
        _run(action, step, half=half, writer=writer)
    os.close(writer)
    with open(reader) as pipe:
        name = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == (-signal.SIGKILL if name else 0), "the child failed by itself"
    return name or None


def _run(action, step, *, half, writer):
    steps, write = itertools.count(), os.write

    def wrap(name, real):
        def call(*args, **options):
            if next(steps) == step:
                if half:
                    write(args[0], args[1][: len(args[1]) // 2])
                write(writer, name.encode())
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return call

    try:
        with wrapped(wrap):
            action()
    except BaseException:
        os._exit(1)
    os._exit(0)
