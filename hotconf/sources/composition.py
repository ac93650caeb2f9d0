"""The composition: every source that a configuration is made from, in the order of their strength."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from pydantic_settings import BaseSettings

from hotconf.abc import Source
from hotconf.sources.dotenv import Dotenv
from hotconf.sources.file import File
from hotconf.sources.memory import program_layer
from hotconf.sources.overlay import Overlay
from hotconf.sources.pydantic import SettingsSources, default_objects
from hotconf.sources.reader import ReadLimits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import BaseModel

    from hotconf.schema.settings import Options
    from hotconf.values.layer import Layer


def compose(
    model: type[BaseModel], sources: Sequence[Any], init: Mapping[str, Any] | None, options: Options
) -> list[Source]:
    """Return every source, the weakest first. Raises ValueError for a file that options would have us overwrite."""
    stack: list[Source] = [_as_source(source, model, options) for source in sources]
    _refuse_to_overwrite(stack, options)
    if issubclass(model, BaseSettings):
        stack.append(SettingsSources(model, ReadLimits(options.size_limit, options.settle, options.max_wait)))
        if defaults := default_objects(model):
            stack.insert(0, ConstantSource(defaults, kind="default"))
    if init:
        stack.append(ConstantSource(init, kind="init"))
    if options.overlay is not None:
        stack.append(
            Overlay(
                options.overlay,
                model,
                size_limit=options.size_limit,
                settle=options.settle,
                max_wait=options.max_wait,
            )
        )
    return stack


def _refuse_to_overwrite(sources: Iterable[Source], options: Options) -> None:
    files = (source for source in sources if isinstance(source, (File, Dotenv)))
    taken = {os.path.abspath(path): "a source" for file in files for path in file.paths()}  # noqa: PTH100 - a/../b is b
    for name in ("overlay", "last_good", "audit_log"):
        path = getattr(options, name)
        other = name if path is None else taken.setdefault(os.path.abspath(path), name)  # noqa: PTH100 - the same
        if other != name:
            raise ValueError(f"{name}: {path} is {other} already: it would be written over, so name another file")


def _as_source(source: Any, model: type[BaseModel], options: Options) -> Source:
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        source = File(source, size_limit=options.size_limit, settle=options.settle, max_wait=options.max_wait)
    if isinstance(source, File) and source.is_dotenv and issubclass(model, BaseSettings):
        return Dotenv(source, model)
    if isinstance(source, type) or not isinstance(source, Source):
        raise TypeError(f"{source!r} is neither a path nor a Source, which has a name, required and an async read()")
    return source


class ConstantSource:
    """Values that stay what they are: those given to HotConf itself, or the default objects of the class."""

    required = True

    def __init__(self, values: Mapping[str, Any], *, kind: Literal["init", "default"]) -> None:
        self.name = self.kind = kind
        self._layer = program_layer(kind, values, kind=kind)

    async def read(self) -> Layer:
        """Return the values."""
        return self._layer


def several(paths: Any) -> Sequence[Any]:
    """Return what was given as a sequence: a lone path is an iterable of its characters, and never meant so."""
    return [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
