"""`hotconf check`: every fault of a configuration at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hotconf.cli.output import Refused, fault_line, print_json, progress
from hotconf.cli.target import Inputs, loaded, takes_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hotconf.report import Fault


@click.command
@takes_inputs
@click.option("--format", "style", type=click.Choice(["text", "json", "github"]), default="text", show_default=True)
def check(inputs: Inputs, style: str) -> int:
    """Check a configuration and print every fault as `file:line:col: path: message`, one a line.

    TARGET is module:attr, a settings class or a HotConf; files are merged, later above earlier. Without a TARGET, files
    only have to be readable. Exit code: 0 no faults, 1 faults found, 2 unusable arguments.
    """
    conf = inputs.configuration()
    try:
        with progress("reading"):
            loaded(conf)
    except Refused as refused:
        print_faults(refused.faults, style)
        return 1
    print_faults((), style)
    return 0


def print_faults(faults: Sequence[Fault], style: str) -> None:
    """Print faults to stdout in one of the three styles."""
    if style == "json":
        print_json({"faults": [fault.as_dict() for fault in faults]})
        return
    for fault in faults:
        click.echo(fault_line(fault) if style == "text" else annotation(fault))


def annotation(fault: Fault) -> str:
    """Return a fault as a workflow command of GitHub Actions."""
    where = fault.origin
    in_file = where is not None and (where.kind == "file" or where.line is not None)
    places = {"file": where.source, "line": where.line, "col": where.column} if where is not None and in_file else {}
    shown = ",".join(f"{name}={_escape_property(str(value))}" for name, value in places.items() if value is not None)
    text = fault.message if in_file and not fault.path else f"{fault.path}: {fault.message}" if in_file else str(fault)
    return f"::error{' ' if shown else ''}{shown}::{_escape(text)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")
