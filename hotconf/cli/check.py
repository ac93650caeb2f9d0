"""`hotconf check`: every fault of a configuration at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hotconf.cli.output import Refused, echo, echo_fault, print_json, progress
from hotconf.cli.remote import Remote, completed, token_option
from hotconf.cli.target import Inputs, loaded, takes_inputs
from hotconf.values.layer import Origin
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hotconf.web.client import Client


@click.command
@takes_inputs
@click.option("--format", "style", type=click.Choice(["text", "json", "github"]), default="text", show_default=True)
@click.option("--against", metavar="URL", help="Ask this running process what a reload would do.")
@token_option
def check(inputs: Inputs, style: str, against: str | None, token_file: Path | None) -> int:
    """Check a configuration and print every fault as `file:line:col: path: message`, one a line.

    TARGET is module:attr, a settings class or a HotConf; files are merged, later above earlier. Without a TARGET, files
    only have to be readable. With --against, the running process makes a dry run of a reload of its own sources and
    reports what would change, what would wait for a restart, and what would be refused. A TARGET or FILE named as well
    is checked here first, and is not sent. Exit code: 0 no faults, 1 faults found, 2 unusable arguments.
    """
    remote = None if against is None else Remote(completed(against), token_file)
    if remote is None or inputs.words or inputs.files:
        faults = _faults(inputs)
        if faults or remote is None:
            print_faults(faults, style)
            return int(bool(faults))
    if style == "github":
        return remote.ask(_annotate_dry_run)
    return remote.report(style, lambda client: client.report("POST", "reload", query={"dry_run": "1"}))


def _faults(inputs: Inputs) -> Sequence[Fault]:
    conf = inputs.configuration()
    try:
        with progress("reading"):
            loaded(conf)
    except Refused as refused:
        return refused.faults
    return ()


async def _annotate_dry_run(client: Client) -> int:
    report = await client.report("POST", "reload", query={"dry_run": "1"})
    faults = []
    for entry in report["faults"]:
        place = [entry["source"], entry["line"], entry["column"]]
        origin = None if entry["line"] is None else Origin("file", *place)
        faults.append(Fault(entry["path"], entry["text"] if origin is None else entry["message"], origin))
    print_faults(faults, "github")
    return int(report["outcome"] == "rejected")


def print_faults(faults: Sequence[Fault], style: str) -> None:
    """Print faults to stdout in one of the three styles."""
    if style == "json":
        print_json({"faults": faults})
    elif style == "text":
        for fault in faults:
            echo_fault(fault)
    else:
        for annotation in [_annotation(fault) for fault in faults]:
            echo(annotation)


def _annotation(fault: Fault) -> str:
    """Return a fault as a workflow command of GitHub Actions."""
    where = fault.origin
    if where is None or (where.kind != "file" and where.line is None):
        return f"::error::{_escape(str(fault))}"
    places = {"file": where.source, "line": where.line, "col": where.column}
    properties = ",".join(
        f"{name}={_escape(str(value)).replace(':', '%3A').replace(',', '%2C')}"
        for name, value in places.items()
        if value is not None
    )
    return f"::error {properties}::{_escape(f'{fault.path}: {fault.message}' if fault.path else fault.message)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
