"""`hotconf demo`: a service whose configuration changes under load."""

from __future__ import annotations

import logging
import os
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hotconf.service import Service
    from hotconf.signals import SignalRouter

SAMPLE = Path("sample_configs/demo.toml")
COPY = Path("hotconf-demo.toml")


@click.command
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, help="Port to listen on; 0 lets the kernel choose.")
@click.option("--config", type=click.Path(path_type=Path), help=f"Configuration file.  [default: {SAMPLE}]")
@click.option("--grace-period", default=25.0, show_default=True, help="Seconds that work in flight has to finish.")
@click.option("--shutdown-delay", default=0.0, show_default=True, help="Seconds to go on accepting after the signal.")
@click.option("--pid-file", type=click.Path(path_type=Path), help="Write the process id to this file.")
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
    from hotconf.service import Service
    from hotconf.web.safety import Safety

    try:
        safety = Safety.read(token_file=token_file, hosts=allow_host)
        safety.check_bind(host)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    _log_to_stderr()
    path = config or _default_config()
    from hotconf.web.demo import demo_conf, demo_server

    conf = demo_conf(path)
    service = Service(conf, grace_period=grace_period, shutdown_delay=shutdown_delay, router=router)
    server = demo_server(service, conf, host=host, port=port, safety=safety)
    service.on_ready(lambda: _greet(server.url, path))
    if pid_file is None:
        return service.run()
    return _run_with_pid_file(service, pid_file)


def _default_config() -> Path:
    if SAMPLE.exists():
        return SAMPLE
    if not COPY.exists():
        COPY.write_text(files("hotconf.web").joinpath("demo.toml").read_text(encoding="utf-8"), encoding="utf-8")
    return COPY


def _run_with_pid_file(service: Service, pid_file: Path) -> int:
    pid_file.write_text(f"{os.getpid()}\n", encoding="utf-8")
    try:
        return service.run()
    finally:
        pid_file.unlink(missing_ok=True)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logger = logging.getLogger("hotconf")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _greet(url: str, path: Path) -> None:
    pid = os.getpid()
    lines = [
        f"hotconf demo: {url} with {path}, pid {pid}",
        "",
        "Try, in another terminal:",
        f"  curl {url}/                        the message, as configured",
        f"  edit {path}                        it changes by itself",
        f"  kill -HUP {pid}                     reloads, and says what came of it",
        "  break the file                     the old message still serves; the log names the line",
        f"  curl {url}/status                  the same, as JSON",
        f"  curl '{url}/slow?seconds=10'       then press Ctrl-C here: it finishes first",
        "",
    ]
    print("\n".join(lines), flush=True)
