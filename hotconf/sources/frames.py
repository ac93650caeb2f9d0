"""The frames of a stream of server-sent events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class Frames:
    """Splits the bytes of a stream into its events."""

    _rest: bytes = b""
    _lines: dict[str, str] = field(default_factory=dict)

    def feed(self, chunk: bytes) -> Iterator[tuple[str, str, str]]:
        """Yield the kind, id and data of each event that is complete."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.decode("utf-8", "replace").rstrip("\r").partition(":")
            if line.strip():
                self._lines[name] = value.removeprefix(" ")
            else:
                event, self._lines = self._lines, {}
                yield event.get("event", "message"), event.get("id", ""), event.get("data", "")
