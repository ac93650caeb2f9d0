"""The smallest service: it greets, and greets again whenever its message changes.

    python examples/minimal.py

Edit examples/minimal.toml while it runs, or break it and see what it says. `kill -HUP` reloads too; Ctrl-C ends it.
"""

import logging
from pathlib import Path

from hotconf import HotConf, Service, Settings


class App(Settings):
    model_config = {"env_prefix": "APP_"}  # APP_MESSAGE stands above the file

    message: str = "Hello"


conf = HotConf(App, files=[Path(__file__).with_suffix(".toml")])


@conf.on_change("message")
def greet(_change=None):
    print(conf.current.message, flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    service = Service(conf)
    service.on_startup(greet)  # on_change tells of what changes, not of the first configuration
    raise SystemExit(service.run())
