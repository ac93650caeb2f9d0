"""`hotconf confirm`: make a change permanent that would otherwise be taken back."""

from __future__ import annotations

import click

from hotconf.cli.remote import Remote, format_option, print_report, takes_remote


@click.command
@takes_remote
@format_option
def confirm(remote: Remote, style: str) -> int:
    """Make permanent what `hotconf set --confirm` changed in the process at URL."""
    report = remote.ask(lambda client: client.report("POST", "confirm"))
    return print_report(report, style)
