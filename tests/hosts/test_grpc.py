"""gRPC: a real server and channel, and all four kinds of call."""

import grpc
import pytest

from hotconf import HotConf, Options, Section
from hotconf.integrations.grpc import PinSnapshot, call_snapshot
from hotconf.sources import Memory


class App(Section):
    message: str = "one"


@pytest.fixture
def memory():
    return Memory({"message": "one"})


@pytest.fixture
async def conf(memory):
    conf = HotConf(App, sources=[memory], options=Options(watch=False))
    async with conf.running(signals=()):
        yield conf


class Service:
    """Each method answers what its snapshot has, before and after a reload."""

    def __init__(self, conf, memory):
        self.conf, self.memory = conf, memory

    async def change(self):
        self.memory.set({"message": self.conf.current.message + "!"})
        await self.conf.reload()

    def seen(self):
        return f"{call_snapshot().settings.message} {sorted(self.conf.leased)}".encode()

    async def unary_unary(self, request, context):
        await self.change()
        return self.seen()

    async def stream_unary(self, requests, context):
        async for _ in requests:
            await self.change()
        return self.seen()

    async def unary_stream(self, request, context):
        for _ in range(2):
            await self.change()
            yield self.seen()

    async def stream_stream(self, requests, context):
        async for _ in requests:
            await self.change()
            yield self.seen()

    def sync(self, request, context):
        with pytest.raises(LookupError):
            call_snapshot()
        return b"sync"


@pytest.fixture
async def channel(conf, memory):
    server, service = grpc.aio.server(interceptors=[PinSnapshot(conf)]), Service(conf, memory)
    kinds = ("unary_unary", "stream_unary", "unary_stream", "stream_stream")
    methods = {kind: getattr(grpc, f"{kind}_rpc_method_handler")(getattr(service, kind)) for kind in kinds}
    methods["sync"] = grpc.unary_unary_rpc_method_handler(service.sync)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("shop", methods)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


async def requests():
    for _ in range(2):
        yield b""


async def test_a_call_has_one_snapshot_to_its_end(channel, conf):
    assert await channel.unary_unary("/shop/unary_unary")(b"") == b"one [1]"
    assert await channel.stream_unary("/shop/stream_unary")(requests()) == b"one! [2]"
    assert [answer async for answer in channel.unary_stream("/shop/unary_stream")(b"")] == [b"one!!! [4]"] * 2
    assert [answer async for answer in channel.stream_stream("/shop/stream_stream")(requests())] == [
        b"one!!!!! [6]"
    ] * 2
    assert conf.leased == {}


async def test_a_handler_that_is_not_async_and_one_that_does_not_exist_pass_through(channel):
    assert await channel.unary_unary("/shop/sync")(b"") == b"sync"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await channel.unary_unary("/shop/nothing")(b"")
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_outside_of_a_call_there_is_no_snapshot():
    with pytest.raises(LookupError):
        call_snapshot()
