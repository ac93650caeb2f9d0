"""Under aiohttp's own run_app, which takes SIGINT and SIGTERM itself."""

import signal

import pytest

from tests.support import in_flight

APP = """
import socket
from aiohttp import web

conf = unwatched()
before = signal.getsignal(signal.SIGHUP)


async def live(app):
    async with conf.running():
        yield


async def root(request):
    return web.Response(text=conf.current.message)


async def held(request):
    say("held")
    await asyncio.sleep(0.5)
    return web.Response(text=conf.current.message)


app = web.Application()
app.cleanup_ctx.append(live)
app.router.add_get("/", root)
app.router.add_get("/held", held)
if sys.argv[1] == "uvloop":
    import uvloop as loops
else:
    loops = asyncio
server = socket.create_server(("127.0.0.1", 0))
print(f"running on http://127.0.0.1:{server.getsockname()[1]}", file=sys.stderr)
web.run_app(app, sock=server, loop=loops.new_event_loop(), print=None)
say("restored", hangup_is(before))
"""


@pytest.mark.parametrize(("loop", "stop"), [("asyncio", signal.SIGTERM), ("uvloop", signal.SIGINT)])
def test_hangup_reloads_and_the_runner_keeps_its_signals(launch, loop, stop):
    server = launch("app.py", loop, scripts={"app.py": APP}).listening()
    server.shows("one")
    server.write("two")
    server.hang_up()
    server.shows("two")
    with in_flight(server.port, "/held") as reply:
        server.stdout.find("^held$")
        server.send(stop)
        assert reply().text == "two"
    assert server.end() == 0
    assert "restored True" in server.stdout.text
