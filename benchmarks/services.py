"""What is configured in the measurements: settings classes, and files of any size for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hotconf import Section, Settings

if TYPE_CHECKING:
    from pathlib import Path

_KEYS = 10


class Part(Section):
    """Ten settings of the usual kinds."""

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


def toml_of(keys: int, serial: int) -> str:
    """Return a file with that many keys; another `serial` is another value of one of them."""
    return "".join(_part(index, serial if index == 0 else 3) for index in range(keys // _KEYS))


def _part(index: int, retries: int) -> str:
    return f"""\
[parts.part{index}]
host = "10.0.{index // 250}.{index % 250}"
port = {1024 + index}
timeout = 2.5
enabled = true
retries = {retries}
url = "https://part{index}.example.com/api/v1"
weight = {index / 8 + 0.5}
verbose = false
limit = 100000
name = "part number {index}"

"""


def replace(path: Path, text: str) -> None:
    """Replace a file as a careful writer does: write beside it, then rename."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
