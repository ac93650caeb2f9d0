"""An aiohttp service: each request sees one configuration from its first instruction to its last.

python examples/aiohttp_service.py

curl localhost:8080/price/100
sed -i 's/0.19/0.21/' examples/aiohttp_service.toml
curl localhost:8080/price/100
curl localhost:8080/admin/config          # the running configuration; POST /admin/reload reloads
"""

import logging
from pathlib import Path
from typing import Annotated

from aiohttp import web
from pydantic import Field

from hotconf import HotConf, RestartRequired, Service, Settings
from hotconf.web import Server, config_app, pin_snapshot, request_snapshot


class Shop(Settings):
    model_config = {"env_prefix": "SHOP_"}

    currency: str = "EUR"
    tax: Annotated[float, Field(ge=0, lt=1)] = 0.0
    port: Annotated[int, RestartRequired()] = 8080


conf = HotConf(Shop, files=[Path(__file__).with_suffix(".toml")])


async def price(request):
    shop = request_snapshot(request).settings  # the same object in the whole request
    gross = int(request.match_info["net"]) * (1 + shop.tax)
    return web.Response(text=f"{gross:.2f} {shop.currency}")


def web_app():
    app = web.Application(middlewares=[pin_snapshot(conf)])
    app.router.add_get(r"/price/{net:\d+}", price)
    app.add_subapp("/admin", config_app(conf))
    return app


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    server = Server(web_app(), port=lambda: conf.current.port)  # called after the load; another port needs a restart
    service = Service(conf, grace_period=10)
    service.add(server)
    service.on_ready(lambda: print("serving on", server.url, flush=True))
    raise SystemExit(service.run())
