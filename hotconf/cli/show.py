"""`hotconf show`: the effective configuration."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click

import hotconf.formats as formats
from hotconf.cli.output import echo, literal, print_document, print_json, print_text, progress, styled
from hotconf.cli.remote import Remote, token_option
from hotconf.cli.target import Inputs, loaded, takes_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hotconf.web.client import Client


_WIDEST = 60
"""Columns up to which origins are aligned."""


@click.command
@functools.partial(takes_inputs, metavar="URL | [TARGET] [FILE]...")
@click.option("--format", "style", type=click.Choice(["toml", "json", "yaml"]), default="toml", show_default=True)
@click.option("--origins", is_flag=True, help="List every value with its origin.")
@token_option
def show(inputs: Inputs, style: str, token_file: Path | None, *, origins: bool) -> None:
    """Print the effective configuration with its defaults, secrets masked.

    TARGET is module:attr, a settings class or a HotConf; files are merged, later above earlier. URL is a running
    process, whose configuration in force is printed.
    """
    url = inputs.url()
    if url is None:
        shown: Mapping[str, Any] | str = _read(inputs, origins=origins, typed=style != "json")
    else:
        shown = _asked(Remote(url, token_file), style, origins=origins)
    if isinstance(shown, str):
        print_text(shown)
    elif style == "json":
        print_json(shown)
    elif style == "toml" and origins:
        lines = {f"{path} = {literal(leaf['value'])}": leaf["origin"] for path, leaf in shown.items()}
        width = min(max(map(len, lines), default=0), _WIDEST)
        for line, origin in lines.items():
            echo(f"{line:<{width}}  ", styled(f"# {origin}", dim=True))
    else:
        print_document(shown, style)


def _read(inputs: Inputs, *, origins: bool, typed: bool) -> Mapping[str, Any]:
    """Return the document that the arguments name or, with origins, every leaf by its path.

    With `typed` infinity, NaN and dates are what TOML and YAML have for them; JSON has a text for each.
    """
    from hotconf.schema.redact import with_types

    conf = inputs.configuration()
    with progress("reading"):
        snapshot = loaded(conf)
    document: Mapping[str, Any] = snapshot.document
    if typed:
        document = with_types(document, snapshot.settings)
    if not origins:
        return document
    explained = ((path, conf.explain(path)) for path in snapshot.origins)
    return _with_numbers({path: {"value": e.value, "origin": str(e.origin)} for path, e in explained}, document)


def _with_numbers(entries: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return entries by path with infinity and NaN as a document has them."""
    import hotconf.values.keypath as keypath
    from hotconf.values.merge import leaves

    numbers = {keypath.render(path): value for path, value in leaves(document) if isinstance(value, float)}
    return {path: {**entry, "value": numbers.get(path, entry["value"])} for path, entry in entries.items()}


def _asked(remote: Remote, style: str, *, origins: bool) -> Mapping[str, Any] | str:
    """Return what `_read` returns, for a running process, or its text: JSON has no dates, infinity and other keys."""

    async def ask(client: Client) -> Mapping[str, Any] | str:
        text = await client.text("config", f"application/{style}") if style != "json" else None
        if origins:
            leaves = (await client.get("explain", "values")).document["values"]
            entries = {leaf["path"]: {"value": leaf["value"], "origin": leaf["origin"]} for leaf in leaves}
            return _with_numbers(entries, formats.parse(style, text.encode()) if text is not None else {})
        return text if text is not None else (await client.get("config")).document

    return remote.ask(ask)
