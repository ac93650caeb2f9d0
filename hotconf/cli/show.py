"""`hotconf show`: the effective configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hotconf.cli.output import literal, print_document, print_json, progress
from hotconf.cli.target import Inputs, loaded, takes_inputs

if TYPE_CHECKING:
    from hotconf.conf import HotConf


@click.command
@takes_inputs
@click.option("--format", "style", type=click.Choice(["toml", "json", "yaml"]), default="toml", show_default=True)
@click.option("--origins", is_flag=True, help="List every value with the place it came from.")
def show(inputs: Inputs, style: str, *, origins: bool) -> None:
    """Print the effective configuration, defaults included and secrets masked.

    TARGET is module:attr, a settings class or a HotConf; files are merged, later above earlier.
    """
    conf = inputs.configuration()
    with progress("reading"):
        snapshot = loaded(conf)
    if not origins:
        print_document(snapshot.document, style)
    elif style == "toml":
        _print_lines(conf)
    elif style == "json":
        print_json(_with_origins(conf))
    else:
        print_document(_with_origins(conf), style)


def _with_origins(conf: HotConf[Any]) -> dict[str, Any]:
    """Return every leaf by its path."""
    explained = ((path, conf.explain(path)) for path in conf.snapshot.origins)
    return {path: {"value": entry.value, "origin": str(entry.origin)} for path, entry in explained}


def _print_lines(conf: HotConf[Any]) -> None:
    lines = {f"{path} = {literal(leaf['value'])}": leaf["origin"] for path, leaf in _with_origins(conf).items()}
    width = min(max(map(len, lines), default=0), _WIDEST)
    for line, origin in lines.items():
        click.echo(f"{line:<{width}}  {click.style(f'# {origin}', dim=True)}")


_WIDEST = 60
"""Columns up to which origins are lined up."""
