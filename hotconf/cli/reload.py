"""`hotconf reload`: have a running process reload, and wait for the verdict."""

from __future__ import annotations

import click

from hotconf.cli.remote import Remote, format_option, print_report, takes_remote


@click.command
@takes_remote
@click.option("--dry-run", is_flag=True, help="Ask everybody, change nothing, and say what a reload would do.")
@click.option("--force", is_flag=True, help="Overrule the guard, and a rollback that holds.")
@format_option
def reload(remote: Remote, style: str, *, dry_run: bool, force: bool) -> int:
    """Have the process at URL reload, and print what came of it.

    Exit code: 0 applied or unchanged, 1 rejected, or not reached.
    """
    query = {name: "1" for name, wanted in {"dry_run": dry_run, "force": force}.items() if wanted}
    report = remote.ask(lambda client: client.report("POST", "reload", query=query))
    return print_report(report, style)
