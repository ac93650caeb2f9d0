"""`hotconf diff`: the differences between two configurations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from hotconf.cli.documents import takes_credentials
from hotconf.cli.output import echo, literal, print_json, progress, styled
from hotconf.cli.remote import Remote, token_option
from hotconf.cli.target import WORD, configuration, is_target, is_url, loaded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hotconf.cli.documents import Credentials
    from hotconf.web.client import Client


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two: its document, secrets masked; the settings themselves, where this process has read them."""

    document: Any
    settings: Any = None


@click.command
@click.argument("words", nargs=-1, required=True, metavar="[TARGET] FILE|URL FILE|URL", type=WORD)
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--exit-code", is_flag=True, help="Exit with 1 if they differ.")
@click.option("--secret", multiple=True, metavar="KEY", help="Without a TARGET: mask keys of this name too.")
@token_option
@takes_credentials
def diff(
    words: tuple[str, ...],
    style: str,
    secret: tuple[str, ...],
    token_file: Path | None,
    *,
    exit_code: bool,
    credentials: Credentials,
) -> int:
    """Print the differences as `path: old -> new`, secrets masked.

    A side is a file, read as TARGET reads it, or as it is without a TARGET; or a running process, by its URL. URL
    GENERATION [GENERATION] compares two generations of a process, the second by default the running one. The secrets of
    a process are not compared.
    """
    old, new = (_read(side, secret, token_file, credentials) for side in _sides(words))
    differences = list(_differences(old, new))
    if style == "json":
        print_json([{"path": path, **sides} for path, sides in differences])
    else:
        for path, sides in differences:
            was, now = (
                styled(literal(sides[side]), fg=colour) if side in sides else "(absent)"
                for side, colour in (("old", "red"), ("new", "green"))
            )
            echo(styled(path, bold=True), ": ", was, " -> ", now)
    return int(exit_code and bool(differences))


def _sides(words: Sequence[str]) -> list[list[str]]:
    """Return the words that name each of the two sides. Raises UsageError."""
    target = [word for word in words if is_target(word)]
    rest = [word for word in words if word not in target]
    if rest and is_url(rest[0]) and 1 < len(rest) < 4 and all(word.isdecimal() for word in rest[1:]):
        url, *numbers = rest
        return [[url, number] for number in numbers] + ([[url]] if len(numbers) == 1 else [])
    if len(rest) != 2:
        raise click.UsageError("name the two to be compared: files, URLs, or a URL and generations")
    return [[word] if is_url(word) else [*target, word] for word in rest]


def _read(words: Sequence[str], secrets: Sequence[str], token_file: Path | None, credentials: Credentials) -> _Side:
    if not is_url(words[0]):
        with progress("reading"):
            snapshot = loaded(configuration(words, secrets, credentials))
        return _Side(snapshot.document, snapshot.settings)

    async def ask(client: Client) -> _Side:
        if len(words) == 1:
            return _Side((await client.get("config")).document)
        return _Side((await client.get(f"history/{words[1]}", "config")).document["config"])

    return Remote(words[0], token_file).ask(ask)


def _differences(old: _Side, new: _Side) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the paths that differ, each with the values of the sides that have one there."""
    import hotconf.values.keypath as keypath
    from hotconf.schema.diff import differences
    from hotconf.values.merge import ABSENT, lookup
    from hotconf.values.secrets import MASK

    # Settings tell whether a secret changed. A document has only the mask, which equals every other one. So a value
    # that one side alone takes for a secret is not compared, and not shown as the other side has it.
    known = old.settings is not None and type(old.settings) is type(new.settings)
    paths = differences(old.settings, new.settings) if known else differences(old.document, new.document)
    for path in paths:
        found = {"old": lookup(old.document, path), "new": lookup(new.document, path)}
        sides = {side: value for side, value in found.items() if value is not ABSENT}
        if known or len(sides) < 2 or MASK not in sides.values():
            yield keypath.render(path), sides
