"""HTTPS whose certificate is renewed without a restart.

    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out cert.pem
    python examples/tls_service.py
    curl --insecure https://localhost:8443/

Make the certificate again while it runs: new connections use the new one, and open connections live on. A certificate
that does not fit its key rejects the reload, and the old one stays in use.
"""

import logging
import ssl
from pathlib import Path
from typing import Annotated

from aiohttp import web

from hotconf import Content, HotConf, RestartRequired, Service, Settings
from hotconf.web import Server


class App(Settings):
    model_config = {"env_prefix": "APP_"}

    port: Annotated[int, RestartRequired()] = 8443
    certificate: Annotated[Path, Content()] = Path("cert.pem")  # its content is a part of the setting
    key: Annotated[Path, Content()] = Path("key.pem")


conf = HotConf(App)


def tls(snapshot):
    """The context for the connections that come while a snapshot is in force."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(snapshot.settings.certificate, snapshot.settings.key)
    return context


async def hello(_request):
    return web.Response(text="Hello over TLS\n")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    app = web.Application()
    app.add_routes([web.get("/", hello)])
    service = Service(conf)
    server = Server(app, port=lambda: conf.current.port, ssl_context=tls)
    service.add(server)
    service.on_ready(lambda: print("serving on", server.url, flush=True))
    raise SystemExit(service.run())
