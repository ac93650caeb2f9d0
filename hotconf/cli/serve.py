"""`hotconf serve`: a configuration over HTTP."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from hotconf.cli.log import log_to_stderr, say
from hotconf.cli.serving import PATH, PidFile, Serving, seconds, serves
from hotconf.cli.target import Inputs, takes_inputs

if TYPE_CHECKING:
    from pathlib import Path

    from hotconf.signals import SignalRouter


@click.command
@click.pass_obj
@takes_inputs
@serves()
@click.option("--overlay", type=PATH, help="TOML file that PATCH writes. Without it PATCH is refused.")
@click.option(
    "--last-good",
    type=PATH,
    help="File with the last applied configuration, for a start while sources fail.",
)
@click.option("--no-watch", is_flag=True, help="Reload on request only, not when a file changes.")
@click.option(
    "--heartbeat",
    type=click.FloatRange(0.1, 3600),
    callback=seconds,
    default=15.0,
    show_default=True,
    help="Seconds between heartbeats in an event stream.",
)
@click.option(
    "--max-watchers",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="How many requests and streams may wait for a change.",
)
def serve(
    inputs: Inputs,
    router: SignalRouter,
    serving: Serving,
    *,
    overlay: Path | None,
    last_good: Path | None,
    no_watch: bool,
    heartbeat: float,
    max_watchers: int,
) -> int:
    """Serve a configuration over HTTP: parts by path, long polls, event streams, reloads.

    TARGET is module:attr, a settings class or a HotConf; files are merged, later above earlier. Without a TARGET the
    files are served as they are, and keys with names such as password or token are masked.
    """
    from hotconf.web.app import config_server

    safety = serving.safety()
    log_to_stderr(serving.log_format)
    given = {"overlay": overlay, "last_good": last_good, "watch": False if no_watch else None}
    conf = inputs.configuration(**{name: value for name, value in given.items() if value is not None})
    service = serving.service(conf, router)
    server = config_server(
        service,
        conf,
        safety=safety,
        host=serving.host,
        port=serving.port,
        unix_socket=serving.unix_socket,
        heartbeat=heartbeat,
        max_watchers=max_watchers,
    )
    if serving.pid_file is not None:
        service.add(PidFile(serving.pid_file))
    files = ", ".join((*inputs.words, *inputs.files))

    def greet() -> None:
        url = server.url if server.unix_socket is None else f"unix:{server.unix_socket}"  # as the other verbs take it
        say(f"hotconf serve: {url} with {files}, pid {os.getpid()}")

    service.on_ready(greet)
    return service.run()
