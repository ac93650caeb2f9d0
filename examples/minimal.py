"""The smallest service: it prints its message, and prints it again whenever it changes.

    python examples/minimal.py

Edit examples/minimal.toml while it runs, or break it and read the log. `kill -HUP` reloads too; Ctrl-C ends it.
"""

import logging
from pathlib import Path

from hotconf import HotConf, Service, Settings


class App(Settings):
    model_config = {"env_prefix": "APP_"}  # APP_MESSAGE overrides the file

    message: str = "Hello"


conf = HotConf(App, files=[Path(__file__).with_suffix(".toml")])


@conf.on_change("message")
def greet(_change=None):
    print(conf.current.message, flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    service = Service(conf)
    service.on_startup(greet)  # on_change is not called for the first configuration
    raise SystemExit(service.run())
