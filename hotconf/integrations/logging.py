"""logging: levels, or the whole of it, as settings."""

from __future__ import annotations

import contextlib
import logging
import logging.config
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

import hotconf.values.keypath as keypath
from hotconf.errors import Refuse
from hotconf.schema.tree import value_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hotconf.conf import HotConf
    from hotconf.values.change import Change

__all__ = ("follow",)


def follow(conf: HotConf[Any], path: str) -> None:
    """Have the levels of loggers, or the whole of `logging`, follow a setting from the start of the engine on.

    The setting is one of these. A level: of the root logger. A mapping of logger names to levels, the root logger as
    `root`: a logger that is no longer in it gets its parent's level again. A dictConfig, which has `version`: it is
    applied as a whole, and where a handler cannot be made, the former one is put back and the status is degraded.

    A level that `logging` does not know rejects the reload.

    Args:
        conf: The configuration, before it is live.
        path: The dotted path of the setting.

    Raises:
        SchemaError: The class has no such path.
    """
    at = keypath.parse(path)

    @conf.prepare(path)
    def log_levels(change: Change[Any]) -> _Switch:
        before = {} if change.old is None else _wanted(value_at(change.old, at))
        after = _wanted(value_at(change.new, at))
        for place, level in _levels(after):
            if level not in logging.getLevelNamesMapping().values() and level not in logging.getLevelNamesMapping():
                known = ", ".join(logging.getLevelNamesMapping())
                raise Refuse(f"{'.'.join((path, *place))}: {level!r} is no level of logging: {known}")
        return _Switch(before, after)


class _Switch:
    """The step from one wish to the next."""

    def __init__(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        self._before = before
        self._after = after

    def commit(self) -> None:
        if "version" in self._after:
            try:
                logging.config.dictConfig({"disable_existing_loggers": False, **self._after})
            except ValueError:
                if "version" in self._before:
                    logging.config.dictConfig({"disable_existing_loggers": False, **self._before})
                raise
            return
        for name in self._before.keys() - self._after.keys() - {"root"}:
            logging.getLogger(name).setLevel(logging.NOTSET)
        for name, level in self._after.items():
            logging.getLogger(None if name == "root" else name).setLevel(level)

    def rollback(self) -> None:
        """Do nothing: nothing was set."""


def _wanted(value: Any) -> Mapping[str, Any]:
    """Return a setting as a mapping of levels, or as a dictConfig."""
    if isinstance(value, BaseModel):
        value = value.model_dump(by_alias=True, exclude_none=True)
    if value is None:
        return {}
    return dict(value) if hasattr(value, "items") else {"root": value}


def _levels(wanted: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every level with its place."""
    if "version" not in wanted:
        yield from (((name,) if name != "root" or len(wanted) > 1 else (), level) for name, level in wanted.items())
        return
    parts = [("root", {"": wanted.get("root", {})})]
    parts += [(part, wanted.get(part, {})) for part in ("loggers", "handlers")]
    for part, owners in parts:
        for name, options in owners.items():
            with contextlib.suppress(LookupError, TypeError):  # dictConfig says what is wrong with the rest
                yield tuple(filter(None, (part, name, "level"))), options["level"]
