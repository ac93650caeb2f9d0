"""`hotconf explain`: where a value comes from."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from hotconf.cli.output import literal, print_json, progress
from hotconf.cli.target import Inputs, is_target, loaded, takes_inputs

if TYPE_CHECKING:
    from hotconf.conf import HotConf
    from hotconf.explain import Explanation


@click.command
@functools.partial(takes_inputs, metavar="[TARGET] [FILE]... KEY")
@click.option("--key", help="The value to explain, as a dotted path.  [default: the last argument]")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def explain(inputs: Inputs, key: str | None, style: str) -> None:
    """Say which source supplied the value at KEY, and which values it shadows. Secrets are masked.

    TARGET is module:attr, a settings class or a HotConf; files are merged, later above earlier.
    """
    if key is None:
        *words, key = inputs.words or ("",)
        inputs = replace(inputs, words=tuple(words))
    if not key or is_target(key):
        raise click.UsageError("name the KEY to explain, such as database.pool_size")
    conf = inputs.configuration()
    _check(conf, key)  # first: a forgotten KEY makes a file's name one, and that file would be missed
    with progress("reading"):
        loaded(conf)
    explanation = _explained(conf, key)
    if style == "json":
        print_json(explanation.as_dict())
    else:
        _print(explanation)


def _check(conf: HotConf[Any], key: str) -> None:
    from hotconf.errors import SchemaError
    from hotconf.schema import resolve

    try:
        resolve(conf.schema, key)
    except SchemaError as error:
        raise click.UsageError(f"{error}; KEY is the last argument") from None


def _explained(conf: HotConf[Any], key: str) -> Explanation:
    try:
        return conf.explain(key)
    except KeyError:
        raise click.UsageError(f"the configuration has no {key!r}") from None


def _print(explanation: Explanation) -> None:
    head = click.style(explanation.path, bold=True)
    click.echo(f"{head} = {literal(explanation.value)}  from {explanation.origin}")
    for entry in explanation.shadowed:
        click.echo(f"  shadows {literal(entry.value)}  from {entry.origin}")
