"""The settings classes of the measurements, and files of any size for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pydantic import create_model

from hotconf import Section, Settings

if TYPE_CHECKING:
    from pathlib import Path

_KEYS = 10


class Part(Section):
    """Ten settings of common types."""

    host: str
    port: int
    timeout: float
    enabled: bool
    retries: int
    url: str
    weight: float
    verbose: bool
    limit: int
    name: str


class Parts(Settings):
    """Any number of parts."""

    parts: dict[str, Part]


_WIDE = 10  # parts in each

_wide_fields: dict[str, Any] = {
    f"{name}{group}": (field.annotation, ...) for group in range(_WIDE) for name, field in Part.model_fields.items()
}

WidePart = create_model("WidePart", __base__=Section, **_wide_fields)


class WideParts(Settings):
    """Any number of parts with ten times the keys."""

    parts: dict[str, WidePart]


def toml_of(keys: int, serial: int) -> str:
    """Return a file of `Parts` with that many keys; another `serial` is another value of one of them."""
    return "".join(_part(index, serial if index == 0 else 3) for index in range(keys // _KEYS))


def wide_toml_of(keys: int, serial: int) -> str:
    """Return a file of `WideParts`, otherwise like `toml_of`."""
    values = [_values(index, serial if index == 0 else 3, str(index % _WIDE)) for index in range(keys // _KEYS)]
    sections = ("".join(values[start : start + _WIDE]) for start in range(0, len(values), _WIDE))
    return "".join(f"[parts.part{index}]\n{section}\n" for index, section in enumerate(sections))


def _part(index: int, retries: int) -> str:
    return f"[parts.part{index}]\n{_values(index, retries)}\n"


def _values(index: int, retries: int, suffix: str = "") -> str:
    return f"""\
host{suffix} = "10.0.{index // 250}.{index % 250}"
port{suffix} = {1024 + index}
timeout{suffix} = 2.5
enabled{suffix} = true
retries{suffix} = {retries}
url{suffix} = "https://part{index}.example.com/api/v1"
weight{suffix} = {index / 8 + 0.5}
verbose{suffix} = false
limit{suffix} = 100000
name{suffix} = "part number {index}"
"""


def replace(path: Path, text: str) -> None:
    """Replace a file atomically: write another one beside it, then rename."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
