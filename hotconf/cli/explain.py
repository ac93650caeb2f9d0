"""`hotconf explain`: where a value comes from."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from hotconf.cli.output import literal, print_json, progress
from hotconf.cli.remote import Remote, token_option
from hotconf.cli.target import Inputs, is_target, is_url, loaded, takes_inputs
from hotconf.values.report import jsonable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hotconf.conf import HotConf


@click.command
@functools.partial(takes_inputs, metavar="URL KEY | [TARGET] [FILE]... KEY")
@click.option("--key", help="The value to explain, as a dotted path.  [default: the last argument]")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@token_option
def explain(inputs: Inputs, key: str | None, style: str, token_file: Path | None) -> None:
    """Say which source supplied the value at KEY, and which values it shadows. Secrets are masked.

    TARGET is module:attr, a settings class or a HotConf; files are merged, later above earlier. URL is a running
    process, which is asked where it has the value from.
    """
    if key is None:
        *words, key = inputs.words or ("",)
        inputs = replace(inputs, words=tuple(words))
    if not key or is_target(key) or is_url(key):
        raise click.UsageError("name the KEY to explain, such as database.pool_size")
    url = inputs.url()
    explanation = _read(inputs, key) if url is None else _asked(Remote(url, token_file), key)
    if style == "json":
        print_json(explanation)
    else:
        _print(explanation)


def _read(inputs: Inputs, key: str) -> Mapping[str, Any]:
    """Return the explanation of what the arguments name, as JSON shows it."""
    conf = inputs.configuration()
    _check(conf, key)  # first: a forgotten KEY makes a file's name one, and that file would be missed
    with progress("reading"):
        loaded(conf)
    try:
        explanation: Mapping[str, Any] = jsonable(conf.explain(key))
    except KeyError:
        raise click.UsageError(f"the configuration has no {key!r}") from None
    return explanation


def _asked(remote: Remote, key: str) -> Mapping[str, Any]:
    """Return the same of a running process."""
    from urllib.parse import quote

    import hotconf.values.keypath as keypath

    try:
        keypath.parse(key)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    path = f"explain/{quote(key, safe='')}"
    found: Mapping[str, Any] = remote.ask(lambda client: client.get(path, "value", "origin", "shadowed")).document
    return found


def _check(conf: HotConf[Any], key: str) -> None:
    from hotconf.errors import SchemaError
    from hotconf.schema.fields import resolve_path

    try:
        resolve_path(conf.schema, key)
    except SchemaError as error:
        raise click.UsageError(f"{error}; KEY is the last argument") from None


def _print(explanation: Mapping[str, Any]) -> None:
    head = click.style(explanation["path"], bold=True)
    click.echo(f"{head} = {literal(explanation['value'])}  from {explanation['origin']}")
    for entry in explanation["shadowed"]:
        click.echo(f"  shadows {literal(entry['value'])}  from {entry['origin']}")
