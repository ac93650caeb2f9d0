"""The cache of an instance: plan and documents in a file, for a start while the store is out of reach."""

from __future__ import annotations

import base64
import json
import logging
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from hotconf.fleet.plan import Plan, PlanUnreadable
from hotconf.sources.atomic_write import stage

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

log = logging.getLogger("hotconf")


class FleetCache:
    """A file with the last plan and its documents. It blocks: call it from a thread."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).absolute()
        self._written: bytes | None = None

    def load(self) -> tuple[Plan | None, OrderedDict[str, bytes]]:
        """Return the plan and the documents by digest; None and nothing where the file is missing or damaged.

        A document is checked against its digest when it is used.
        """
        try:
            data = self._path.read_bytes()
            content = json.loads(data)
            documents = {digest: base64.b64decode(text) for digest, text in content["documents"].items()}
            plan, self._written = Plan.decode(json.dumps(content["plan"]).encode()), data
            return plan, OrderedDict(documents)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, LookupError, TypeError, AttributeError, PlanUnreadable) as error:
            log.warning("the cache %s cannot be used: %s", self._path, type(error).__name__)
        return None, OrderedDict()

    def save(self, plan: Plan, documents: Mapping[str, bytes]) -> None:
        """Write plan and documents, unless the file has them already. A failure is logged."""
        texts = {digest: base64.b64encode(data).decode() for digest, data in documents.items()}
        data = json.dumps({"plan": json.loads(plan.encode()), "documents": texts}).encode()
        if data == self._written:
            return
        try:
            stage(self._path, data).publish()
        except OSError as error:
            log.warning("the cache %s cannot be written: %s", self._path, error.strerror)
        else:
            self._written = data
