"""`hotconf reload`, `history`, `rollback` and `confirm`: the short verbs on a running process."""

from __future__ import annotations

import click

from hotconf.cli.output import print_json
from hotconf.cli.remote import Remote, format_option, print_report, takes_remote


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
    return print_report(remote.ask(lambda client: client.report("POST", "reload", query=query)), style)


@click.command
@takes_remote
@format_option
def history(remote: Remote, style: str) -> None:
    """List the generations of the process at URL, newest last: the time, the triggers and the changed keys."""
    document = remote.ask(lambda client: client.get("history", "running", "generations")).document
    if style == "json":
        print_json(document)
        return
    for entry in document["generations"]:
        mark = click.style("*", fg="green", bold=True) if entry["generation"] == document["running"] else " "
        time = str(entry["loaded_at"])[:19].replace("T", " ")
        changed = ", ".join(path or "everything" for path in entry["changed"])
        note = f"; {entry['note']}" if entry.get("note") else ""
        click.echo(f"{mark} {entry['generation']:>4}  {time}Z  {', '.join(entry['triggers'])}: {changed}{note}")


@click.command
@takes_remote
@click.argument("generation", type=click.IntRange(1), required=False)
@format_option
def rollback(remote: Remote, generation: int | None, style: str) -> int:
    """Roll the process at URL back to GENERATION, by default to the one before the running one.

    The rollback stays in force until the sources change. `hotconf history URL` lists the generations.
    """
    body = None if generation is None else {"generation": generation}
    return print_report(remote.ask(lambda client: client.report("POST", "rollback", body=body)), style)


@click.command
@takes_remote
@format_option
def confirm(remote: Remote, style: str) -> int:
    """Make a change of `hotconf set --confirm` in the process at URL permanent."""
    return print_report(remote.ask(lambda client: client.report("POST", "confirm")), style)
