"""The cache of a source that lives elsewhere: what was applied last, on disk, for a start while it is out of reach."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic_core import PydanticSerializationError

from hotconf.errors import SourceError
from hotconf.schema.fingerprint import fingerprint
from hotconf.schema.storable import checksum, storable
from hotconf.sources.atomic_write import stage
from hotconf.values.layer import Layer, Origin
from hotconf.values.report import Fault
from hotconf.values.times import utcnow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

log = logging.getLogger("hotconf")

_FORMAT = 1


class SourceCache:
    """The cache of one source in one file, which only its user can read. It holds no secrets. Everything blocks.

    Args:
        path: The file.
        name: The source's name.
        model: The settings class. What was written for another one is not used.
    """

    def __init__(self, path: Path, name: str, model: type) -> None:
        self._path = path
        self._name = name
        self._model = model
        self._written: Layer | None = None

    def write(self, layer: Layer, revision: str) -> None:
        """Keep a layer, with canonical keys, unless it is the last one. Logs where it cannot be kept."""
        if layer is self._written:
            return
        self._written = layer
        try:
            values, _ = storable(self._model, layer.values)
            content = {
                "source": self._name,
                "schema": fingerprint(self._model),
                "revision": revision,
                "written_at": utcnow().isoformat(),
                "values": values,
            }
            document = {"format": _FORMAT, "checksum": checksum(content), "content": content}
            stage(self._path, json.dumps(document).encode()).publish()
        except OSError as error:
            log.error("the cache %s of %s cannot be written: %s", self._path, self._name, error.strerror)  # noqa: TRY400
        except (PydanticSerializationError, ValueError, RecursionError):
            log.error("the cache %s of %s cannot hold its values", self._path, self._name)  # noqa: TRY400

    def read(self) -> tuple[Layer, dt.datetime]:
        """Return what was kept, and when.

        Raises:
            SourceError: There is nothing that can be used. The fault has the reason.
        """
        try:
            document: Any = json.loads(self._path.read_bytes())
            content: Mapping[str, Any] = document["content"]
            is_whole = document["format"] == _FORMAT and document["checksum"] == checksum(content)
        except FileNotFoundError:
            self._refuse("does not exist yet")
        except OSError as error:
            self._refuse(f"cannot be read: {os.strerror(error.errno or 0)}")
        except (LookupError, TypeError, ValueError, RecursionError):
            self._refuse("is damaged, or no cache of hotconf")
        if not is_whole:
            self._refuse("is damaged, or no cache of hotconf")
        if content["source"] != self._name:
            self._refuse(f"belongs to {content['source']}")
        if content["schema"] != fingerprint(self._model):
            self._refuse("was written for other settings: another class, or another version of it")
        place = Origin("remote", f"{self._name} (cache)")
        layer = Layer(self._name, content["values"], {(): place}, content["revision"])
        return layer, dt.datetime.fromisoformat(content["written_at"])

    def _refuse(self, reason: str) -> NoReturn:
        place = Origin("file", str(self._path))
        raise SourceError([Fault("", f"the cache of {self._name} {reason}", place)]) from None
