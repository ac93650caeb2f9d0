"""SIGTERM with 100 open streams: no host waits for them, and each of them ends as a stream should."""

import contextlib
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.support import PATIENCE, request, wait_until

APP = """
from starlette.applications import Starlette
from starlette.routing import Mount
from hotconf import Service
from hotconf.integrations.asgi import UvicornServer, config_app, lifespan

conf = watching()
app = Starlette(routes=[Mount("/admin", config_app(conf))], lifespan=lifespan(conf))

if __name__ == "__main__":
    service = Service(conf)
    service.add(server := UvicornServer(app, port=0))
    service.on_ready(lambda: print("running on", server.url, file=sys.stderr))
    raise SystemExit(service.run())
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def script(name):
    return str(Path(sys.executable).with_name(name))


HOSTS = {
    "Service": lambda _port: ["app.py"],
    "uvicorn": lambda port: ["-m", "uvicorn", "--port", port, "app:app"],
    "uvicorn, uvloop": lambda port: ["-m", "uvicorn", "--port", port, "--loop", "uvloop", "app:app"],
    "uvicorn, 2 workers": lambda port: ["-m", "uvicorn", "--port", port, "--workers", "2", "app:app"],
    "granian": lambda port: [script("granian"), "--interface", "asgi", "--port", port, "app:app"],
    "gunicorn": lambda port: [*gunicorn(port), "uvicorn.workers.UvicornWorker"],
    "gunicorn, asgi": lambda port: [*gunicorn(port), "asgi"],
    # Its workers get no signal, and learn of the shutdown after this time.
    "hypercorn": lambda port: [
        "-m",
        "hypercorn",
        "--graceful-timeout",
        "1",
        "--bind",
        f"127.0.0.1:{port}",
        "app:app",
    ],
}


def gunicorn(port):
    return ["-m", "gunicorn", "--no-control-socket", "--bind", f"127.0.0.1:{port}", "app:app", "--worker-class"]


@pytest.mark.parametrize(
    "name", [name if name == "uvicorn" else pytest.param(name, marks=pytest.mark.soak) for name in HOSTS]
)
def test_sigterm_with_a_hundred_streams(launch, name):
    port = free_port()
    server = launch(*HOSTS[name](str(port)), scripts={"app.py": APP})
    if name == "Service":
        port = server.listening().port
    wait_until(lambda: reachable(port), what="a server")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(100)]
        streams = [stack.enter_context(client.makefile("rb")) for client in clients]
        for client in clients:
            client.settimeout(PATIENCE)
            client.sendall(b"GET /admin/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for stream in streams:
            while not stream.readline().startswith(b"data: "):
                pass
        began = time.monotonic()
        server.terminate()
        assert time.monotonic() - began < 3  # 0.2 s to 1.4 s, and the machine may be busy
        for stream in streams:
            assert name == "hypercorn" or stream.read().endswith(b"event: shutdown\ndata: {}\n\n\r\n0\r\n\r\n")
    assert name == "hypercorn" or "Traceback" not in server.stderr.text


def reachable(port):
    with contextlib.suppress(OSError):
        return request(port, "/admin/healthz").status == 200
