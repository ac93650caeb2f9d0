"""A connection pool that is rebuilt under load: settings and pool change together, and no request fails.

    python examples/two_phase_pool.py

Fifty clients send requests all the time while the configuration alternates between two databases, and sometimes names
one that does not exist. Each request pins one snapshot, whose pool stays open until the last request on it is done.
"""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager

from hotconf import HotConf, Section, Settings
from hotconf.sources import Memory


class Database(Section):
    port: int
    connections: int = 4


class App(Settings):
    database: Database


source = Memory()  # a file works too, and is watched
conf = HotConf(App, sources=[source])
seen = Counter()


@conf.resource("database")
@asynccontextmanager
async def pool(candidate):
    """Open a pool before the settings are in force. An exception rejects the reload, and the old pool stays."""
    database, free = candidate.settings.database, asyncio.Queue()
    async with AsyncExitStack() as connections:
        for _ in range(database.connections):
            reader, writer = await asyncio.open_connection("127.0.0.1", database.port)
            connections.callback(writer.close)
            free.put_nowait((reader, writer))
        seen["opened"] += 1
        yield free
    seen["closed"] += 1


async def client(done):
    while not done.is_set():
        with conf.pin() as snapshot:
            reader, writer = connection = await snapshot[pool].get()
            writer.write(b"who are you?\n")
            is_right = int(await reader.readline()) == snapshot.settings.database.port
            snapshot[pool].put_nowait(connection)
        seen["right" if is_right else "wrong"] += 1


async def database(reader, writer):
    while await reader.readline():
        writer.write(b"%d\n" % writer.get_extra_info("sockname")[1])
    writer.close()


async def main():
    servers = [await asyncio.start_server(database, "127.0.0.1", 0) for _ in range(2)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    source.set({"database": {"port": ports[0]}})
    done = asyncio.Event()
    async with conf.running(), asyncio.TaskGroup() as clients:  # a request that fails ends the program
        for _ in range(50):
            clients.create_task(client(done))
        for turn in range(30):
            port = 1 if turn % 5 == 4 else ports[turn % 2]  # no server listens on port 1
            source.set({"database": {"port": port, "connections": 1 + turn % 4}})
            seen[(await conf.reload()).outcome] += 1
        done.set()
    print(", ".join(f"{count} {what}" for what, count in seen.items()))


if __name__ == "__main__":
    asyncio.run(main())
