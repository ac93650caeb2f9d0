"""The last known good: the configuration that was applied last, on disk, for a start whose sources are broken.

It holds what went into validation, so that a newer program's validators and defaults apply to it, and no secrets: those
come from the sources that can still be read. A list in which a secret lies is left out as a whole, since nobody can
tell which of a newer list's items it would belong to.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import hotconf.values.keypath as keypath
from hotconf.errors import LastGoodUnusable
from hotconf.reload.encoding import Unencodable, decode, encode
from hotconf.reload.trouble import WriteStatus
from hotconf.schema.jsonschema import fingerprint
from hotconf.schema.keys import with_canonical_keys
from hotconf.schema.redact import masked_paths
from hotconf.schema.tree import is_list
from hotconf.sources.atomic_write import stage
from hotconf.values.layer import Layer, Origin
from hotconf.values.merge import ABSENT, lookup
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from hotconf.values.keypath import KeyPath

NAME = "last known good"
FORMAT = 1
SIZE_LIMIT = 64 * 1024 * 1024

_ORIGIN = Origin("source", NAME)


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """What was read: the values as a layer, the places whose values were left out, and which generation it was."""

    layer: Layer
    omitted: tuple[KeyPath, ...]
    generation: int
    written_at: dt.datetime

    def missing(self, layers: Sequence[Layer]) -> list[Fault]:
        """Return a fault for each place that was left out and that no layer to start from has: why that may fail."""
        places = [
            path for path in self.omitted if not any(lookup(layer.values, path) is not ABSENT for layer in layers)
        ]
        message = "is not in the last known good, which holds no secrets, and no source that can be read has it"
        return [Fault(keypath.render(path), message, _ORIGIN) for path in places]


def boot_layers(model: type, copy: Copy, live: Sequence[Layer]) -> list[Layer]:
    """Return the layers to start from, the weakest first: the copy, and of the live layers what the copy left out."""
    secrets = [_only(with_canonical_keys(model, layer), copy.omitted) for layer in live]
    return [copy.layer, *(layer for layer in secrets if layer.values)]


class LastGood:
    """The last known good of one settings class, at one path.

    Everything blocks: call it from a thread, one call at a time. `error` says why the last write failed, None where it
    did not.
    """

    def __init__(self, path: str | os.PathLike[str], model: type, *, size_limit: int = SIZE_LIMIT) -> None:
        self.path = os.fspath(path)
        self.model = model
        self._size_limit = size_limit
        self._trouble = WriteStatus(f"{NAME} {self.path}")

    @property
    def error(self) -> str | None:
        """Why there is no copy of what is running. The one on disk, if any, is of an earlier generation."""
        return self._trouble.reason

    def write(self, values: Mapping[str, Any], *, settings: Any = None, generation: int, when: dt.datetime) -> None:
        """Write the merged values of a generation, with canonical keys. Raises nothing: a failure becomes `error`.

        `settings` are what was built from them: they tell of secrets that the schema does not name.
        """
        try:
            omitted = dict.fromkeys(
                _above_lists(values, path) for path in masked_paths(self.model, values, within=settings)
            )
            stage(self.path, self._data(values, omitted, generation, when)).publish()
        except OSError as error:
            self._trouble.begin(f"cannot be written: {error.strerror or type(error).__name__}")
        except Unencodable as error:
            place = keypath.render(tuple(map(keypath.key_text, error.path)))
            self._trouble.begin(f"is not written: {place} is a {error.kind}, which the file has no text for")
        except (ValueError, RecursionError):
            self._trouble.begin("is not written: the values are too large or nested too deeply")
        else:
            self._trouble.end()

    def read(self) -> Copy:
        """Return the copy on disk. Raises LastGoodUnusable with the reason."""
        content = self._content()
        try:
            return Copy(
                Layer(NAME, {**decode(content["values"])}, {(): _ORIGIN}),
                tuple(tuple(decode(path)) for path in content["omitted"]),
                content["generation"],
                dt.datetime.fromisoformat(content["written_at"]),
            )
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
            self._refuse("is damaged")

    def _data(
        self, values: Mapping[str, Any], omitted: Collection[KeyPath], generation: int, when: dt.datetime
    ) -> bytes:
        content = {
            "schema": fingerprint(self.model),
            "generation": generation,
            "written_at": when.isoformat(),
            "omitted": [encode(list(path)) for path in omitted],
            "values": encode(_without(values, set(omitted))),
        }
        document = {"format": FORMAT, "checksum": _checksum(content), "content": content}
        data = json.dumps(document).encode()
        if len(data) > self._size_limit:
            raise ValueError
        return data

    def _content(self) -> Mapping[str, Any]:
        try:
            document = json.loads(self._bytes())
        except (ValueError, RecursionError):
            self._refuse("is cut off, or no file of hotconf's")
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            self._refuse(f"is not of format {FORMAT}, the one that this version reads")
        content = document.get("content")
        if not isinstance(content, dict) or document.get("checksum") != _checksum(content):
            self._refuse("is damaged: its checksum does not match")
        if content.get("schema") != fingerprint(self.model):
            self._refuse("was written for other settings: another class, or another version of it")
        return content

    def _bytes(self) -> bytes:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            try:
                return self._read(descriptor)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            self._refuse("does not exist")
        except OSError as error:
            self._refuse(f"cannot be read: {error.strerror}")

    def _read(self, descriptor: int) -> bytes:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            self._refuse("is not a regular file")
        if status.st_size > self._size_limit:
            self._refuse(f"is larger than {self._size_limit} bytes")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(self._size_limit)

    def _refuse(self, reason: str) -> NoReturn:
        raise LastGoodUnusable(self.path, reason) from None


def _checksum(content: Mapping[str, Any]) -> str:
    # Of the values and not of their text: whoever reformats the file by an editor's hook has not damaged it.
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def _above_lists(values: Any, path: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return as much of a path as leads to no list, or to the first."""
    for depth, key in enumerate(path):
        if is_list(values):
            return path[:depth]
        values = values[key]
    return path


def _without(values: Mapping[Any, Any], omitted: set[KeyPath]) -> Mapping[Any, Any]:
    """Return values without those at some places. What is left empty stays, so that a value can be put back."""
    heads = {path[0] for path in omitted}
    result = dict(values)
    for key in heads:
        below = {path[1:] for path in omitted if path[0] == key}
        if () in below:
            del result[key]
        else:
            result[key] = _without(values[key], below)
    return result


def _only(layer: Layer, places: Iterable[KeyPath]) -> Layer:
    """Return what a layer has at some places, and nothing else of it."""
    values: dict[Any, Any] = {}
    for path in places:
        found = lookup(layer.values, path)
        if found is not ABSENT:
            *parents, last = path
            owner = values
            for key in parents:
                owner = owner.setdefault(key, {})
            owner[last] = found
    return Layer(layer.source, values, layer.origins)
