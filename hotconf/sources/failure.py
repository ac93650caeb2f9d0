"""Failures: what a source of pydantic-settings says of itself when it raises, as a fault with a place."""

from __future__ import annotations

import configparser
import json
import os
import re
from typing import TYPE_CHECKING

from pydantic_settings import SettingsError

from hotconf.schema.redact import scrub
from hotconf.sources.lookups import documents, own_paths
from hotconf.sources.provenance import Variables, name_of
from hotconf.values.layer import Origin
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Any

    from hotconf.values.keypath import KeyPath

_LONGEST_TEXT = 500
_NAME = re.compile(r"['\"]?[A-Za-z_.]+['\"]?")


def failure(error: BaseException, origins: Mapping[KeyPath, Origin], place: Origin, secrets: Iterable[str]) -> Fault:
    """Return the fault of a source that raised, with what is wrong with which field, as far as it says.

    Args:
        error: What it raised.
        origins: The origins of what it would have said.
        place: What to blame where no field is named.
        secrets: What must not be told.
    """
    named = re.search(r'field "([^"]+)"', str(error)) if isinstance(error, SettingsError) else None
    field = named[1] if named is not None else ""
    cause = error.__cause__ or error
    if named is not None:
        place = origins.get((field,)) or place
    if named is not None and isinstance(cause, UnicodeError):
        message = "is not UTF-8 text"
    elif named is not None and isinstance(cause, json.JSONDecodeError):
        place = (origins.unparsed(field) if isinstance(origins, Variables) else None) or place
        message = "is not the JSON that a value of this type needs"
    else:
        message = f"cannot be read: {told(cause if named is not None else error)}"
    return Fault(field, scrub(message, secrets), place)


def place_of_failure(source: Any, error: BaseException, folder: Path) -> Origin:
    """Return the line that an error names, in the only file that the source reads; else the source."""
    files = [document.name for document in documents(source, folder)] or [str(path) for path in own_paths(source)]
    line, column = getattr(error, "lineno", None), getattr(error, "colno", None)
    if (mark := getattr(error, "problem_mark", None)) is not None:  # PyYAML's
        line, column = mark.line + 1, mark.column + 1
    elif line is None and (said := re.search(r"\(at line (\d+), column (\d+)\)", str(error))) is not None:  # tomllib's
        line, column = int(said[1]), int(said[2])
    if line is None or len(files) != 1:
        return Origin("source", name_of(source))
    return Origin("file", files[0], line, column)


def told(error: BaseException) -> str:
    """Return the class of an exception and what it says, on one line.

    A text of a single word may be the very value that something was wrong with. It is told only where it is a name.
    """
    try:
        text = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    except Exception:  # noqa: BLE001 - the code of an exception is as foreign as what raised it
        text = ""
    if hasattr(error, "problem_mark") or isinstance(error, configparser.Error):  # these quote the lines around
        text = str(getattr(error, "problem", None) or text.partition("\n")[0])
    words = text.split()
    if len(words) == 1 and not _NAME.fullmatch(words[0]):
        words = []
    return f"{type(error).__name__}{': ' if words else ''}{' '.join(words)[:_LONGEST_TEXT]}"
