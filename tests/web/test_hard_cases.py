"""Hard cases against real processes: clients that vanish, restarts, races, thousands of clients."""

from __future__ import annotations

import contextlib
import json
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import HOTCONF, PATIENCE, Process, environment, replace, request, wait_until

JSON = {"Content-Type": "application/json"}
HEAD = "GET {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n"

SLOW = """
import asyncio
from pathlib import Path

from hotconf import HotConf, Section


class App(Section):
    message: str = "hello"


conf = HotConf(App, files=["app.toml"])


@conf.prepare
async def until_the_gate_opens(change):
    if change.old is not None:
        Path("entered").touch()
        while not Path("gate").exists():
            await asyncio.sleep(0.01)
"""

CROWD = """
import asyncio, resource, sys
from pathlib import Path

from aiohttp import web
from hotconf import HotConf, Section, Service
from hotconf.web import Server, config_app


class App(Section):
    message: str = "hello"


widest = 0.0


async def look_for_gaps():
    global widest
    loop = asyncio.get_running_loop()
    while not service.draining.is_set():
        before = loop.time()
        await asyncio.sleep(0.001)
        widest = max(widest, loop.time() - before)


async def measured(request):
    global widest
    found, widest = widest, 0.0
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return web.json_response({"gap": found, "kib": pages * 4})


conf = HotConf(App, files=["app.toml"])
service = Service(conf)
app = config_app(conf, heartbeat=3600)
app.router.add_get("/measured", measured)
server = Server(app, port=0)
service.add(server)
service.task(look_for_gaps)
service.on_ready(lambda: print("serving", server.port, flush=True))
raise SystemExit(service.run())
"""


class Served(Process):
    """A process that serves a configuration on a port that the kernel chose."""

    def __init__(self, folder, *words, command=(*HOTCONF, "serve", "--port", "0")):
        super().__init__([*command, *words], cwd=folder, env=environment())

    def ready(self):
        self.port = int(self.stdout.find(r"(?:127\.0\.0\.1:|^serving )(\d+)")[1])
        return self

    def ask(self, path="/config", method="GET", body=None, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return request(self.port, path, method, body=body, headers=named)

    def patch(self, values, tag):
        return self.ask("/config", "PATCH", json.dumps(values), If_Match=tag, **JSON)

    def tag(self, path="/config"):
        return self.ask(path).headers["etag"]

    def watchers(self):
        return self.ask("/status").json["watchers"]


@pytest.fixture
def serve(tmp_path):
    """Start services in a folder of their own, with `app.toml`."""
    (tmp_path / "app.toml").write_text('message = "hello"\n')
    with contextlib.ExitStack() as stack:

        def start(*words, **options):
            process = Served(tmp_path, *(words or ("app.toml",)), **options)
            stack.callback(process.kill)
            return process.ready()

        yield start


@contextlib.contextmanager
def many_files(count):
    """Let this process, and those that it starts, have that many files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"{count} open files are not allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(port, data):
    sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    sock.sendall(data)
    return sock


# Clients that vanish


def test_two_thousand_parked_polls_whose_clients_vanish_leave_no_watcher(serve):
    with many_files(5000):
        service = serve()
        asks = HEAD.format("/config?wait=300", f"If-None-Match: {service.tag()}\r\n").encode()
        clients = [connect(service.port, asks) for _ in range(2000)]
        wait_until(lambda: service.watchers()["poll"] == 2000, what="2,000 parked")
        for number, client in enumerate(clients):
            if number % 2:  # half of them with a reset, the others with a proper end
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        wait_until(lambda: service.watchers()["poll"] == 0, timeout=10, what="no watcher")
        assert service.ask("/healthz").status == 200
        assert service.terminate() == 0


def test_every_parked_request_gets_the_value_of_one_change(serve, tmp_path):
    service = serve()
    asks = HEAD.format("/config/message?wait=60", f"If-None-Match: {service.tag('/config/message')}\r\n").encode()
    clients = [connect(service.port, asks) for _ in range(200)]
    wait_until(lambda: service.watchers()["poll"] == 200)
    replace(tmp_path / "app.toml", 'message = "changed"\n')
    answers = {client.recv(65536).partition(b"\r\n\r\n")[2] for client in clients}
    assert answers == {b'"changed"\n'}
    for client in clients:
        client.close()


# Tokens


def test_a_restart_between_two_polls_is_answered_at_once_with_everything(serve):
    first = serve()
    tag, port = first.tag(), first.port
    assert first.terminate() == 0
    second = serve("app.toml", "--port", str(port))
    assert second.tag() != tag
    answer = second.ask("/config?wait=300", If_None_Match=tag)
    assert (answer.status, answer.json) == (200, {"message": "hello"})
    assert second.ask("/config", If_None_Match=tag).status == 200
    assert second.ask("/config", "PATCH", "{}", If_Match=tag, **JSON).status == 409, "there is no overlay here"


def test_tokens_of_every_kind(serve, tmp_path):
    service = serve()
    current = service.tag().strip('"')
    store, _, generation = current.partition(".")
    replace(tmp_path / "app.toml", 'message = "changed"\n')
    wait_until(lambda: service.ask("/config/message").json == "changed")
    at_once = {
        "stale": f'"{current}"',
        "future": f'"{store}.{int(generation) + 1000}"',
        "far future": f'"{store}.{"9" * 60}"',
        "foreign": f'"{"f" * len(store)}.2"',
        "foreign list": f'"{"f" * 8}.2", "{"e" * 8}.3"',
        "another notation's": f'"{current}.toml"',
    }
    for kind, tag in at_once.items():
        answer = service.ask("/config?wait=300", If_None_Match=tag)
        assert (answer.status, answer.json) == (200, {"message": "changed"}), kind
    for garbage in ("garbage", '"garbage"', '"a', f'"{current}', "W/", f'"{current}", x', '"\xff"'):
        assert service.ask("/config?wait=300", If_None_Match=garbage).status == 400, garbage


# Writers


def test_a_client_that_leaves_during_a_reload_aborts_nothing(serve, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    service = serve("slow:conf", "--no-watch")
    replace(tmp_path / "app.toml", 'message = "changed"\n')
    client = connect(service.port, b"POST /reload HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_until((tmp_path / "entered").exists)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert service.ask("/config/message").json == "hello"
    (tmp_path / "gate").touch()
    wait_until(lambda: service.ask("/config/message").json == "changed")
    assert [report["outcome"] for report in service.ask("/reloads").json["reloads"]] == ["applied", "applied"]


def test_of_many_writers_with_one_tag_exactly_one_wins_each_time(serve, tmp_path):
    service = serve("app.toml", "--overlay", "overlay.toml", "--no-watch")
    with ThreadPoolExecutor(6) as pool:
        for round_ in range(5):
            tag = service.tag()
            patches = [{"message": f"{round_}-{number}"} for number in range(6)]
            answers = list(pool.map(lambda values, tag=tag: service.patch(values, tag), patches))
            assert sorted(answer.status for answer in answers) == [200, *[412] * 5]
            won = next(number for number, answer in enumerate(answers) if answer.status == 200)
            assert service.ask("/config/message").json == f"{round_}-{won}"
            assert f"{round_}-{won}" in (tmp_path / "overlay.toml").read_text()
    assert service.ask("/config").headers["hotconf-generation"] == "6"


def test_a_patch_survives_a_restart_and_one_that_was_not_confirmed_does_not(serve, tmp_path):
    words = ("app.toml", "--overlay", "overlay.toml")
    service = serve(*words)
    assert service.patch({"message": "kept"}, "*").status == 200
    risky = service.ask("/config?confirm=60s", "PATCH", '{"message": "risky"}', If_Match="*", **JSON)
    assert (risky.status, service.ask("/config/message").json) == (200, "risky")
    service.send(signal.SIGKILL)
    service.end()
    assert serve(*words).ask("/config/message").json == "kept"


# Binding


def test_what_a_body_may_be(serve):
    service = serve("app.toml", "--overlay", "overlay.toml")
    large = json.dumps({"message": "x" * (1 << 20)})
    cases = {
        "too large": (service.ask("/config", "PATCH", large, If_Match="*", **JSON), 413),
        "a form": (service.ask("/config", "PATCH", "a=b", If_Match="*", Content_Type="text/plain"), 415),
        "no JSON": (service.ask("/config", "PATCH", "{", If_Match="*", **JSON), 400),
        "no condition": (service.ask("/config", "PATCH", "{}", **JSON), 428),
    }
    for what, (answer, status) in cases.items():
        assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (
            status,
            "application/problem+json",
        ), what
    assert service.ask("/config/message").json == "hello"


@pytest.mark.parametrize("verb", ["serve", "demo"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_an_address_that_other_machines_reach_needs_a_token_at_start(tmp_path, verb, host):
    (tmp_path / "app.toml").write_text('message = "hello"\n')
    config = ("app.toml",) if verb == "serve" else ("--config", "app.toml")
    words = [*HOTCONF, verb, *config, "--host", host, "--port", "0"]
    options = {"capture_output": True, "text": True, "timeout": PATIENCE}
    done = subprocess.run(words, check=False, cwd=tmp_path, env=environment(), **options)
    assert done.returncode == 2
    assert "--token-file" in done.stderr
    assert "Traceback" not in done.stderr


# Thousands of clients

END = b"\n\n\r\n"  # of an event, and of the chunk that holds it


def read_to(socks, end):
    """Read from every socket until each has received bytes that end so. Returns the bytes of each."""
    got = dict.fromkeys((sock.fileno() for sock in socks), b"")
    by_number = {sock.fileno(): sock for sock in socks}
    with select.epoll() as ready:
        for number in got:
            ready.register(number, select.EPOLLIN)
        missing = set(got)
        while missing:
            events = ready.poll(PATIENCE)
            assert events, f"{len(missing)} clients got nothing"
            for number, _ in events:
                data = by_number[number].recv(65536)
                assert data, "a stream ended"
                got[number] += data
                if got[number].endswith(end):
                    missing.discard(number)
    return got.values()


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_five_thousand_streams_and_one_change(serve, tmp_path):
    (tmp_path / "crowd.py").write_text(CROWD)
    asks = HEAD.format("/events", "").encode()
    with many_files(12_000), contextlib.ExitStack() as stack:
        service = serve("crowd.py", command=(sys.executable,))

        def join(count):
            socks = [stack.enter_context(connect(service.port, asks)) for _ in range(count)]
            read_to(socks, END)
            return socks

        first = join(100)
        before = service.ask("/measured").json
        crowd = [*first, *join(5000)]
        joined = service.ask("/measured").json
        assert (joined["kib"] - before["kib"]) / 5000 <= 12, "KiB a client"
        replace(tmp_path / "app.toml", 'message = "changed"\n')
        for answer in read_to(crowd, END):
            assert answer.count(b"event: config") == 1
            assert b'"value": {"message": "changed"}' in answer
        assert service.ask("/measured").json["gap"] < 0.5, "all at once, one after the other, would hold the loop"
        assert service.watchers()["stream"] == 5100
        stack.close()
        wait_until(lambda: service.watchers()["stream"] == 0, timeout=30)
        assert service.terminate() == 0
