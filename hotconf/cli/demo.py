"""`hotconf demo`: a service whose configuration changes under load."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hotconf.signals import SignalRouter
    from hotconf.web.safety import Safety

SAMPLE = Path("sample_configs/demo.toml")
COPY = Path("hotconf-demo.toml")

_PORT = click.IntRange(0, 65535)


def _seconds(_context: click.Context, _option: click.Parameter, value: float) -> float:
    if not 0 <= value < math.inf:
        raise click.BadParameter("must be a finite number of seconds, not below 0")
    return value


@click.command
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=_PORT, default=8080, show_default=True, help="Port; 0 lets the kernel choose.")
@click.option("--config", type=click.Path(path_type=Path), help=f"Configuration file.  [default: {SAMPLE}]")
@click.option("--grace-period", default=25.0, callback=_seconds, show_default=True, help="Seconds for work in flight.")
@click.option("--shutdown-delay", default=0.0, callback=_seconds, show_default=True, help="Seconds to go on accepting.")
@click.option("--pid-file", type=click.Path(path_type=Path), help="Keep the process id in this file while running.")
@click.option(
    "--token-file", type=click.Path(path_type=Path), help="File with the bearer token that clients must send."
)
@click.option("--allow-host", multiple=True, help="A further Host name that clients may use. May be repeated.")
@click.pass_obj
def demo(  # noqa: PLR0917 - click passes options by name
    router: SignalRouter,
    host: str,
    port: int,
    config: Path | None,
    grace_period: float,
    shutdown_delay: float,
    pid_file: Path | None,
    token_file: Path | None,
    allow_host: tuple[str, ...],
) -> int:
    """Start the demo service: edit its file, send it signals, and see what it serves."""
    safety = _safety(host, token_file, allow_host)
    path = config or _default_config()
    _log_to_stderr()
    from hotconf.service import Service
    from hotconf.web.demo import demo_conf, demo_server

    conf = demo_conf(path)
    service = Service(conf, grace_period=grace_period, shutdown_delay=shutdown_delay, router=router)
    server = demo_server(service, conf, host=host, port=port, safety=safety)
    if pid_file is not None:
        service.add(PidFile(pid_file))
    service.on_ready(lambda: _greet(server.url, path))
    return service.run()


class PidFile:
    """The process id in a file, from the moment everything before it has started. Keeps the Server protocol.

    Read by an operator's `kill -HUP $(cat FILE)`, so that it must not outlive the process.
    """

    def __init__(self, path: Path) -> None:
        self.name = f"pid file {path}"
        self._path = path
        self._text = f"{os.getpid()}\n"

    async def start(self) -> None:
        """Write it. Raises OSError, its `strerror` naming the file."""
        try:
            self._path.write_text(self._text, encoding="utf-8")
        except OSError as error:
            raise OSError(error.errno, f"cannot write {self._path}: {error.strerror}") from error

    def begin_drain(self) -> None:
        """Stay: the process is still there."""

    async def drain(self, *, deadline: float) -> tuple[str, ...]:  # noqa: ARG002 - the protocol's signature
        """Stay."""
        return ()

    async def stop(self) -> None:
        """Remove it, unless a successor has written its own."""
        with contextlib.suppress(OSError):
            if self._path.read_text(encoding="utf-8") == self._text:
                self._path.unlink()


def _safety(host: str, token_file: Path | None, allow_host: tuple[str, ...]) -> Safety:
    from hotconf.web.safety import Safety

    try:
        safety = Safety.read(token_file=token_file, hosts=allow_host)
        safety.check_bind(host)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    return safety


def _default_config() -> Path:
    if SAMPLE.exists():
        return SAMPLE
    if not COPY.exists():
        try:
            COPY.write_text(files("hotconf.web").joinpath("demo.toml").read_text(encoding="utf-8"), encoding="utf-8")
        except OSError as error:
            raise click.UsageError(f"cannot write {COPY}: {error.strerror}; name a file with --config") from None
    return COPY


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logger = logging.getLogger("hotconf")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _greet(url: str, path: Path) -> None:
    pid = os.getpid()
    advice = {
        f"curl {url}/": "the message, as configured",
        f"edit {path}": "it changes by itself",
        f"kill -HUP {pid}": "reloads, and says what came of it",
        "break the file": "the old message still serves; the log names the line",
        f"curl {url}/status": "the same, as JSON",
        f"curl '{url}/slow?seconds=10'": "then press Ctrl-C here: it finishes first",
    }
    width = max(map(len, advice))
    lines = [f"  {what:<{width}}  {outcome}" for what, outcome in advice.items()]
    text = "\n".join([f"hotconf demo: {url} with {path}, pid {pid}", "", "Try, in another terminal:", *lines, ""])
    with contextlib.suppress(OSError):  # nobody reads it: a closed terminal or pipe is no reason to stop serving
        print(text, flush=True)
