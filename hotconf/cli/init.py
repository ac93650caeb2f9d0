"""`hotconf init` and `hotconf schema`: a sample file and the JSON Schema of a settings class."""

from __future__ import annotations

import json
import os

import click

from hotconf.cli.output import echo, write_text
from hotconf.cli.target import schema_at


@click.command
@click.argument("target")
@click.option("--output", metavar="FILE", help="Write to this new file instead of stdout.")
def init(target: str, output: str | None) -> None:
    """Print a commented TOML sample for TARGET: each setting with its description, type, bounds and default.

    TARGET is module:attr, a settings class or a HotConf. A required setting gets a placeholder that `check` accepts; a
    setting without such a placeholder is commented out and named on stderr. Secrets are left blank.
    """
    if output is not None and os.path.lexists(output):
        raise click.UsageError(f"{output} exists already: name another file, or move it away first")
    from hotconf.cli.sample import sample

    found = sample(schema_at(target))
    write_text(found.text, output)
    for fault in found.faults:
        echo(f"to be filled in: {fault.path + ': ' if fault.path else ''}{fault.message}", err=True)


@click.command
@click.argument("target")
@click.option("--output", metavar="FILE", help="Write to this file instead of stdout.")
def schema(target: str, output: str | None) -> None:
    """Print the JSON Schema of TARGET for editors: Taplo for TOML, the YAML and JSON language servers.

    TARGET is module:attr, a settings class or a HotConf. `x-restart-required` marks a key that only a restart applies,
    `x-secret` a key that is masked.
    """
    from hotconf.schema.jsonschema import json_schema

    write_text(json.dumps(json_schema(schema_at(target)), indent=2, ensure_ascii=False) + "\n", output)
