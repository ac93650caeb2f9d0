"""Candidates: settings that passed validation and are not running, as whoever builds a resource from them sees it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hotconf.errors import NotBuilt, SchemaError
from hotconf.keypath import touches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from hotconf.keypath import KeyPath

S = TypeVar("S")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Resource(Generic[R_co]):
    """The key of a resource: `snap[key]` is the object that belongs to a snapshot. Made by `HotConf.resource`.

    `factory` takes a Candidate and returns a context manager, sync or async.
    """

    __slots__ = ("factory", "name", "paths")

    def __init__(
        self,
        factory: Callable[[Candidate[Any]], AbstractAsyncContextManager[R_co] | AbstractContextManager[R_co]],
        paths: tuple[KeyPath, ...] = (),
    ) -> None:
        self.factory = factory
        self.paths = paths
        self.name: str = getattr(factory, "__qualname__", None) or type(factory).__name__
        if inspect.isgeneratorfunction(factory) or inspect.isasyncgenfunction(factory):
            decorator = "asynccontextmanager" if inspect.isasyncgenfunction(factory) else "contextmanager"
            raise SchemaError(f"{self.name} yields but is no context manager: put @{decorator} below @resource")

    def __repr__(self) -> str:
        return f"<resource {self.name}>"

    def wants(self, changed: Iterable[KeyPath]) -> bool:
        """Whether a change at, below or above any of its paths took place."""
        return any(not self.paths or any(touches(path, wanted) for wanted in self.paths) for path in changed)


class Candidate(Generic[S]):
    """What a resource is built from: settings that are not running yet, and the resources registered before it."""

    __slots__ = ("_built", "needs", "settings")

    def __init__(self, settings: S, built: Mapping[Resource[Any], Any]) -> None:
        self.settings = settings
        self.needs: set[Resource[Any]] = set()
        self._built = built

    def __getitem__(self, resource: Resource[R]) -> R:
        """Return the object of an earlier resource. Whoever asks is built anew whenever that is. Raises NotBuilt."""
        if resource not in self._built:
            raise NotBuilt(resource.name)
        self.needs.add(resource)
        value: R = self._built[resource]
        return value
