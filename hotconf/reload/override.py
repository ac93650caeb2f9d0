"""Overrides: settings that differ for a while, for tests. They nest, they are validated, and they leave no trace."""

from __future__ import annotations

import contextlib
import functools
import inspect
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hotconf.errors import ConfigError, HotconfError, OperationRefused
from hotconf.reload.request import BeginOverride, EndOverride, ReloadRequest
from hotconf.schema.keys import with_canonical_keys
from hotconf.values.layer import Layer, Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future
    from types import TracebackType

    from hotconf.values.report import Report

F = TypeVar("F", bound="Callable[..., Any]")


class Runner(Protocol):
    """What runs the reloads of an override."""

    def ask(self, request: ReloadRequest) -> Future[Report]:
        """Ask for one reload and return its report to come."""
        ...

    async def run(self, request: ReloadRequest) -> Report:
        """Run one reload, and return when it is over."""
        ...

    def run_blocking(self, request: ReloadRequest) -> Report:
        """Run one reload without awaiting. Raises OperationRefused where something in it has to be awaited."""
        ...

    def undo_first_load(self) -> bool:
        """Forget what the override loaded, where that is all there is. Return whether it was."""
        ...


class Override:
    """What `HotConf.override` returns: a context manager and a decorator, for sync and async functions.

    Entering and leaving it are two reloads. It may be entered again after it was left, and is not for two threads at
    once.
    """

    def __init__(self, runner: Runner, model: type, values: Mapping[str, Any]) -> None:
        self._runner = runner
        self._model = model
        self._values = values
        self._entered: list[Layer] = []

    def __enter__(self) -> None:
        layer = self._layer()
        with self._ends_unless_entered(layer):
            self._begun(layer, self._runner.run_blocking(_request(BeginOverride(layer))))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        request = _request(EndOverride(self._entered.pop()))
        try:
            self._ended(self._runner.run_blocking(request))
        except OperationRefused:  # it could not run here: it runs in its turn
            with contextlib.suppress(HotconfError):
                self._runner.ask(request)
            raise

    async def __aenter__(self) -> None:
        layer = self._layer()
        with self._ends_unless_entered(layer):
            self._begun(layer, await self._runner.run(_request(BeginOverride(layer))))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended(await self._runner.run(_request(EndOverride(self._entered.pop()))))

    @contextlib.contextmanager
    def _ends_unless_entered(self, layer: Layer) -> Iterator[None]:
        """Take the layer away again where the wait for it is cut short: its reload runs to the end all the same."""
        try:
            yield
        except HotconfError:
            raise
        except BaseException:
            with contextlib.suppress(HotconfError):
                self._runner.ask(_request(EndOverride(layer)))
            raise

    def _layer(self) -> Layer:
        return with_canonical_keys(self._model, Layer("override", self._values, {(): Origin("override", "override")}))

    def _begun(self, layer: Layer, report: Report) -> None:
        if report.outcome == "rejected":
            raise ConfigError(report)
        self._entered.append(layer)

    def _ended(self, report: Report) -> None:
        if report.outcome == "rejected" and not self._runner.undo_first_load():
            raise ConfigError(report)

    def __call__(self, function: F) -> F:
        """Return the function with this override around each call.

        Raises:
            TypeError: a class or a generator, whose code runs only after the call.
        """
        if isinstance(function, type) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            kind = "class" if isinstance(function, type) else "generator"
            raise TypeError(f"a {kind} cannot be decorated with an override: write `with conf.override(...)` inside")
        again = functools.partial(Override, self._runner, self._model, self._values)
        wrapped: Any
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapped(*args: Any, **kwargs: Any) -> Any:
                async with again():
                    return await function(*args, **kwargs)

        else:

            @functools.wraps(function)
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                with again():
                    return function(*args, **kwargs)

        return wrapped  # type: ignore[no-any-return]


def _request(operation: BeginOverride | EndOverride) -> ReloadRequest:
    return ReloadRequest(("override",), operation=operation, raises=True)
