"""A FastAPI application under uvicorn, which keeps SIGINT and SIGTERM; hotconf takes SIGHUP and watches the file.

uvicorn --app-dir examples fastapi_service:app

curl localhost:8000/hello/Ada
sed -i 's/Hello/Good evening/' examples/fastapi_service.toml
curl localhost:8000/hello/Ada
"""

from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Response

from hotconf import HotConf, Settings


class Greeting(Settings):
    salutation: str = "Hello"
    punctuation: str = "!"


conf = HotConf(Greeting, files=[Path(__file__).with_suffix(".toml")])


@asynccontextmanager
async def lifespan(_app):
    async with conf.running():
        yield


async def pinned():
    """Return one configuration for the whole request, even if reloads happen meanwhile."""
    with conf.pin() as snapshot:
        yield snapshot.settings


app = FastAPI(lifespan=lifespan)


@app.get("/hello/{name}")
async def hello(name: str, settings: Annotated[Greeting, Depends(pinned)]) -> str:
    return f"{settings.salutation}, {name}{settings.punctuation}"


@app.get("/ready")
async def ready(response: Response) -> dict[str, object]:
    status = conf.status
    response.status_code = 200 if status.state == "ready" else 503
    return {"state": status.state, "generation": status.generation, "degraded": status.degraded}
