"""Log levels that follow the configuration: turn one logger to DEBUG on a running service, and back.

    python examples/logging_levels.py

Add `"shop.orders" = "DEBUG"` under [levels] in examples/logging_levels.toml while it runs; remove it again.
"""

import logging
from pathlib import Path

from hotconf import HotConf, Service, Settings
from hotconf.integrations.logging import follow


class App(Settings):
    level: str = "INFO"
    levels: dict[str, str] = {}


conf = HotConf(App, files=[Path(__file__).with_suffix(".toml")])
orders = logging.getLogger("shop.orders")


follow(conf, "level")
follow(conf, "levels")


def take_order():
    orders.debug("looking for the customer")
    orders.info("an order")


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    service = Service(conf)
    service.every(0.5, take_order)
    raise SystemExit(service.run())
