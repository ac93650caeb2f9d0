"""Log levels that follow the configuration: turn one logger to DEBUG on a running service, and back.

    python examples/logging_levels.py

Add `"shop.orders" = "DEBUG"` under [levels] in examples/logging_levels.toml while it runs; remove it again.
"""

import logging
from pathlib import Path
from typing import Literal

from hotconf import HotConf, Service, Settings

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class App(Settings):
    level: Level = "INFO"
    levels: dict[str, Level] = {}


conf = HotConf(App, files=[Path(__file__).with_suffix(".toml")])
orders = logging.getLogger("shop.orders")


@conf.on_change("level", "levels")
def follow(change):
    apply_levels(change.new, before=change.old)


def apply_levels(settings, before=None):
    """Set every level in the settings; a logger that is no longer in them gets its parent's level again."""
    logging.getLogger().setLevel(settings.level)
    for name in before.levels if before else ():
        logging.getLogger(name).setLevel(logging.NOTSET)
    for name, level in settings.levels.items():
        logging.getLogger(name).setLevel(level)


def take_order():
    orders.debug("looking for the customer")
    orders.info("an order")


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    service = Service(conf)
    service.on_startup(lambda: apply_levels(conf.current))
    service.every(0.5, take_order)
    raise SystemExit(service.run())
