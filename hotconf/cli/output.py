"""What verbs print: documents, faults, and a sign of life where something takes its time."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hotconf.values.report import Fault

PATIENCE = 1.0
"""Seconds after which somebody who waits is told what for."""


class Refused(click.ClickException):
    """A configuration that was refused: every fault on stderr, one a line, and exit code 1."""

    exit_code = 1

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("refused")
        self.faults = in_order(faults)

    def show(self, file: Any = None) -> None:  # noqa: ARG002 - click's signature
        """Print the faults."""
        for fault in self.faults:
            click.echo(fault_line(fault), err=True)


def in_order(faults: Sequence[Fault]) -> Sequence[Fault]:
    """Return faults in the order of their places, file by file: validation names unknown keys last."""
    sources = list(dict.fromkeys(fault.origin.source for fault in faults if fault.origin))

    def place(fault: Fault) -> tuple[int, int, int]:
        where = fault.origin
        return (sources.index(where.source), where.line or 0, where.column or 0) if where else (len(sources), 0, 0)

    return sorted(faults, key=place)


def fault_line(fault: Fault) -> str:
    """Return a fault as `file:line:col: path: message`."""
    text = str(fault)
    where = str(fault.origin) if fault.origin else ""
    if not where or not text.startswith(where):
        return text
    return click.style(where, bold=True) + click.style(text[len(where) :], fg="red")


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def literal(value: Any) -> str:
    """Return a value of a document on one line, as JSON; infinity and NaN as TOML."""
    return str(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def print_document(document: Mapping[str, Any], text_format: str) -> None:
    """Print a document as TOML or YAML. TOML has no null: a key whose value is null is left out.

    Raises:
        ClickException: The format cannot hold one of the values.
    """
    import hotconf.formats as formats
    from hotconf.errors import FormatError

    try:
        values = formats.without_null(document) if text_format == "toml" else document
        click.echo(formats.dump(text_format, values), nl=False)
    except FormatError as error:
        raise click.ClickException(f"{error}; try --format json") from None


@contextlib.contextmanager
def progress(what: str) -> Iterator[None]:
    """Say on stderr what is being waited for, if it takes longer than a second."""
    timer = threading.Timer(PATIENCE, lambda: click.echo(f"{what} ...", err=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def write_text(text: str, path: str | None) -> None:
    """Print a text, or write it to a file. Raises UsageError where that cannot be written."""
    if path is None:
        click.echo(text, nl=False)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - the name as it was given
            file.write(text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this is no file name"
        raise click.UsageError(f"cannot write {path}: {reason}") from None
