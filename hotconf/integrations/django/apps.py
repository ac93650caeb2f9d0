"""The application for `INSTALLED_APPS`. `manage.py check` then reads the configuration, and shows its faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import AppConfig
from django.core import checks

from hotconf.errors import ConfigError
from hotconf.integrations.django import configuration

if TYPE_CHECKING:
    from collections.abc import Sequence


class HotConfConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """The application. It starts nothing."""

    name = "hotconf.integrations.django"
    label = "hotconf"

    def ready(self) -> None:
        """Register the system check."""
        checks.register(check_configuration)


def check_configuration(**_: Any) -> Sequence[Any]:
    """Return an error for each fault of the configuration, or a warning where a start is on the last known good."""
    conf = configuration()
    try:
        conf.load()
    except ConfigError as error:
        return [checks.Error(str(fault), id="hotconf.E001") for fault in error.report.faults]
    return [] if conf.recovered is None else [checks.Warning(conf.recovered, id="hotconf.W001")]
