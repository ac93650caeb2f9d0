"""What sources share that live elsewhere: documents with places, trees of keys, files with credentials, TLS."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn
from urllib.parse import urlsplit

import hotconf.formats as formats
from hotconf.errors import FormatError, SourceError, SourceUnreachable
from hotconf.formats import Located
from hotconf.sources.reader import SIZE_LIMIT, stamp_of
from hotconf.values.layer import Layer, Origin
from hotconf.values.report import Fault
from hotconf.values.times import check_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hotconf.values.keypath import KeyPath


class Remote:
    """A source that lives elsewhere, and holds one document or a tree of keys.

    `polls` says why it asks at an interval instead of being told, None where it is told.

    Args:
        name: Its name in origins and status.
        document: The name whose suffix tells the format, unless `format` does; None for a tree.
        format: "toml", "json", "yaml" or "dotenv".
        required: False lets the document be absent. Out of reach is another matter: see `outage`.
        outage: "keep" what it held before while it is out of reach, or "reject" each reload.
        max_stale: Seconds for which that is kept; None: without limit.
        cache: A file that keeps what was applied last, without secrets, for a start while the server is out of reach.
        quiet: Seconds without a further change that the engine waits for before it reads.

    Raises:
        ValueError: Nothing tells the format, or `outage` or `max_stale` is none.
    """

    kind = "remote"

    def __init__(
        self,
        name: str,
        document: str | None,
        *,
        format: str | None = None,  # noqa: A002 - the word for it
        required: bool = True,
        outage: Literal["keep", "reject"] = "keep",
        max_stale: float | None = None,
        cache: str | os.PathLike[str] | None = None,
        quiet: float = 0.0,
    ) -> None:
        if outage not in ("keep", "reject"):
            raise ValueError(f"outage must be 'keep' or 'reject', not {outage!r}")
        self.name = name
        self.required = required
        self.outage = outage
        self.max_stale = None if max_stale is None else check_seconds("max_stale", max_stale)
        self.cache = None if cache is None else Path(cache).absolute()
        self.quiet = check_seconds("quiet", quiet)
        self._format = "" if document is None else format or _format_of(document)
        if self._format and self._format not in formats.FORMATS:
            raise ValueError(f"format must be one of {', '.join(formats.FORMATS)}, not {format!r}")
        self._held: tuple[bytes, Layer] | None = None
        self._was_read: asyncio.Event | None = None
        self.polls: str | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    async def _first_read(self) -> None:
        """Return when the engine has read once: a watch begins with what that read found."""
        if self._was_read is not None:
            await self._was_read.wait()

    def _document(self, data: bytes, revision: str) -> Layer:
        """Return the layer of a document. Unchanged bytes are not parsed again."""
        if self._held is not None and self._held[0] == data:
            layer = self._held[1]
            if layer.revision != revision:
                layer = dataclasses.replace(layer, revision=revision)
                self._held = data, layer
            return layer
        if len(data) > SIZE_LIMIT:
            self._refuse(f"is larger than {SIZE_LIMIT} bytes", revision)
        try:
            values = formats.parse(self._format, data)
        except FormatError as error:
            place = Origin("remote", self.name, error.line, error.column)
            raise SourceError([Fault("", error.reason, place)], revision) from None
        places = Located(self.name, self._format, data, kind="remote")
        odd = self._format == "yaml" and formats.has_odd_keys(values)
        layer = Layer(self.name, values, places, revision, odd_keys=odd)
        self._held = data, layer
        return layer

    def _tree(self, found: Mapping[str, bytes], revision: str, separator: str = "/") -> Layer:
        """Return the layer of a tree of keys, whose names have a separator between their parts.

        A value is text, as in the environment; one that begins with `[` or `{` is JSON.
        """
        values: dict[str, Any] = {}
        places: dict[KeyPath, Origin] = {(): Origin("remote", self.name)}
        for key, data in sorted(found.items()):
            *parents, last = path = tuple(part for part in key.split(separator) if part)
            place = Origin("remote", f"{self.name}{key}")
            owner: Any = values
            for part in parents:
                owner = owner.setdefault(part, {}) if isinstance(owner, dict) else None
            if not isinstance(owner, dict) or last in owner:
                raise SourceError([Fault(".".join(path), "is a value and has keys below it", place)], revision)
            try:
                text = data.decode()
                owner[last] = json.loads(text) if text.startswith(("[", "{")) else text
            except ValueError:
                raise SourceError([Fault(".".join(path), "is neither text nor JSON", place)], revision) from None
            places[path] = place
        return Layer(self.name, values, places, revision)

    def _absent(self, what: str = "does not exist") -> Layer:
        self._held = None
        if self.required:
            self._refuse(what, "absent")
        return Layer(self.name, {}, {(): Origin("remote", self.name)}, "absent")

    def _refuse(self, message: str, revision: str = "") -> NoReturn:
        raise SourceError([Fault("", message, Origin("remote", self.name))], revision) from None

    def _unreachable(self, reason: str) -> SourceUnreachable:
        return SourceUnreachable([Fault("", f"cannot be read: {reason}", Origin("remote", self.name))])


def _format_of(document: str) -> str:
    try:
        return formats.format_of(document)
    except FormatError:
        known = ", ".join(formats.FORMATS)
        raise ValueError(f"{document} does not tell its format: give format=, one of {known}") from None


@dataclass(slots=True)
class Secret:
    """The content of a file such as a token or a password, read whenever it is needed: files are rotated."""

    path: str | os.PathLike[str] | None

    async def read(self) -> str | None:
        """Return its content without the line break at its end; None without a file.

        Raises:
            OSError: It cannot be read, or holds nothing.
        """
        if self.path is None:
            return None
        text = (await asyncio.to_thread(Path(self.path).read_text, encoding="utf-8")).strip()
        if not text:
            raise OSError(f"{Path(self.path).name} is empty")
        return text


class Tls:
    """The files of TLS, read again when one of them has changed.

    Args:
        ca_file: The authorities that are trusted instead of the system's.
        cert_file: The certificate to show to the server.
        key_file: Its key, where it is not in `cert_file`.
    """

    def __init__(
        self,
        ca_file: str | os.PathLike[str] | None = None,
        cert_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
    ) -> None:
        self._ca, self._cert, self._key = (
            None if file is None else Path(file) for file in (ca_file, cert_file, key_file)
        )
        self._made: tuple[object, ssl.SSLContext] | None = None

    @property
    def is_given(self) -> bool:
        """Whether there is any file."""
        return self._ca is not None or self._cert is not None

    async def context(self) -> ssl.SSLContext:
        """Return the context for a connection: the same object for as long as the files are the same.

        Raises:
            OSError: A file cannot be read, or is none of TLS.
        """
        return await asyncio.to_thread(self._context)

    def _context(self) -> ssl.SSLContext:
        stamps = [stamp_of(file) for file in (self._ca, self._cert, self._key) if file is not None]
        if self._made is None or self._made[0] != stamps:
            context = ssl.create_default_context(cafile=self._ca)
            if self._cert is not None:
                context.load_cert_chain(self._cert, self._key)
            self._made = stamps, context
        return self._made[1]


def servers_of(given: str | Sequence[str], schemes: Sequence[str], example: str) -> list[str]:
    """Return the URLs of servers, which are given with commas between them or as a list; the first scheme is theirs.

    Raises:
        ValueError: One is no URL, or holds a password.
    """
    servers = [server.strip() for server in (given.split(",") if isinstance(given, str) else given)]
    servers = [server if "://" in server else f"{schemes[0]}://{server}" for server in servers]
    for server in servers:
        parts = urlsplit(server)
        if "@" in parts.netloc:
            raise ValueError("a URL must not hold a password, which would end up in logs: put it into a file")
        if parts.scheme not in schemes or not parts.hostname:
            raise ValueError(f"a server must be {example}")
    return [server.rstrip("/") for server in servers]


def reason_of(error: BaseException) -> str:
    """Return why a connection failed, without the error's own text, which may quote what was sent."""
    if isinstance(error, TimeoutError):
        return "no response in time"
    cause = getattr(error, "os_error", error)
    number = cause.errno if isinstance(cause, OSError) else None
    if number is not None and number > 0:
        return os.strerror(number)
    return type(cause).__name__
