"""Documents: bytes that are named by their SHA-256, and what they hold. They never change, so each is parsed once."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

import hotconf.formats as formats
from hotconf.errors import FormatError, SourceError
from hotconf.values.layer import Layer, Origin
from hotconf.values.report import Fault

if TYPE_CHECKING:
    from hotconf.fleet.plan import ReleaseName

LIMIT: Final = 1 << 20
"""Bytes of a document."""


def digest_of(data: bytes) -> str:
    """Return the name of a document."""
    return sha256(data).hexdigest()


def layer_of(source: str, release: ReleaseName, data: bytes) -> Layer:
    """Return what the document of a release holds. Its places are `fleet:NAME/RELEASE:line:column`.

    Raises:
        SourceError: The bytes are not those that the digest names, or the format does not accept them.
    """
    name = f"{source}/{release.release}"
    if digest_of(data) != release.digest:
        raise SourceError([Fault("", "the document is not the one that the plan names", Origin("remote", name))])
    try:
        values = formats.parse(release.format, data)
    except FormatError as error:
        raise SourceError([Fault("", error.reason, Origin("remote", name, error.line, error.column))]) from None
    origins = formats.Located(name, release.format, data, kind="remote")
    return Layer(source, values, origins, release.digest, odd_keys=formats.has_odd_keys(values))
