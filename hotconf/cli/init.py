"""`hotconf init`: a sample file for a settings class."""

from __future__ import annotations

import os

import click

from hotconf.cli.output import write_text
from hotconf.cli.target import schema_at


@click.command
@click.argument("target")
@click.option("--output", metavar="FILE", help="Write to this new file instead of stdout.")
def init(target: str, output: str | None) -> None:
    """Print a commented TOML sample for TARGET: every setting with what it is for, its type, bounds and default.

    TARGET is module:attr, a settings class or a HotConf. Required settings get a placeholder that `check` accepts;
    those for which none was found are commented out and named on stderr. Secrets are left blank.
    """
    if output is not None and os.path.lexists(output):
        raise click.UsageError(f"{output} exists already: name another file, or move it away first")
    from hotconf.cli.sample import sample

    found = sample(schema_at(target))
    write_text(found.text, output)
    for fault in found.faults:
        click.echo(f"to be filled in: {fault.path + ': ' if fault.path else ''}{fault.message}", err=True)
