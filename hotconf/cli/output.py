"""What verbs print: lines, documents, faults, and a message while something takes long.

Values, names and the answers of other processes are text of others. A terminal obeys control characters and reorders
text around bidirectional ones, so everything is printed through `echo` or `print_text`, which write those as escapes.
"""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

import hotconf.formats as formats
from hotconf.errors import FormatError
from hotconf.values.report import in_order, jsonable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hotconf.values.report import Fault

PATIENCE = 1.0
"""Seconds after which `progress` prints what the command waits for."""


@dataclass(frozen=True, slots=True)
class Styled:
    """A part of a line with a style: keyword arguments of `click.style`."""

    text: str
    style: Mapping[str, Any]


def styled(text: object, **style: Any) -> Styled:
    """Return a part of a line with a style."""
    return Styled(str(text), style)


def echo(*parts: str | Styled, err: bool = False) -> None:
    """Print a line of parts. Control characters in them, line ends too, are written as escapes."""
    shown = [
        click.style(_on_one_line(part.text), **part.style) if isinstance(part, Styled) else _on_one_line(part)
        for part in parts
    ]
    click.echo("".join(shown), err=err)


def print_text(text: str, *, err: bool = False) -> None:
    """Print a text of several lines as it is, but for control characters, which are written as escapes."""
    click.echo(formats.escaped(text), nl=False, err=err)


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    print_text(json.dumps(jsonable(value), indent=2, ensure_ascii=False) + "\n")


def literal(value: Any) -> str:
    """Return a value of a document on one line, as JSON; infinity and NaN as TOML."""
    return str(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def print_document(document: Mapping[str, Any], text_format: str) -> None:
    """Print a document as TOML or YAML. TOML has no null: a key whose value is null is left out.

    Raises:
        ClickException: The format cannot hold one of the values.
    """
    try:
        print_text(formats.dump(text_format, formats.without_null(document) if text_format == "toml" else document))
    except FormatError as error:
        raise click.ClickException(f"{error}; try --format json") from None


def write_text(text: str, path: str | None) -> None:
    """Print a text, or write it to a file.

    Raises:
        UsageError: The file cannot be written.
    """
    if path is None:
        print_text(text)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - the name as it was given
            file.write(text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this is no file name"
        raise click.UsageError(f"cannot write {path}: {reason}") from None


class Refused(click.ClickException):
    """A configuration that was refused: every fault on stderr, one a line, and exit code 1."""

    exit_code = 1

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("refused")
        self.faults = in_order(faults)  # validation reports unknown keys last

    def show(self, file: Any = None) -> None:  # noqa: ARG002 - click's signature
        """Print the faults."""
        with contextlib.suppress(OSError):  # the exit code must not depend on a stderr that can be written
            for fault in self.faults:
                echo_fault(fault, err=True)


def echo_fault(fault: Fault, *, err: bool = False) -> None:
    """Print a fault as `file:line:col: path: message`."""
    text, where = str(fault), str(fault.origin or "")
    if where and text.startswith(where):
        echo(styled(where, bold=True), styled(text[len(where) :], fg="red"), err=err)
    else:
        echo(text, err=err)


@contextlib.contextmanager
def progress(what: str) -> Iterator[None]:
    """Print to stderr what the command waits for, if that takes longer than a second."""
    timer = threading.Timer(PATIENCE, lambda: echo(f"{what} ...", err=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _on_one_line(text: str) -> str:
    return formats.escaped(text).replace("\n", "\\u000a").replace("\t", "\\u0009")
