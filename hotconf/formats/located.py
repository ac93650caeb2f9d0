"""The origins of a text, found when the first of them is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import hotconf.formats as formats
from hotconf.values.keypath import KeyPath
from hotconf.values.layer import Origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hotconf.values.layer import OriginKind, Position


class Located(Mapping[KeyPath, Origin]):
    """Where each key and list item of a text stands: a clean reload never pays for finding out.

    `name` is what the file is called, `kind` what it is to the configuration where its format does not say it. The
    empty path is the file itself, which has no line.
    """

    def __init__(self, name: str, text_format: str, data: bytes, *, kind: OriginKind = "file") -> None:
        self._name = name
        self._format = text_format
        self._data = data
        self._kind: OriginKind = "dotenv" if text_format == "dotenv" else kind

    @cached_property
    def _positions(self) -> Mapping[KeyPath, Position]:
        return formats.locate(self._format, self._data)

    def __getitem__(self, path: KeyPath) -> Origin:
        if not path:
            return Origin(self._kind, self._name)
        line, column = self._positions[path]
        return Origin(self._kind, self._name, line, column)

    def __iter__(self) -> Iterator[KeyPath]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)
