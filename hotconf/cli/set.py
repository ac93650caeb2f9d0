"""`hotconf set`: change values of a running process."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from typing import TYPE_CHECKING, Any

import click

from hotconf.cli.remote import Remote, format_option, print_report, takes_remote
from hotconf.values.times import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hotconf.values.keypath import KeyPath
    from hotconf.web.client import Client


def _duration(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Check a duration and leave it to the process to read it."""
    if value is not None:
        try:
            parse_duration(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    return value


@click.command
@takes_remote
@click.argument("assignments", nargs=-1, metavar="KEY=VALUE...")
@click.option("--unset", multiple=True, metavar="KEY", help="Take back what was set for KEY. May be repeated.")
@click.option("--confirm", callback=_duration, metavar="TIME", help="Take it back unless confirmed in this time.")
@format_option
def set(  # noqa: A001 - the verb
    remote: Remote, assignments: tuple[str, ...], unset: tuple[str, ...], confirm: str | None, style: str
) -> int:
    """Change values of the process at URL. KEY is a dotted path; VALUE is TOML, or text where it is none.

    Changes go to the process's overlay and survive a restart, unless they wait to be confirmed. Secrets are refused.
    """
    wanted = dict(_assignment(text) for text in assignments)
    taken_back = [_path(key) for key in unset]
    if not wanted and not taken_back:
        raise click.UsageError("name what to change: KEY=VALUE")
    _refuse_overlap([*wanted, *taken_back])

    async def work(client: Client) -> dict[str, Any]:
        schema = await _schema(client) if wanted else {}
        values = {path: _value(text, path, schema) for path, text in wanted.items()}
        return await _patch(client, _nested({**values, **dict.fromkeys(taken_back)}), confirm)

    report = remote.ask(work)
    code = print_report(report, style)
    if confirm and code == 0 and style == "text":
        click.echo(f"taken back in {confirm} unless confirmed: hotconf confirm {remote.url}")
    return code


async def _patch(client: Client, patch: Mapping[str, Any], confirm: str | None) -> dict[str, Any]:
    """Send a patch for what is in force; once more where that has just changed."""
    from hotconf.web.client import Declined

    query = {"confirm": confirm} if confirm else {}
    for is_last in (False, True):
        etag = (await client.get("config")).etag
        try:
            return await client.report("PATCH", "config", query=query, body=patch, etag=etag)
        except Declined as declined:
            if is_last or declined.status != 412:
                raise
    raise AssertionError


async def _schema(client: Client) -> Mapping[str, Any]:
    """Return the JSON Schema of the settings; one that knows nothing where the service tells none."""
    from hotconf.web.client import Declined

    try:
        schema: Mapping[str, Any] = (await client.get("schema")).document
    except Declined as declined:
        if declined.status != 404:
            raise
        return {}
    return schema


# What was meant


def _assignment(text: str) -> tuple[KeyPath, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"{key!r} is no assignment: write KEY=VALUE")
    return _path(key.strip()), value


def _path(key: str) -> KeyPath:
    import hotconf.values.keypath as keypath

    try:
        path = keypath.parse(key)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not path:
        raise click.UsageError("an assignment needs a KEY before its =")
    return path


def _refuse_overlap(paths: Iterable[KeyPath]) -> None:
    """Raise UsageError where one path leads through another: a patch can hold only one of them."""
    import hotconf.values.keypath as keypath

    for outer, inner in itertools.permutations(paths, 2):
        if inner[: len(outer)] == outer:
            raise click.UsageError(f"{keypath.render(inner)} lies within {keypath.render(outer)}")


def _nested(values: Mapping[KeyPath, Any]) -> dict[str, Any]:
    """Return the merge-patch that sets several paths."""
    patch: dict[str, Any] = {}
    for (*above, last), value in values.items():
        inner = patch
        for key in above:
            inner = inner.setdefault(str(key), {})
        inner[str(last)] = value
    return patch


def _value(text: str, path: KeyPath, schema: Mapping[str, Any]) -> Any:
    """Return a value as TOML has it, if the schema agrees with that; else the text."""
    import hotconf.formats as formats
    from hotconf.errors import FormatError

    try:
        parsed = formats.parse("toml", f"value = {text}".encode("utf-8", "surrogateescape"))
    except FormatError:
        return text
    value, nodes = _plain(parsed["value"]), list(_nodes(schema, path))
    agrees = not nodes or any(_fits(value, node) for node in nodes)
    return value if agrees and len(parsed) == 1 else text


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: times and what is not finite are text there."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _nodes(schema: Mapping[str, Any], path: KeyPath) -> Iterable[Mapping[str, Any]]:
    """Yield what a schema may say of a path: nothing where it does not know it, several for a union."""
    nodes = list(_members(schema, schema))
    for key in path:
        inner = [node.get("properties", {}).get(key) or node.get("additionalProperties") for node in nodes]
        nodes = [member for node in inner if isinstance(node, dict) for member in _members(node, schema)]
    return nodes


def _members(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    from hotconf.cli.placeholder import resolved

    node = resolved(node, schema)
    choices = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    for choice in choices:
        yield from _members(choice, schema)
    if not choices:
        yield node


_TYPES: Mapping[str, Any] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


def _fits(value: Any, node: Mapping[str, Any]) -> bool:
    if "enum" in node or "const" in node:
        return value in node.get("enum", [node.get("const")])
    kind = node.get("type")
    return not isinstance(kind, str) or kind not in _TYPES or bool(_TYPES[kind](value))
