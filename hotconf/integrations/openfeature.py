"""OpenFeature: a part of the settings as feature flags, with an event for each change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import BaseModel

try:
    from openfeature.event import ProviderEventDetails
    from openfeature.exception import FlagNotFoundError, ProviderNotReadyError, TypeMismatchError
    from openfeature.flag_evaluation import FlagResolutionDetails, Reason
    from openfeature.provider import AbstractProvider, Metadata
except ImportError:
    raise ImportError("hotconf.integrations.openfeature needs the extra: pip install 'hotconf[openfeature]'") from None

import hotconf.values.keypath as keypath
from hotconf.schema.tree import child

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from openfeature.evaluation_context import EvaluationContext

    from hotconf.conf import HotConf
    from hotconf.values.change import Change

__all__ = ("ConfigProvider",)

T = TypeVar("T")


class ConfigProvider(AbstractProvider):
    """A provider whose flags are the settings below a path: `api.set_provider(ConfigProvider(conf, "flags"))`.

    A flag's key is its dotted path below that one. Its value is the one in force in this process, the same for every
    evaluation context. `PROVIDER_CONFIGURATION_CHANGED` names the flags that a reload has changed.

    Args:
        conf: The configuration.
        path: The dotted path of the flags; an empty one means all settings.

    Raises:
        SchemaError: The class has no such path. `initialize` raises it.
    """

    def __init__(self, conf: HotConf[Any], path: str = "") -> None:
        super().__init__()
        self._conf = conf
        self._path = path
        self._root = keypath.parse(path) if path else ()

    def get_metadata(self) -> Metadata:
        """Return the name of the provider."""
        return Metadata(name="hotconf")

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002 - no flag depends on it
        """Follow the changes. Raises ProviderNotReadyError where nothing is loaded."""
        if not self._conf.loaded:
            raise ProviderNotReadyError("the configuration is not loaded: enter running(), or call load(), before")
        self._conf.on_change(*([self._path] if self._path else []))(self._changed)

    def shutdown(self) -> None:
        """Follow no more."""
        self._conf.unsubscribe(self._changed)

    def _changed(self, change: Change[Any]) -> None:
        paths = [keypath.parse(path) for path in change.paths]
        depth = len(self._root)
        flags = [keypath.render(path[depth:]) for path in paths if path[:depth] == self._root and path[depth:]]
        self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=flags))

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,  # noqa: ARG002, FBT001 - the interface of OpenFeature, here and below
        evaluation_context: EvaluationContext | None = None,  # noqa: ARG002
    ) -> FlagResolutionDetails[bool]:
        """Resolve a bool."""
        return self._resolve(flag_key, bool)

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,  # noqa: ARG002
        evaluation_context: EvaluationContext | None = None,  # noqa: ARG002
    ) -> FlagResolutionDetails[str]:
        """Resolve a str."""
        return self._resolve(flag_key, str)

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,  # noqa: ARG002
        evaluation_context: EvaluationContext | None = None,  # noqa: ARG002
    ) -> FlagResolutionDetails[int]:
        """Resolve an int."""
        return self._resolve(flag_key, int)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,  # noqa: ARG002
        evaluation_context: EvaluationContext | None = None,  # noqa: ARG002
    ) -> FlagResolutionDetails[float]:
        """Resolve a number."""
        found: FlagResolutionDetails[Any] = self._resolve(flag_key, float, int)
        found.value = float(found.value)
        return found

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[Any] | Mapping[str, Any],  # noqa: ARG002
        evaluation_context: EvaluationContext | None = None,  # noqa: ARG002
    ) -> FlagResolutionDetails[Sequence[Any] | Mapping[str, Any]]:
        """Resolve a section, a mapping or a list."""
        found: FlagResolutionDetails[Any] = self._resolve(flag_key, BaseModel, dict, list)
        if isinstance(found.value, BaseModel):
            found.value = found.value.model_dump(mode="json")
        return found

    def _resolve(self, key: str, *kinds: type) -> FlagResolutionDetails[Any]:
        if not self._conf.loaded:
            raise ProviderNotReadyError("the configuration is not loaded")
        snapshot = self._conf.snapshot
        value = snapshot.settings
        for part in (*self._root, *keypath.parse(key)):
            value = child(value, part)
        if value is None:
            raise FlagNotFoundError(f"there is no setting {'.'.join(filter(None, (self._path, key)))}")
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise TypeMismatchError(f"{key} is of type {type(value).__name__}")
        metadata = cast("Any", {"generation": snapshot.generation})
        return FlagResolutionDetails(value, reason=Reason.STATIC, flag_metadata=metadata)
