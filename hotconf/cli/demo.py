"""`hotconf demo`: a service whose configuration changes under load."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hotconf.cli.log import log_to_stderr, say
from hotconf.cli.serving import PATH, PidFile, Serving, serves

if TYPE_CHECKING:
    from hotconf.signals import SignalRouter

SAMPLE = Path("sample_configs/demo.toml")
COPY = Path("hotconf-demo.toml")


@click.command
@click.pass_obj
@serves("unix_socket", "log_format")
@click.option("--config", type=PATH, help=f"Configuration file.  [default: {SAMPLE}]")
def demo(router: SignalRouter, serving: Serving, config: Path | None) -> int:
    """Start the demo service. It prints what to try: edit its file, send it signals, and look at what it serves."""
    safety = serving.safety()
    path = config or _default_config()
    log_to_stderr()
    from hotconf.demo.service import demo_conf, demo_server, greeting

    conf = demo_conf(path)
    service = serving.service(conf, router)
    server = demo_server(service, conf, host=serving.host, port=serving.port, safety=safety)
    if serving.pid_file is not None:
        service.add(PidFile(serving.pid_file))
    service.on_ready(lambda: say(greeting(server.url, path)))
    return service.run()


def _default_config() -> Path:
    if SAMPLE.exists():
        return SAMPLE
    if not COPY.exists():
        try:
            COPY.write_text(files("hotconf.demo").joinpath("demo.toml").read_text(encoding="utf-8"), encoding="utf-8")
        except OSError as error:
            raise click.UsageError(f"cannot write {COPY}: {error.strerror}; name a file with --config") from None
    return COPY
