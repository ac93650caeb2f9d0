"""A stand-in for the settings in force, for modules that import settings by name and hold them for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class SettingsProxy:
    """Looks up each attribute in the settings that are in force at that moment.

    To `isinstance` it is settings. Special methods that a class defines for operators are not looked up.
    """

    __slots__ = ("_current", "_schema")

    _schema: type
    _current: Callable[[], Any]

    def __init__(self, schema: type, current: Callable[[], Any]) -> None:
        object.__setattr__(self, "_schema", schema)
        object.__setattr__(self, "_current", current)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The class of the settings: code that checks its settings need not change."""
        return self._schema

    def __getattr__(self, name: str) -> Any:
        return getattr(self._current(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._current(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._current(), name)

    def __dir__(self) -> Iterable[str]:
        return dir(self._current())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._current())

    def __eq__(self, other: object) -> bool:
        return bool(self._current() == other)

    def __hash__(self) -> int:
        return hash(self._current())

    def __repr__(self) -> str:
        return repr(self._current())

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[Any]]:
        """Copy and pickle the settings of this moment."""
        return _itself, (self._current(),)


def _itself(settings: Any) -> Any:
    return settings
