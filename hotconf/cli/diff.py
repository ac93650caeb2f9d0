"""`hotconf diff`: what differs between two configurations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from hotconf.cli.output import literal, print_json, progress
from hotconf.cli.remote import Remote, token_option
from hotconf.cli.target import WORD, configuration, is_target, is_url, loaded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hotconf.values.keypath import KeyPath


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two: its document, secrets masked, and the settings themselves where they are here."""

    document: Any
    settings: Any = None


@dataclass(frozen=True, slots=True)
class _Difference:
    """One path at which the two differ, with what each has there: no item where it has nothing."""

    path: str
    old: tuple[Any, ...]
    new: tuple[Any, ...]

    def as_dict(self) -> dict[str, Any]:
        sides = {"old": self.old, "new": self.new}
        return {"path": self.path, **{name: side[0] for name, side in sides.items() if side}}

    def __str__(self) -> str:
        return f"{click.style(self.path, bold=True)}: {_text(self.old, 'red')} -> {_text(self.new, 'green')}"


@click.command
@click.argument("words", nargs=-1, required=True, metavar="[TARGET] FILE|URL FILE|URL", type=WORD)
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--exit-code", is_flag=True, help="Exit with 1 where they differ.")
@click.option("--secret", multiple=True, metavar="KEY", help="Without a TARGET: mask keys of this name too.")
@token_option
def diff(
    words: tuple[str, ...], style: str, secret: tuple[str, ...], token_file: Path | None, *, exit_code: bool
) -> int:
    """Print what differs, as `path: old -> new`, secrets masked.

    Between two of: a file, read as TARGET reads it, or as it stands without a TARGET; a running process, by its URL.
    Or between two generations of a process: URL GENERATION [GENERATION], the running one if there is no second. Of a
    process no secret is compared.
    """
    old, new = (_read(side, secret, token_file) for side in _sides(words))
    found = list(_differences(old, new))
    if style == "json":
        print_json([difference.as_dict() for difference in found])
    else:
        for difference in found:
            click.echo(str(difference))
    return int(exit_code and bool(found))


def _sides(words: Sequence[str]) -> list[list[str]]:
    """Return the words that name each of the two sides. Raises UsageError."""
    target = [word for word in words if is_target(word)]
    rest = [word for word in words if word not in target]
    if rest and is_url(rest[0]) and 1 < len(rest) < 4 and all(word.isdecimal() for word in rest[1:]):
        numbers = rest[1:]
        return [[rest[0], number] for number in numbers] + ([[rest[0]]] if len(numbers) == 1 else [])
    if len(rest) != 2:
        raise click.UsageError("name the two to be compared: files, URLs, or a URL and generations")
    return [[word] if is_url(word) else [*target, word] for word in rest]


def _read(words: Sequence[str], secrets: Sequence[str], token_file: Path | None) -> _Side:
    if not is_url(words[0]):
        with progress("reading"):
            snapshot = loaded(configuration(words, secrets))
        return _Side(snapshot.document, snapshot.settings)
    remote = Remote(words[0], token_file)
    if len(words) == 1:
        return _Side(remote.ask(lambda client: client.get("config")).document)
    return _Side(remote.ask(lambda client: client.get(f"history/{words[1]}", "config")).document["config"])


def _differences(old: _Side, new: _Side) -> Iterator[_Difference]:
    import hotconf.values.keypath as keypath
    from hotconf.schema.diff import differences
    from hotconf.schema.redact import MASK

    # Settings tell whether a secret changed. Of a document there is only the mask, which equals every other one; what
    # only one side takes for a secret is not compared, and not shown by the other.
    known = old.settings is not None and type(old.settings) is type(new.settings)
    paths = differences(old.settings, new.settings) if known else differences(old.document, new.document)
    for path in paths:
        found = _Difference(keypath.render(path), _at(old.document, path), _at(new.document, path))
        if known or (MASK,) not in (found.old, found.new) or not (found.old and found.new):
            yield found


def _at(document: Any, path: KeyPath) -> tuple[Any, ...]:
    from hotconf.values.merge import ABSENT, lookup

    value = lookup(document, path)
    return (value,) if value is not ABSENT else ()


def _text(side: tuple[Any, ...], colour: str) -> str:
    return click.style(literal(side[0]), fg=colour) if side else "(absent)"
