"""`hotconf explain`: the source of a value."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from hotconf.cli.output import echo, literal, print_json, progress, styled
from hotconf.cli.remote import Remote, token_option
from hotconf.cli.target import Inputs, is_target, is_url, loaded, takes_inputs
from hotconf.values.report import jsonable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hotconf.web.client import Client


@click.command
@functools.partial(takes_inputs, metavar="URL KEY | [TARGET] [FILE]... KEY")
@click.option("--key", help="The value to explain, as a dotted path.  [default: the last argument]")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@token_option
def explain(inputs: Inputs, key: str | None, style: str, token_file: Path | None) -> None:
    """Print the source of the value at KEY, and the values that it shadows. Secrets are masked.

    TARGET is module:attr, a settings class or a HotConf; files are merged, later above earlier. URL is a running
    process, whose configuration in force is explained.
    """
    if key is None:
        *words, key = inputs.words or ("",)
        inputs = replace(inputs, words=tuple(words))
    if not key or is_target(key) or is_url(key):
        raise click.UsageError("name the KEY to explain, such as database.pool_size")
    url = inputs.url()
    if url is None:
        _print(_read(inputs, key), style)
    else:
        _ask_and_print(Remote(url, token_file), key, style)


def _read(inputs: Inputs, key: str) -> Mapping[str, Any]:
    """Return the explanation for what the arguments name, as JSON shows it."""
    from hotconf.errors import SchemaError
    from hotconf.schema.fields import resolve_path

    conf = inputs.configuration()
    try:  # before anything is read: where KEY was forgotten, the last file was taken for it
        resolve_path(conf.schema, key)
    except SchemaError as error:
        raise click.UsageError(f"{error}; KEY is the last argument") from None
    with progress("reading"):
        loaded(conf)
    try:
        explanation: Mapping[str, Any] = jsonable(conf.explain(key))
    except KeyError:
        raise click.UsageError(f"the configuration has no {key!r}") from None
    return explanation


def _ask_and_print(remote: Remote, key: str, style: str) -> None:
    from urllib.parse import quote

    import hotconf.values.keypath as keypath

    try:
        keypath.parse(key)
    except ValueError as error:
        raise click.UsageError(str(error)) from None

    async def ask_and_print(client: Client) -> None:
        _print((await client.get(f"explain/{quote(key, safe='')}", "value", "origin", "shadowed")).document, style)

    remote.ask(ask_and_print)


def _print(explanation: Mapping[str, Any], style: str) -> None:
    shadowed = [f"  shadows {literal(entry['value'])}  from {entry['origin']}" for entry in explanation["shadowed"]]
    value = f" = {literal(explanation['value'])}  from {explanation['origin']}"
    head = styled(explanation["path"], bold=True)
    if style == "json":
        print_json(explanation)
        return
    echo(head, value)
    for line in shadowed:
        echo(line)
