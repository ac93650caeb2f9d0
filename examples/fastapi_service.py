"""A FastAPI application under uvicorn, which keeps SIGINT and SIGTERM; hotconf takes SIGHUP and watches the file.

uvicorn --app-dir examples fastapi_service:app

curl localhost:8000/hello/Ada
sed -i 's/Hello/Good evening/' examples/fastapi_service.toml
curl localhost:8000/hello/Ada
xdg-open http://localhost:8000/hotconf/dashboard
"""

import contextlib
from pathlib import Path
from typing import Annotated

import httpx
from fastapi import Depends, FastAPI, Request

from hotconf import HotConf, Options, Settings
from hotconf.integrations.asgi import request_snapshot
from hotconf.integrations.fastapi import Pinned, setup


class Greeting(Settings):
    salutation: str = "Hello"
    punctuation: str = "!"
    timeout: float = 5.0


conf = HotConf(Greeting, files=[Path(__file__).with_suffix(".toml")], options=Options(last_good=True))
app = FastAPI()
setup(app, conf)
Config = Annotated[Greeting, Depends(Pinned(conf))]


@conf.resource("timeout")
@contextlib.asynccontextmanager
async def client(candidate):
    """A client is built anew when its timeout changes. Requests that use the old one keep it until they are done."""
    async with httpx.AsyncClient(timeout=candidate.settings.timeout) as session:
        yield session


@app.get("/hello/{name}")
async def hello(name: str, config: Config) -> str:
    return f"{config.salutation}, {name}{config.punctuation}"


@app.get("/timeout")
async def timeout(request: Request) -> float | None:
    return request_snapshot(request.scope)[client].timeout.read
