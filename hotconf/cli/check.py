"""`hotconf check`: every fault of a configuration at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hotconf.cli.output import Refused, fault_line, print_json, progress
from hotconf.cli.remote import Remote, completed, print_report, token_option
from hotconf.cli.target import Inputs, loaded, takes_inputs
from hotconf.values.report import jsonable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hotconf.values.report import Fault


@click.command
@takes_inputs
@click.option("--format", "style", type=click.Choice(["text", "json", "github"]), default="text", show_default=True)
@click.option("--against", metavar="URL", help="Ask this running process what a reload would do.")
@token_option
def check(inputs: Inputs, style: str, against: str | None, token_file: Path | None) -> int:
    """Check a configuration and print every fault as `file:line:col: path: message`, one a line.

    TARGET is module:attr, a settings class or a HotConf; files are merged, later above earlier. Without a TARGET, files
    only have to be readable. With --against, a running process goes through a reload of its own sources up to the point
    where it would come into force: what would change, what would wait for a restart, and who refuses. It never sees a
    TARGET or FILE named as well: these are checked here first. Exit code: 0 no faults, 1 faults found, 2 unusable
    arguments.
    """
    if against is not None and not (inputs.words or inputs.files):
        return _check_process(Remote(completed(against), token_file), style)
    faults = _faults(inputs)
    if against is not None and not faults:
        return _check_process(Remote(completed(against), token_file), style)
    print_faults(faults, style)
    return int(bool(faults))


def _faults(inputs: Inputs) -> Sequence[Fault]:
    conf = inputs.configuration()
    try:
        with progress("reading"):
            loaded(conf)
    except Refused as refused:
        return refused.faults
    return ()


def _check_process(remote: Remote, style: str) -> int:
    report = remote.ask(lambda client: client.report("POST", "reload", query={"dry_run": "1"}))
    if style != "github":
        return print_report(report, style)
    print_faults([_fault(entry) for entry in report["faults"]], style)
    return int(report["outcome"] == "rejected")


def _fault(entry: Mapping[str, Any]) -> Fault:
    from hotconf.values.layer import Origin
    from hotconf.values.report import Fault

    where = Origin("file", entry["source"], entry["line"], entry["column"]) if entry["line"] is not None else None
    return Fault(entry["path"], entry["message"] if where else entry["text"], where)


def print_faults(faults: Sequence[Fault], style: str) -> None:
    """Print faults to stdout in one of the three styles."""
    if style == "json":
        print_json({"faults": jsonable(faults)})
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
