"""`hotconf check`: every fault of a configuration at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from hotconf.cli.output import Refused, echo, echo_fault, print_json, progress
from hotconf.cli.remote import Remote, completed, token_option
from hotconf.cli.target import Inputs, loaded, takes_inputs
from hotconf.values.layer import Origin
from hotconf.values.report import Fault, MissingField, UnknownKey, in_order

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hotconf.web.client import Client


@click.command
@takes_inputs
@click.option("--format", "style", type=click.Choice(["text", "json", "github"]), default="text", show_default=True)
@click.option(
    "--unknown",
    type=click.Choice(["error", "warn", "ignore"]),
    help="What to do about keys that no field reads and the class does not refuse.  [default: as the TARGET, or warn]",
)
@click.option("--partial", is_flag=True, help="Accept that required settings are missing: other files have them.")
@click.option("--against", metavar="URL", help="Ask this running process what a reload would do.")
@token_option
def check(
    inputs: Inputs, style: str, unknown: str | None, against: str | None, token_file: Path | None, *, partial: bool
) -> int:
    """Check a configuration and print every fault as `file:line:col: path: message`, one a line.

    TARGET is module:attr, a settings class or a HotConf; files are merged, later above earlier. Without a TARGET, files
    only have to be readable. With --against, the running process makes a dry run of a reload of its own sources and
    reports what would change, what would wait for a restart, and what would be refused. A TARGET or FILE named as well
    is checked here first, and is not sent.

    A key of a file that no field reads is named even where the class ignores or allows it: as a warning, unless
    --unknown says otherwise. Exit code: 0 no faults, 1 faults found, 2 unusable arguments.
    """
    remote = None if against is None else Remote(completed(against), token_file)
    if remote is None or inputs.words or inputs.files:
        faults, warnings = _found(inputs, unknown, partial=partial)
        if faults or remote is None:
            print_faults(faults, style, warnings)
            return int(bool(faults))
    if style == "github":
        return remote.ask(_annotate_dry_run)
    return remote.report(style, lambda client: client.report("POST", "reload", query={"dry_run": "1"}))


def _found(inputs: Inputs, unknown: str | None, *, partial: bool) -> tuple[list[Fault], list[Fault]]:
    """Return the faults and the warnings of what the arguments name."""
    conf = inputs.configuration()
    wanted = unknown or conf.options.unknown
    if not conf.loaded:
        conf.amend(unknown="ignore" if wanted == "ignore" else "error")  # so that a refusal names them too
    found: Sequence[Fault] = ()
    try:
        with progress("reading"):
            loaded(conf)
        found = conf.unknown_keys
    except Refused as refused:
        found = refused.faults
    found = [fault for fault in found if not (partial and isinstance(fault, MissingField))]
    warned: list[Fault] = [fault for fault in found if isinstance(fault, UnknownKey) and wanted != "error"]
    return [fault for fault in found if fault not in warned], warned if wanted == "warn" else []


async def _annotate_dry_run(client: Client) -> int:
    report = await client.report("POST", "reload", query={"dry_run": "1"})
    faults = []
    for entry in report["faults"]:
        place = [entry["source"], entry["line"], entry["column"]]
        origin = None if entry["line"] is None else Origin("file", *place)
        faults.append(Fault(entry["path"], entry["text"] if origin is None else entry["message"], origin))
    print_faults(faults, "github")
    return int(report["outcome"] == "rejected")


def print_faults(faults: Sequence[Fault], style: str, warnings: Sequence[Fault] = ()) -> None:
    """Print faults and warnings to stdout in one of the three styles."""
    if style == "json":
        print_json({"faults": faults, "warnings": warnings} if warnings else {"faults": faults})
    elif style == "text":
        marked = (replace(warning, message=f"{warning.message} (warning)") for warning in warnings)
        for fault in in_order((*faults, *marked)):
            echo_fault(fault)
    else:
        for level, fault in (*(("error", fault) for fault in faults), *(("warning", fault) for fault in warnings)):
            echo(_annotation(level, fault))


def _annotation(level: str, fault: Fault) -> str:
    """Return a fault as a workflow command of GitHub Actions."""
    where = fault.origin
    if where is None or (where.kind != "file" and where.line is None):
        return f"::{level}::{_escape(str(fault))}"
    places = {"file": where.source, "line": where.line, "col": where.column}
    properties = ",".join(
        f"{name}={_escape(str(value)).replace(':', '%3A').replace(',', '%2C')}"
        for name, value in places.items()
        if value is not None
    )
    return f"::{level} {properties}::{_escape(f'{fault.path}: {fault.message}' if fault.path else fault.message)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
