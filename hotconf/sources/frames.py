"""The frames of a stream of server-sent events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


LONGEST_LINE = 64 << 20
"""Bytes of a line: an event has a whole configuration in one."""

_FIELDS = {"event", "id", "data"}


@dataclass(slots=True)
class Frames:
    """Splits the bytes of a stream into its events. Holds no more than a line, whatever the stream is."""

    _rest: list[bytes] = field(default_factory=list)
    _held: int = 0
    _lines: dict[str, str] = field(default_factory=dict)

    def feed(self, chunk: bytes) -> Iterator[tuple[str, str, str]]:
        """Yield the kind, id and data of each event that is complete.

        Raises:
            ValueError: A line is too long.
        """
        if b"\n" not in chunk:
            self._rest.append(chunk)
            self._held += len(chunk)
            if self._held > LONGEST_LINE:
                raise ValueError(f"a line of more than {LONGEST_LINE} bytes is no event")
            return
        *lines, rest = b"".join((*self._rest, chunk)).split(b"\n")
        self._rest, self._held = [rest], len(rest)
        for line in lines:
            name, _, value = line.decode("utf-8", "replace").rstrip("\r").partition(":")
            if line.strip():
                self._lines |= {name: value.removeprefix(" ")} if name in _FIELDS else {}
            else:
                event, self._lines = self._lines, {}
                yield event.get("event", "message"), event.get("id", ""), event.get("data", "")
