"""`hotconf schema`: the JSON Schema of a settings class."""

from __future__ import annotations

import json

import click

from hotconf.cli.output import write_text
from hotconf.cli.target import schema_at


@click.command
@click.argument("target")
@click.option("--output", metavar="FILE", help="Write to this file instead of stdout.")
def schema(target: str, output: str | None) -> None:
    """Print the JSON Schema of TARGET, for editors: Taplo for TOML, the YAML and JSON language servers.

    TARGET is module:attr, a settings class or a HotConf. `x-restart-required` marks what only a restart applies, and
    `x-secret` what is masked.
    """
    from hotconf.schema.jsonschema import json_schema

    text = json.dumps(json_schema(schema_at(target)), indent=2, ensure_ascii=False) + "\n"
    write_text(text, output)
