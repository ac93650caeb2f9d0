"""`hotconf show`: the effective configuration."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click

from hotconf.cli.output import literal, print_document, print_json, progress
from hotconf.cli.remote import Remote, token_option
from hotconf.cli.target import Inputs, loaded, takes_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@click.command
@functools.partial(takes_inputs, metavar="URL | [TARGET] [FILE]...")
@click.option("--format", "style", type=click.Choice(["toml", "json", "yaml"]), default="toml", show_default=True)
@click.option("--origins", is_flag=True, help="List every value with the place it came from.")
@token_option
def show(inputs: Inputs, style: str, token_file: Path | None, *, origins: bool) -> None:
    """Print the effective configuration, defaults included and secrets masked.

    TARGET is module:attr, a settings class or a HotConf; files are merged, later above earlier. URL is a running
    process, which is asked what it runs with.
    """
    url = inputs.url()
    found = _read(inputs, origins=origins) if url is None else _asked(Remote(url, token_file), origins=origins)
    if style == "json":
        print_json(found)
    elif style == "toml" and origins:
        _print_lines(found)
    else:
        print_document(found, style)


def _read(inputs: Inputs, *, origins: bool) -> Mapping[str, Any]:
    """Return the document of what the arguments name or, with origins, every leaf by its path."""
    conf = inputs.configuration()
    with progress("reading"):
        snapshot = loaded(conf)
    if not origins:
        document: Mapping[str, Any] = snapshot.document
        return document
    explained = ((path, conf.explain(path)) for path in snapshot.origins)
    return {path: {"value": entry.value, "origin": str(entry.origin)} for path, entry in explained}


def _asked(remote: Remote, *, origins: bool) -> Mapping[str, Any]:
    """Return the same of a running process."""
    if not origins:
        document: Mapping[str, Any] = remote.ask(lambda client: client.get("config")).document
        return document
    leaves = remote.ask(lambda client: client.get("explain", "values")).document["values"]
    return {leaf["path"]: {"value": leaf["value"], "origin": leaf["origin"]} for leaf in leaves}


def _print_lines(leaves: Mapping[str, Any]) -> None:
    lines = {f"{path} = {literal(leaf['value'])}": leaf["origin"] for path, leaf in leaves.items()}
    width = min(max(map(len, lines), default=0), _WIDEST)
    for line, origin in lines.items():
        click.echo(f"{line:<{width}}  {click.style(f'# {origin}', dim=True)}")


_WIDEST = 60
"""Columns up to which origins are lined up."""
