"""`hotconf reload`, `history`, `rollback` and `confirm`: the short verbs on a running process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hotconf.cli.output import echo, print_json, styled
from hotconf.cli.remote import Remote, format_option, takes_remote

if TYPE_CHECKING:
    from hotconf.web.client import Client


@click.command
@takes_remote
@click.option("--dry-run", is_flag=True, help="Run validation and prepare hooks, report the result, apply nothing.")
@click.option("--force", is_flag=True, help="Overrule the guard and a held rollback.")
@format_option
def reload(remote: Remote, style: str, *, dry_run: bool, force: bool) -> int:
    """Reload the process at URL and print the report.

    Exit code: 0 applied or unchanged, 1 rejected or not reached.
    """
    query = {name: "1" for name, wanted in {"dry_run": dry_run, "force": force}.items() if wanted}
    return remote.report(style, lambda client: client.report("POST", "reload", query=query))


@click.command
@takes_remote
@format_option
def history(remote: Remote, style: str) -> None:
    """List the generations of the process at URL, newest last: the time, the triggers and the changed keys."""

    async def ask_and_print(client: Client) -> None:
        document = (await client.get("history", "running", "generations")).document
        lines = []
        for entry in document["generations"]:
            mark = styled("*", fg="green", bold=True) if entry["generation"] == document["running"] else " "
            time = str(entry["loaded_at"])[:19].replace("T", " ")
            changed = ", ".join(path or "everything" for path in entry["changed"])
            note = f"; {entry['note']}" if entry.get("note") else ""
            lines.append((mark, f" {entry['generation']:>4}  {time}Z  {', '.join(entry['triggers'])}: {changed}{note}"))
        if style == "json":
            print_json(document)
        else:
            for line in lines:
                echo(*line)

    remote.ask(ask_and_print)


@click.command
@takes_remote
@click.argument("generation", type=click.IntRange(1), required=False)
@format_option
def rollback(remote: Remote, generation: int | None, style: str) -> int:
    """Roll the process at URL back to GENERATION, by default to the one before the running one.

    The rollback stays in force until the sources change. `hotconf history URL` lists the generations.
    """
    body = None if generation is None else {"generation": generation}
    return remote.report(style, lambda client: client.report("POST", "rollback", body=body))


@click.command
@takes_remote
@format_option
def confirm(remote: Remote, style: str) -> int:
    """Make a change of `hotconf set --confirm` in the process at URL permanent."""
    return remote.report(style, lambda client: client.report("POST", "confirm"))
