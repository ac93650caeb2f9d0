"""`hotconf history`: the generations of a running process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hotconf.cli.output import print_json
from hotconf.cli.remote import Remote, format_option, takes_remote

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.command
@takes_remote
@format_option
def history(remote: Remote, style: str) -> None:
    """List the generations of the process at URL, the newest last: when, why, and what changed."""
    reply = remote.ask(lambda client: client.get("history", "running", "generations"))
    if style == "json":
        print_json(reply.document)
        return
    for entry in reply.document["generations"]:
        click.echo(_line(entry, running=entry["generation"] == reply.document["running"]))


def _line(entry: Mapping[str, Any], *, running: bool) -> str:
    mark = click.style("*", fg="green", bold=True) if running else " "
    when = str(entry["loaded_at"])[:19].replace("T", " ")
    why = ", ".join(entry["triggers"])
    changed = ", ".join(path or "everything" for path in entry["changed"])
    note = f"; {entry['note']}" if entry.get("note") else ""
    return f"{mark} {entry['generation']:>4}  {when}Z  {why}: {changed}{note}"
