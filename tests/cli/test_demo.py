"""`hotconf demo`, as an operator meets it: files, signals, sockets, one process each."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import socket
import sys
import time
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from hotconf.cli.demo import COPY, SAMPLE, _default_config
from hotconf.cli.serving import PidFile
from hotconf.demo.service import demo_conf, demo_server
from hotconf.process.service import Service
from hotconf.web.safety import Safety
from tests.support import HOTCONF, ROOT, Demo, in_flight, refuses_connections, request, wait_until

BROKEN = 'message = "never seen\n'


def reads_message(demo, text):
    wait_until(lambda: demo.message() == text, what=f"message {text!r}")


# Reloading


def test_an_edit_is_served_with_no_signal(shared):
    shared.say("After")
    reads_message(shared, "After")
    shared.stderr.find(r"\(file\): applied, generation 2, changed: message")
    shared.say("Before hot reload")
    reads_message(shared, "Before hot reload")


def test_a_hup_logs_its_outcome_and_unchanged_when_nothing_changed(shared):
    shared.send(signal.SIGHUP)
    shared.stderr.find(r"\(SIGHUP\): unchanged, generation \d")
    last = shared.status()["last_reload"]
    assert (last["outcome"], last["triggers"]) == ("unchanged", ["SIGHUP"])


def test_ten_rounds_of_broken_and_mended(demo):
    """What is broken names file, line, column and reason, in the log and in /status; the old message still serves."""
    served = demo()
    for number in range(10):
        good = f"good {number}"
        served.say(good)
        reads_message(served, good)
        seen = len(served.stderr.text)
        served.write(f"# round {number}\n{BROKEN}")
        line = served.stderr.find(r"rejected, generation \d+ stays in force: .*", start=seen)[0]
        assert f"{served.config}:2:" in line
        status = wait_until(lambda: (s := served.status())["consecutive_failures"] and s)
        (fault,) = status["last_reload"]["faults"]
        assert (fault["source"], fault["line"]) == (str(served.config), 2)
        assert fault["column"] > 0
        assert fault["message"]
        assert fault["text"] in line
        assert status["degraded"]
        assert served.message() == good
    served.say("mended")
    reads_message(served, "mended")
    assert served.status()["consecutive_failures"] == 0
    assert served.terminate() == 0


def test_whatever_breaks_the_file_the_old_message_stays_and_mending_recovers(demo):
    served = demo()
    for number, spoil in enumerate(
        [Path.unlink, lambda path: path.write_text("message = 5\n"), lambda path: path.write_bytes(b"\xff")]
    ):
        before, seen = served.message(), len(served.stderr.text)
        spoil(served.config)
        served.stderr.find(r"rejected, generation \d+ stays in force: .*demo\.toml", start=seen)
        assert served.message() == before
        served.say(f"mended {number}")
        reads_message(served, f"mended {number}")


def test_the_environment_stands_above_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("DEMO_MESSAGE", "from outside")
    path = tmp_path / "demo.toml"
    path.write_text('message = "from inside"\n')
    conf = demo_conf(path)
    conf.load()
    assert conf.current.message == "from outside"


def test_the_log_level_follows_the_file_from_the_first_one_on(demo):
    served = demo(text='message = "quiet"\nlog_level = "WARNING"\n')
    served.send(signal.SIGHUP)
    wait_until(lambda: served.status()["last_reload"]["triggers"] == ["SIGHUP"])
    served.write('message = "loud"\nlog_level = "INFO"\n')
    reads_message(served, "loud")
    served.send(signal.SIGHUP)
    served.stderr.find(r"\(SIGHUP\): unchanged, generation 2")
    assert "(SIGHUP): unchanged, generation 1" not in served.stderr.text


async def test_a_thousand_hups_in_a_second_with_requests_running(demo):
    """The process lives, no request fails, few reloads, and the last state of the file wins."""
    served = demo()
    over = asyncio.Event()
    answers = []
    began = time.monotonic()

    async def ask(session):
        while not over.is_set():
            async with session.get(f"http://127.0.0.1:{served.port}/") as response:
                answers.append((response.status, await response.text()))

    async def storm():
        for number in range(1000):
            if number % 100 == 0:
                served.say(f"storm {number}")
            served.send(signal.SIGHUP)
            await asyncio.sleep(0.001)
        served.say("the last")
        served.send(signal.SIGHUP)

    async with aiohttp.ClientSession() as session:
        asking = [asyncio.create_task(ask(session)) for _ in range(4)]
        await storm()
        over.set()
        await asyncio.gather(*asking)
    await asyncio.to_thread(reads_message, served, "the last")
    assert len(answers) > 20
    assert {status for status, _ in answers} == {200}
    assert all(text == "Before hot reload" or text.startswith(("storm", "the last")) for _, text in answers)
    # Ten a second, however long a slow machine takes to send a thousand; those of the file come on top.
    seconds = time.monotonic() - began
    hups = [line for line in served.reports() if "SIGHUP" in line]
    assert len(hups) < 10 * seconds + 5
    assert served.terminate() == 0
    assert "Traceback" not in served.stderr.text


async def test_it_is_not_ready_before_everything_has_started(tmp_path):
    """Its own server answers already, while another one that it shares the process with is still starting."""
    seen = []

    class Second:
        name = "second"

        async def start(self):
            async with aiohttp.ClientSession() as session, session.get(f"{server.url}/readyz") as reply:
                seen.append((reply.status, (await reply.json())["state"]))
            service.stop()
            await asyncio.Event().wait()

        async def stop(self):
            pass

    path = tmp_path / "demo.toml"
    path.write_text('message = "hello"\n')
    conf = demo_conf(path)
    service = Service(conf)
    server = demo_server(service, conf, host="127.0.0.1", port=0, safety=Safety())
    service.add(Second())
    assert await service.serve() == 0
    assert seen == [(503, "starting")]


# Ending


def test_a_slow_request_a_reload_and_a_sigterm(demo):
    """The answer is complete, from the snapshot it began with; new connections are refused; exit 0."""
    served = demo()
    with in_flight(served.port, "/slow?seconds=2") as reply:
        wait_until(lambda: served.status()["leased"].get("1", 0) > 1)  # this one's, and that of /status itself
        served.say("After")
        reads_message(served, "After")
        assert served.get().headers["hotconf-generation"] == "2"
        served.send(signal.SIGTERM)
        wait_until(lambda: refuses_connections(served.port))
        answer = reply()
    assert (answer.status, answer.text) == (200, "Before hot reload")
    assert answer.headers["hotconf-generation"] == "1"
    assert answer.headers["connection"] == "close"
    assert served.end() == 0


def test_a_second_ctrl_c_ends_it_at_once(demo):
    served = demo()
    with in_flight(served.port, "/slow?seconds=60"):
        wait_until(lambda: served.status()["leased"].get("1", 0) > 1)
        served.send(signal.SIGINT)
        served.stderr.find("draining: SIGINT")
        time.sleep(0.15)  # within a tenth of a second it would count as the same one
        began = time.monotonic()
        served.send(signal.SIGINT)
        assert served.end() == 130
    assert time.monotonic() - began < 3
    assert "Traceback" not in served.stderr.text


def test_a_deadline_that_cuts_a_request_is_124_and_names_it(demo):
    served = demo("--grace-period", "0.5")
    with in_flight(served.port, "/slow?seconds=60&token=hidden") as reply:
        wait_until(lambda: served.status()["leased"].get("1", 0) > 1)
        began = time.monotonic()
        served.send(signal.SIGTERM)
        answer = reply()
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert served.end() == 124
    assert 0.5 <= time.monotonic() - began < 5
    assert re.search(r"WARNING drain: cut GET /slow \(\d+\.\d s\)", served.stderr.text)
    assert served.stderr.text.count("drain: cut") == 1
    assert "hidden" not in served.stderr.text


def test_jobs_log_their_runs_and_finish(demo):
    served = demo()
    served.stderr.find("job every second: run 1$")
    served.stderr.find("job every second: run 2$")
    assert served.terminate() == 0
    assert re.search(r"job every second: no further run, [2-9] finished", served.stderr.text)
    assert "job every minute: no further run, 0 finished" in served.stderr.text


def test_readiness_tells_of_the_drain_while_it_still_serves(demo):
    """During the shutdown delay: 503 for balancers, 200 for clients, and reloads are refused."""
    served = demo("--shutdown-delay", "1.5")
    assert served.get("/readyz").status == 200
    served.send(signal.SIGTERM)
    served.stderr.find("draining")
    ready = served.get("/readyz")
    assert (ready.status, ready.json) == (503, {"ready": False, "state": "draining"})
    assert served.get("/healthz").status == 200
    answer = served.get()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    refused = served.get("/reload", method="POST")
    assert refused.status == 503
    assert refused.headers["content-type"].startswith("application/problem+json")
    assert "draining" in refused.json["detail"]
    served.send(signal.SIGHUP)
    served.say("too late")
    assert served.message() == "Before hot reload"
    assert served.end() == 0
    assert "SIGHUP)" not in served.stderr.text


async def test_a_websocket_echoes_and_ends_with_1001(demo):
    served = demo()
    async with aiohttp.ClientSession() as session, session.ws_connect(f"http://127.0.0.1:{served.port}/ws") as socket:
        await socket.send_str("hello")
        assert (await socket.receive()).data == "hello"
        await socket.send_bytes(b"\x00\xff")
        assert (await socket.receive()).data == b"\x00\xff"
        served.send(signal.SIGTERM)
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1001
    assert served.end() == 0


def test_a_terminal_that_closes_drains(tmp_path):
    """No orphan stays behind: the process ends by itself when its terminal hangs up."""
    config = tmp_path / "demo.toml"
    config.write_text('message = "on a terminal"\n')
    log = tmp_path / "log"
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with log.open("wb") as file:
            os.dup2(file.fileno(), 2)
        os.environ["PYTHONPATH"] = str(ROOT)
        os.execv(sys.executable, [*HOTCONF, "demo", "--port", "0", "--config", str(config)])
    try:
        said = b""
        while b"curl" not in said:
            said += os.read(terminal, 4096)
        os.close(terminal)
        ended, status = wait_until(lambda: (found := os.waitpid(child, os.WNOHANG))[0] and found)
        child = None
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert ended
    assert os.waitstatus_to_exitcode(status) == 0
    assert "draining: SIGHUP" in log.read_text()
    assert "Traceback" not in log.read_text()


# Starting


def test_a_port_in_use_is_1_with_one_clear_message_and_nothing_half_started(launch, tmp_path):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        process = launch("demo", "--port", port, "--pid-file", "pid", cwd=tmp_path)
        assert process.end() == 1
    errors = [line for line in process.stderr.text.splitlines() if " INFO " not in line]
    assert errors == [f"hotconf: could not start: cannot listen on 127.0.0.1:{port}: Address already in use"]
    assert not process.stdout.text
    assert not (tmp_path / "pid").exists()


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ('message = 5\nlog_level = "LOUD"\nmesage = "typo"\n', ["1:1", "2:1", "3:1"]),
        (BROKEN, ["1:22"]),
        (None, [""]),
    ],
    ids=["three faults", "no TOML", "missing"],
)
def test_a_file_that_is_refused_at_the_start_is_2_and_every_fault_is_named(launch, tmp_path, text, places):
    path = tmp_path / "app.toml"
    if text is not None:
        path.write_text(text)
    process = launch("demo", "--port", "0", "--config", path)
    assert process.end() == 2
    assert "Traceback" not in process.stderr.text
    head, *faults = process.stderr.text[process.stderr.text.index("hotconf: ") :].splitlines()
    assert head == f"hotconf: configuration refused: {len(places)} fault{'s' * (len(places) > 1)}"
    assert sorted(fault.strip().split(": ")[0] for fault in faults) == [f"{path}:{at}".rstrip(":") for at in places]
    assert not process.stdout.text


def test_without_a_sample_it_makes_one(launch, tmp_path):
    process = launch("demo", "--port", "0", cwd=tmp_path)
    port = int(process.stdout.find(r"http://\S+:(\d+) with hotconf-demo\.toml")[1])
    assert request(port).text == "Before hot reload"
    assert (tmp_path / "hotconf-demo.toml").read_bytes() == (ROOT / "sample_configs/demo.toml").read_bytes()


def test_a_copy_that_was_edited_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _default_config() == COPY
    COPY.write_text('message = "mine"\n')
    assert _default_config() == COPY
    assert COPY.read_text() == 'message = "mine"\n'


def test_with_a_sample_it_reads_that(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SAMPLE.parent.mkdir()
    SAMPLE.write_text('message = "the sample"\n')
    assert _default_config() == SAMPLE
    assert not COPY.exists()


def test_the_sample_of_the_checkout_is_the_packaged_one():
    assert (ROOT / "sample_configs/demo.toml").read_bytes() == (ROOT / "hotconf/demo/demo.toml").read_bytes()


# Options


def test_the_pid_file_is_there_while_it_runs(demo, tmp_path):
    served = demo("--pid-file", "pid")
    assert (tmp_path / "pid").read_text() == f"{served.pid}\n"
    assert served.terminate() == 0
    assert not (tmp_path / "pid").exists()


async def test_a_pid_file_that_a_successor_has_written_stays(tmp_path):
    path = tmp_path / "pid"
    file = PidFile(path)
    await file.start()
    path.write_text("4711\n")
    await file.stop()
    assert path.read_text() == "4711\n"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "it is no regular file"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.symlink_to("precious"), "it is a symbolic link"),
        (lambda path: path.symlink_to("nothing"), "it is a symbolic link"),
        (lambda path: path.symlink_to("/dev/null"), "it is a symbolic link"),
    ],
    ids=["fifo", "folder", "link", "dangling link", "link to a device"],
)
async def test_a_pid_file_is_a_regular_file_or_a_new_one(tmp_path, make, reason):
    """A FIFO would block the start, and a link that another user has planted would overwrite what it leads to."""
    (tmp_path / "precious").write_text("precious")
    path = tmp_path / "pid"
    make(path)
    file = PidFile(path)
    with pytest.raises(OSError, match=f"cannot write {path}: {reason}"):
        await asyncio.wait_for(asyncio.to_thread(asyncio.run, file.start()), 5)
    assert (tmp_path / "precious").read_text() == "precious"
    await file.stop()
    assert os.path.lexists(path)
    assert not (tmp_path / "nothing").exists()


async def test_a_pid_file_that_became_a_fifo_does_not_block_the_end(tmp_path):
    path = tmp_path / "pid"
    file = PidFile(path)
    await file.start()
    path.unlink()
    os.mkfifo(path)
    await asyncio.wait_for(asyncio.to_thread(asyncio.run, file.stop()), 5)
    assert path.exists()


async def test_an_old_pid_file_is_overwritten(tmp_path):
    (tmp_path / "pid").write_text("1234567890\n")
    await PidFile(tmp_path / "pid").start()
    assert (tmp_path / "pid").read_text() == f"{os.getpid()}\n"


async def test_a_pid_file_that_cannot_be_written_says_which(tmp_path):
    file = PidFile(tmp_path / "no such folder" / "pid")
    with pytest.raises(OSError) as caught:
        await file.start()
    assert caught.value.strerror == f"cannot write {tmp_path}/no such folder/pid: No such file or directory"
    await file.stop()


def test_a_token_is_asked_for_everywhere_but_by_probes(demo, tmp_path):
    (tmp_path / "token").write_text("open sesame\n")
    served = demo("--host", "0.0.0.0", "--token-file", tmp_path / "token", "--allow-host", "demo.example")
    bearer = {"Authorization": "Bearer open sesame"}
    for path in ("/", "/config", "/status", "/slow?seconds=0", "/ws", "/nowhere"):
        assert served.get(path).status == 401
    assert served.get("/", headers=bearer).text == "Before hot reload"
    assert served.get("/", headers={**bearer, "Host": "demo.example"}).status == 200
    assert served.get("/", headers={**bearer, "Host": "evil.example"}).status == 403
    assert served.get("/healthz", headers={"Host": "10.1.2.3"}).status == 200
    assert "open sesame" not in served.stderr.text + served.stdout.text


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon", "3601", ""])
def test_slow_refuses_what_is_no_time(shared, seconds):
    reply = shared.get(f"/slow?seconds={seconds}")
    assert reply.status == 400
    assert "seconds must be" in reply.json["detail"]


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/config/nowhere", 404), ("/reload", 405)])
def test_what_is_not_there_is_a_problem_document(shared, path, status):
    reply = shared.get(path)
    assert reply.status == reply.json["status"] == status
    assert reply.headers["content-type"].startswith("application/problem+json")


def test_the_message_and_nothing_else(shared):
    reply = shared.get()
    assert reply.body == b"Before hot reload"
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.headers["hotconf-generation"].isdecimal()


def test_it_prints_what_to_try_with_its_pid(shared):
    for hint in (f"kill -HUP {shared.pid}", f"curl http://127.0.0.1:{shared.port}/", "/slow", "/status"):
        assert hint in shared.stdout.text


def test_uvloop_is_used_only_on_request(shared):
    maps = Path(f"/proc/{shared.pid}/maps")
    if not maps.exists():
        pytest.skip("no /proc")
    assert "uvloop" not in maps.read_text()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One demo for all the tests that only ask."""
    process = Demo(tmp_path_factory.mktemp("shared"))
    try:
        yield process.ready()
    finally:
        process.kill()
