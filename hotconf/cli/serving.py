"""What the verbs that serve share: their options, and the pid file."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from hotconf.conf import HotConf
    from hotconf.process.service import Service
    from hotconf.signals import SignalRouter
    from hotconf.web.safety import Safety

R = TypeVar("R")

PATH = click.Path(path_type=Path)


def seconds(_context: click.Context, _option: click.Parameter, value: float) -> float:
    """Refuse a value that is no number of seconds. A callback of options."""
    from hotconf.values.times import check_seconds

    try:
        return check_seconds("the value", value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@dataclass(frozen=True, slots=True)
class Serving:
    """The options of serving, as the command line has them. Times are in seconds."""

    host: str
    port: int
    token_file: Path | None
    read_token_file: Path | None
    allow_host: tuple[str, ...]
    grace_period: float
    shutdown_delay: float
    pid_file: Path | None
    unix_socket: Path | None = None
    log_format: str = "text"

    def safety(self) -> Safety:
        """Return the access rules. Raises UsageError for an unusable token file, or an address that needs one."""
        from hotconf.web.safety import Safety

        try:
            safety = Safety.read(
                token_file=self.token_file, read_token_file=self.read_token_file, hosts=self.allow_host
            )
            if self.unix_socket is None:
                safety.check_bind(self.host)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        return safety

    def service(self, conf: HotConf[Any], router: SignalRouter) -> Service:
        """Return a service that runs a configuration."""
        from hotconf.process.service import Service

        return Service(
            conf,
            grace_period=self.grace_period,
            shutdown_delay=self.shutdown_delay,
            router=router,
            log_failures=self.log_format == "json",
        )


_OPTIONS = {
    "host": click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
    "port": click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=8080,
        show_default=True,
        help="Port to listen on; 0 lets the kernel choose.",
    ),
    "unix_socket": click.option("--unix-socket", type=PATH, help="Listen on this socket file, and on no port."),
    "token_file": click.option(
        "--token-file", type=PATH, help="File with the bearer token that clients must send. It is followed."
    ),
    "read_token_file": click.option(
        "--read-token-file", type=PATH, help="File with a token that can read and cannot change anything."
    ),
    "allow_host": click.option(
        "--allow-host", multiple=True, help="A further Host name that clients may use. May be repeated."
    ),
    "grace_period": click.option(
        "--grace-period",
        default=25.0,
        callback=seconds,
        show_default=True,
        help="Seconds in which work in flight can finish after SIGTERM.",
    ),
    "shutdown_delay": click.option(
        "--shutdown-delay",
        default=0.0,
        callback=seconds,
        show_default=True,
        help="Seconds of the grace period in which connections are still accepted.",
    ),
    "pid_file": click.option("--pid-file", type=PATH, help="Keep the process id in this file while running."),
    "log_format": click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Format of the log on stderr.",
    ),
}


def serves(*left_out: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a verb the options of serving but for those `left_out`, as a Serving, its last positional argument."""
    names = [field.name for field in fields(Serving) if field.name not in left_out]

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(function)
        def verb(*args: Any, **options: Any) -> R:
            serving = Serving(**{name: options.pop(name) for name in names})
            return function(*args, serving, **options)

        chosen = [option for name, option in _OPTIONS.items() if name in names]
        return functools.reduce(lambda verb, option: option(verb), reversed(chosen), verb)

    return decorate


class PidFile:
    """The process id in a file, from the moment everything before it has started. Keeps the Server protocol.

    An operator runs `kill -HUP $(cat FILE)`, so the file must not outlive the process. Only a regular file is
    written: a FIFO would block the start, and through a link that another user has planted any file could be lost.
    """

    def __init__(self, path: Path) -> None:
        self.name = f"pid file {path}"
        self._path = path
        self._text = f"{os.getpid()}\n"

    async def start(self) -> None:
        """Write the file. Raises OSError, its `strerror` naming the file."""
        try:
            with self._open("w") as file:
                file.write(self._text)
        except OSError as error:
            reasons = {errno.ELOOP: "it is a symbolic link", errno.ENXIO: "it is no regular file"}
            reason = reasons.get(error.errno or 0, error.strerror)
            raise OSError(error.errno, f"cannot write {self._path}: {reason}") from error

    def begin_drain(self) -> None:
        """Keep the file: the process is still there."""

    async def drain(self, *, deadline: float) -> tuple[str, ...]:  # noqa: ARG002 - the protocol's signature
        """Keep the file."""
        return ()

    async def stop(self) -> None:
        """Remove the file, unless a successor has written its own."""
        with contextlib.suppress(OSError, ValueError), self._open("r") as file:
            if file.read(len(self._text) + 1) == self._text:
                self._path.unlink()

    def _open(self, mode: str) -> IO[str]:
        def opener(path: str, flags: int) -> int:
            return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)

        file = open(self._path, mode, encoding="utf-8", opener=opener)  # noqa: SIM115 - the caller closes it
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        return file
