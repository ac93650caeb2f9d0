"""`hotconf set`: change values of a running process."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from typing import TYPE_CHECKING, Any

import click

from hotconf.cli.output import echo
from hotconf.cli.remote import Remote, format_option, takes_remote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hotconf.values.keypath import KeyPath
    from hotconf.web.client import Client


def _duration(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    from hotconf.values.times import parse_duration

    try:
        if value is not None:
            parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


@click.command
@takes_remote
@click.argument("assignments", nargs=-1, metavar="KEY=VALUE...")
@click.option("--unset", multiple=True, metavar="KEY", help="Remove KEY from the overlay. May be repeated.")
@click.option("--confirm", callback=_duration, metavar="TIME", help="Take it back unless confirmed in this time.")
@format_option
def set(  # noqa: A001 - the verb
    remote: Remote, assignments: tuple[str, ...], unset: tuple[str, ...], confirm: str | None, style: str
) -> int:
    """Change values of the process at URL. KEY is a dotted path; VALUE is TOML, or text if it is no TOML.

    Changes are written to the overlay of the process and survive a restart; with --confirm only after they are
    confirmed. Secrets are refused.
    """
    import hotconf.values.keypath as keypath

    wanted = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise click.UsageError(f"{key!r} is no assignment: write KEY=VALUE")
        wanted[_path(key.strip())] = text
    removed = [_path(key) for key in unset]
    if not wanted and not removed:
        raise click.UsageError("name what to change: KEY=VALUE")
    for outer, inner in itertools.permutations([*wanted, *removed], 2):
        if inner[: len(outer)] == outer:  # a patch can hold only one of them
            raise click.UsageError(f"{keypath.render(inner)} lies within {keypath.render(outer)}")

    async def send(client: Client) -> dict[str, Any]:
        schema = await _schema(client) if wanted else {}
        values = {path: value_of(text, path, schema) for path, text in wanted.items()}
        patch: dict[str, Any] = {}
        for (*above, last), value in {**values, **dict.fromkeys(removed)}.items():
            inner = patch
            for key in above:
                inner = inner.setdefault(str(key), {})
            inner[str(last)] = value
        return await _send(client, patch, {"confirm": confirm} if confirm else {})

    code = remote.report(style, send)
    if confirm and code == 0 and style == "text":
        echo(f"taken back in {confirm} unless confirmed: hotconf confirm {remote.url}")
    return code


def _path(key: str) -> KeyPath:
    import hotconf.values.keypath as keypath

    try:
        path = keypath.parse(key)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not path:
        raise click.UsageError("an assignment needs a KEY before its =")
    return path


async def _schema(client: Client) -> Mapping[str, Any]:
    """Return the JSON Schema of the settings; an empty one if the service does not serve it."""
    from hotconf.web.client import Declined

    try:
        schema: Mapping[str, Any] = (await client.get("schema")).document
    except Declined as declined:
        if declined.status != 404:
            raise
        return {}
    return schema


async def _send(client: Client, patch: Mapping[str, Any], query: Mapping[str, str]) -> dict[str, Any]:
    """Send a patch of the configuration in force; once more if that has changed meanwhile."""
    from hotconf.web.client import Declined

    etag = (await client.get("config")).etag
    try:
        return await client.report("PATCH", "config", query=query, body=patch, etag=etag)
    except Declined as declined:
        if declined.status != 412:
            raise
    etag = (await client.get("config")).etag
    return await client.report("PATCH", "config", query=query, body=patch, etag=etag)


# The meaning of VALUE


def value_of(text: str, path: KeyPath, schema: Mapping[str, Any]) -> Any:
    """Return the value that a text has as TOML, if the schema accepts that at the path; else the text."""
    import hotconf.formats as formats
    from hotconf.errors import FormatError
    from hotconf.jsonschema import accepts, nodes_at

    try:
        parsed = formats.parse("toml", f"value = {text}".encode("utf-8", "surrogateescape"))
    except FormatError:
        return text
    value, nodes = _jsonable(parsed["value"]), nodes_at(schema, path)
    is_accepted = not nodes or any(accepts(node, value) for node in nodes)
    return value if is_accepted and len(parsed) == 1 else text


def _jsonable(value: Any) -> Any:
    """Return a value as JSON can hold it: times, infinity and NaN as text."""
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
