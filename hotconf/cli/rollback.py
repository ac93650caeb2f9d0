"""`hotconf rollback`: go back to an earlier generation."""

from __future__ import annotations

import click

from hotconf.cli.remote import Remote, format_option, print_report, takes_remote


@click.command
@takes_remote
@click.argument("generation", type=click.IntRange(1), required=False)
@format_option
def rollback(remote: Remote, generation: int | None, style: str) -> int:
    """Have the process at URL go back to GENERATION, or to the one before the running one.

    It holds until the sources say something new. `hotconf history URL` lists what there is to go back to.
    """
    body = None if generation is None else {"generation": generation}
    report = remote.ask(lambda client: client.report("POST", "rollback", body=body))
    return print_report(report, style)
