"""`manage.py hotconf check`: read the configuration and show its faults."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from hotconf.errors import ConfigError
from hotconf.integrations.django import configuration


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    """The command. It starts no engine."""

    help = "Check the configuration that HOTCONF names."
    requires_system_checks = ()  # they would show the same faults first

    def add_arguments(self, parser: Any) -> None:
        """Add the verb."""
        parser.add_argument("verb", choices=["check"])

    def handle(self, **_: Any) -> None:
        """Check. Raises CommandError with every fault where the configuration is refused."""
        conf = configuration()
        try:
            conf.load()
        except ConfigError as error:
            raise CommandError(str(error)) from None
        if conf.recovered is not None:
            raise CommandError(f"the sources are broken: {conf.recovered}")
        self.stdout.write(f"{conf.schema.__name__}: no faults")
