"""The last known good: the configuration that was applied last, on disk, for a start whose sources are broken.

It holds what went into validation, so that a newer program's validators and defaults apply to it, and no secrets: those
come from the sources that can still be read. A list that holds a secret is left out as a whole, since its items have no
identity by which a newer list could supply the secret.

The values are JSON. A value of another type, such as a date, comes back as its text, which the settings class reads
again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import functools
import hashlib
import json
import logging
import multiprocessing
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic_core import PydanticSerializationError

import hotconf.values.keypath as keypath
from hotconf.errors import LastGoodUnusable
from hotconf.reload.audit import WriteStatus
from hotconf.reload.guard import Expected, held_by
from hotconf.reload.request import ReloadRequest, Resume, StartFromLastGood
from hotconf.reload.state import state_folder
from hotconf.schema.fingerprint import fingerprint
from hotconf.schema.keys import with_canonical_keys
from hotconf.schema.storable import as_json, checksum, storable
from hotconf.sources.atomic_write import stage
from hotconf.values.layer import Layer, Origin, Readings, SourceReading
from hotconf.values.merge import ABSENT, lookup
from hotconf.values.report import Fault
from hotconf.values.secrets import credentials_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hotconf.reload.reloader import Reloader
    from hotconf.sources.stack import Stack
    from hotconf.values.keypath import KeyPath
    from hotconf.values.report import Report

log = logging.getLogger("hotconf")

NAME = "last known good"
FORMAT = 2
SIZE_LIMIT = 64 * 1024 * 1024

_ORIGIN = Origin("source", NAME)


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """What was read: the values as a layer, the places whose values were left out, and which generation it was.

    `held` are the names of the guarded sources that held values.
    """

    layer: Layer
    omitted: tuple[KeyPath, ...]
    generation: int
    written_at: dt.datetime
    held: frozenset[str]

    def missing(self, layers: Sequence[Layer]) -> list[Fault]:
        """Return a fault for each place that was left out and that no layer to start from has: why that may fail."""
        places = [
            path for path in self.omitted if not any(lookup(layer.values, path) is not ABSENT for layer in layers)
        ]
        message = "is not in the last known good, which holds no secrets, and no source that can be read has it"
        return [Fault(keypath.render(path), message, _ORIGIN) for path in places]


def layers_to_start_from(model: type, copy: Copy, live: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the copy, and above it what it left out, as far as the live layers have that. The weakest comes first."""
    secrets = [_only(with_canonical_keys(model, layer), copy.omitted) for layer in live]
    return (copy.layer, *(layer for layer in secrets if layer.values))


async def start(reloader: Reloader[Any], stack: Stack, last_good: LastGood | None, request: ReloadRequest) -> Report:
    """Run the first reload. Where the sources are broken, start from the last known good, if there is one.

    The guard compares the sources with it, so that a file that was emptied meanwhile counts as broken. Then there are
    two reports: the rejected one with its faults, and the one that is returned. A later start goes on with what ran
    before.
    """
    copy, unusable = None, None
    if last_good is not None and request.operation is None and reloader.snapshot is None:
        try:
            copy = await asyncio.to_thread(last_good.read)
            request = dataclasses.replace(request, expected=Expected(copy.layer.values, copy.held))
        except LastGoodUnusable as error:
            unusable = error
    broken = await reloader.reload(request)
    if broken.outcome != "rejected" or broken.stage == "prepare" or last_good is None or request.operation is not None:
        return broken
    if reloader.snapshot is not None:
        if request.phase != "start":
            return broken
        log.error("the sources are broken, so what ran before goes on: %s", "; ".join(map(str, broken.faults)))
        return await reloader.reload(dataclasses.replace(request, operation=Resume()))
    if copy is None:
        return dataclasses.replace(broken, faults=(*broken.faults, Fault("", str(unusable))))
    # The constructors of nested settings classes ask their sources again.
    read = (layer for state in stack.states if state.state != "failed" for layer in state.layers or ())
    live = [layer for layer in read if layer.nested is None]
    layers = layers_to_start_from(last_good.model, copy, live)
    note = f"started from the {NAME}, generation {copy.generation} of {copy.written_at:%F %T} UTC"
    readings = Readings((SourceReading(layers, guarded=False),), from_last_good=True)
    report = await reloader.reload(dataclasses.replace(request, operation=StartFromLastGood(readings, note)))
    if report.outcome == "rejected":
        missing = copy.missing(layers[1:])
        named = {fault.path for fault in missing}  # with the reason, so that these are absent need not be said again
        others = (fault for fault in report.faults if fault.path not in named)
        return dataclasses.replace(broken, faults=(*broken.faults, *missing, *others))
    log.error("%s; the sources are broken: %s", reloader.recovered, "; ".join(map(str, broken.faults)))
    return report


async def save(reloader: Reloader[Any], last_good: LastGood | None) -> None:
    """Write the last known good, if a newer generation was applied and it comes from the sources as they are."""
    running, snapshot = reloader.running, reloader.snapshot
    if last_good is None or running is None or snapshot is None or snapshot.generation == last_good.saved:
        return
    if not reloader.recovered and running.readings.is_built_from_sources():
        values, settings = running.merged.values, running.settings
        write = last_good.write
        held = held_by(running.readings.by_source())
        await asyncio.to_thread(
            write, values, settings=settings, generation=snapshot.generation, when=snapshot.loaded_at, held=held
        )


@functools.cache
def advise_workers() -> None:
    """Say once per process that a worker server restarts its workers, and what a start while a file is broken needs."""
    servers = {"gunicorn.workers": "gunicorn", "uvicorn._subprocess": "uvicorn", "celery.apps.worker": "Celery"}
    server = next((name for module, name in servers.items() if module in sys.modules), None)
    if server == "uvicorn" and multiprocessing.parent_process() is None:
        return
    if server is not None:
        log.warning(
            "a worker of %s that starts while a source is broken cannot serve: with Options(last_good=True) it starts "
            "from what was applied last",
            server,
        )


def place_of(model: type) -> Path:
    """Return the file of `last_good=True`: in the state folder, named after the class and, in a home, the program."""
    folder, name = state_folder(), f"{model.__module__}.{model.__qualname__}"
    if not os.environ.get("STATE_DIRECTORY"):  # which belongs to one service
        program = getattr(sys.modules.get(model.__module__), "__file__", None) or sys.argv[0]
        name += "." + hashlib.blake2b(os.path.abspath(program).encode(), digest_size=4).hexdigest()  # noqa: PTH100
    return folder / f"{name}.last-good.json"


class LastGood:
    """The last known good of one settings class, at one path.

    Everything blocks: call it from a thread, one call at a time. `error` says why the last write failed, None where it
    did not. `saved` is the generation that was written last by this process, 0 after a failure.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: type,
        *,
        size_limit: int = SIZE_LIMIT,
        makes_folder: bool = False,
    ) -> None:
        self.path = str(Path(path).absolute())  # the program may change its working directory
        self.model = model
        self._size_limit = size_limit
        self._makes_folder = makes_folder
        self._status = WriteStatus(f"{NAME} {self.path}")
        self.saved = 0

    @property
    def error(self) -> str | None:
        """Why there is no copy of what is running. The one on disk, if any, is of an earlier generation."""
        return self._status.reason

    def write(
        self,
        values: Mapping[str, Any],
        *,
        generation: int,
        when: dt.datetime,
        settings: Any = None,
        held: Iterable[str] = (),
    ) -> None:
        """Write the merged values of a generation, with canonical keys. Raises nothing: a failure becomes `error`.

        `settings` are what was built from them: they tell of secrets that the schema does not name.
        """
        self.saved = 0
        try:
            kept, omitted = storable(self.model, values, settings)
            content = {
                "schema": fingerprint(self.model),
                "generation": generation,
                "written_at": when.isoformat(),
                "held": sorted(held),
                "omitted": [list(map(as_json, path)) for path in omitted if not credentials_in(str(path[0]))],
                "values": kept,
            }
            data = json.dumps({"format": FORMAT, "checksum": checksum(content), "content": content}).encode()
            if len(data) > self._size_limit:
                raise ValueError  # noqa: TRY301 - one answer to all that is too large
            if self._makes_folder:
                os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
            stage(self.path, data).publish()
        except OSError as error:
            self._status.failed(f"cannot be written: {error.strerror or type(error).__name__}")
        except PydanticSerializationError as error:
            self._status.failed(f"is not written: {error}")
        except (ValueError, RecursionError):
            self._status.failed("is not written: the values are too large or nested too deeply")
        else:
            self.saved = generation
            self._status.succeeded()

    def read(self) -> Copy:
        """Return the copy on disk. Raises LastGoodUnusable with the reason."""
        content = self._content()
        try:
            return Copy(
                Layer(NAME, {**content["values"]}, {(): _ORIGIN}),
                tuple(map(tuple, content["omitted"])),
                content["generation"],
                dt.datetime.fromisoformat(content["written_at"]),
                frozenset(map(str, content["held"])),
            )
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
            self._refuse("is damaged")

    def _content(self) -> Mapping[str, Any]:
        """Return the content of the file. Raises LastGoodUnusable for what this class did not write."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    self._refuse("is not a regular file")
                if status.st_size > self._size_limit:
                    self._refuse(f"is larger than {self._size_limit} bytes")
                with open(descriptor, "rb", closefd=False) as file:
                    data = file.read(self._size_limit)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            self._refuse("does not exist")
        except OSError as error:
            self._refuse(f"cannot be read: {error.strerror}")
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            self._refuse("is cut off, or not a file of hotconf")
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            self._refuse(f"is not of format {FORMAT}, the one that this version reads")
        content = document.get("content")
        if not isinstance(content, dict) or document.get("checksum") != checksum(content):
            self._refuse("is damaged: its checksum does not match")
        if content.get("schema") != fingerprint(self.model):
            self._refuse("was written for other settings: another class, or another version of it")
        return content

    def _refuse(self, reason: str) -> NoReturn:
        raise LastGoodUnusable(self.path, reason) from None


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
