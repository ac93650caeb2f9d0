"""`hotconf init` and `hotconf schema`: a sample file and the JSON Schema of a settings class."""

from __future__ import annotations

import json
import os

import click

from hotconf.cli.output import echo, write_text
from hotconf.cli.target import schema_at

FORMATS = ("toml", "yaml", "json", "env", "markdown")


@click.command
@click.argument("target")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--output", metavar="FILE", help="Write to this new file instead of stdout.")
@click.option("--format", "text_format", type=click.Choice(FORMATS), help="By default that of FILE, or toml.")
def init(target: str, keys: tuple[str, ...], output: str | None, text_format: str | None) -> None:
    """Print a commented sample for TARGET: each setting with its description, type, bounds and default.

    TARGET is module:attr, a settings class or a HotConf. Only required settings, and those that a KEY names, are active
    lines; defaults are comments. A required setting gets a placeholder that `check` accepts; a setting without such a
    placeholder is commented out and named on stderr. Secrets are left blank.

    JSON has no comments: it holds the active lines alone. The format markdown is a table of all settings, with the
    variable of the environment for each.
    """
    if output is not None and os.path.lexists(output):
        raise click.UsageError(f"{output} exists already: name another file, or move it away first")
    from hotconf.errors import SchemaError
    from hotconf.sample import sample
    from hotconf.schema.fields import resolve_path

    told = None if output is None else _format_of(output)
    if text_format and told and text_format != told:
        raise click.UsageError(f"{output} is read as {told}: leave out --format, or name another file")
    model = schema_at(target)
    try:
        asked = [resolve_path(model, key) for key in keys]
    except SchemaError as error:
        raise click.UsageError(str(error)) from None
    found = sample(model, text_format or told or "toml", asked)
    write_text(found.text, output)
    for fault in found.faults:
        echo(f"to be filled in: {fault.path + ': ' if fault.path else ''}{fault.message}", err=True)


def _format_of(output: str) -> str | None:
    import hotconf.formats as formats
    from hotconf.errors import FormatError

    try:
        return formats.format_of(output).replace("dotenv", "env")
    except FormatError:
        return "markdown" if output.endswith(".md") else None


@click.command
@click.argument("target")
@click.option("--output", metavar="FILE", help="Write to this file instead of stdout.")
def schema(target: str, output: str | None) -> None:
    """Print the JSON Schema of TARGET for editors: Taplo for TOML, the YAML and JSON language servers.

    TARGET is module:attr, a settings class or a HotConf. `x-restart-required` marks a key that only a restart applies,
    `x-secret` a key that is masked.
    """
    from hotconf.jsonschema import json_schema

    write_text(json.dumps(json_schema(schema_at(target)), indent=2, ensure_ascii=False) + "\n", output)
