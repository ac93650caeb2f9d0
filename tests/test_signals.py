"""The signal router: real processes, real signals."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
from hypothesis import given, strategies as st

from hotconf import signals
from hotconf.errors import SignalsUnavailable
from hotconf.signals import SignalRouter

PATIENCE = 20.0
PROMPT = 2.0
"""An upper bound for what takes milliseconds on an idle machine."""

# A test run may itself have been started with signals ignored (nohup, a shell's background), and children inherit that.
PRELUDE = """
import os, signal, sys, threading, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
from hotconf.signals import SignalRouter

calls = []

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def reload():
    calls.append("reload")
    say("reload")

def drain(signum):
    calls.append(signum)
    say("drain", signum)

def kill(name, pid=0):
    os.kill(pid or os.getpid(), getattr(signal, "SIG" + name))

def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, calls
        time.sleep(0.001)
"""

ROUTED = """
router = SignalRouter()
router.install()
router.route(on_reload=reload, on_drain=drain)
say("routed")
"""


class Child:
    """A Python process that is told what it is by a script, and reports its progress by lines on stdout."""

    def __init__(self, script, *args, stdin=None):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + script, *args],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # no terminal but the test's own; and `close` reaches what it forked
        )
        self.pid = self.process.pid
        self._unread = b""

    def line(self):
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self.process.stdout], [], [], max(deadline - time.monotonic(), 0))
            chunk = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            if not chunk:
                pytest.fail(f"no line came; got {self._unread!r}")
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def await_line(self, wanted):
        while self.line() != wanted:
            pass

    def send(self, *signums):
        for signum in signums:
            self.process.send_signal(signum)

    def end(self):
        """Wait for the end; return exit code, further lines, stderr."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, (self._unread + out).decode().splitlines(), err.decode()

    def close(self):
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def spawn():
    children = []

    def start(script, *args, stdin=None):
        children.append(Child(script, *args, stdin=stdin))
        return children[-1]

    yield start
    for child in children:
        child.close()


@pytest.fixture
def run(spawn):
    """Run a script to its end: it must exit 0 and write nothing to stderr. Return its lines."""

    def run(script):
        code, lines, err = spawn(script).end()
        assert (code, err) == (0, "")
        return lines

    return run


# Construction


@pytest.mark.parametrize("name", ["HUP", "SIGHUP", "hup", "sighup"])
def test_names_with_or_without_sig(name):
    stop = signal.getsignal(signal.SIGTERM)
    with SignalRouter([name]) as router:
        assert signal.getsignal(signal.SIGHUP) == router._on_signal
        assert signal.getsignal(signal.SIGTERM) is stop


@pytest.mark.parametrize("name", ["USR1", "KILL", "", "SIG", "hangup"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="HUP, INT, TERM"):
        SignalRouter(["TERM", name])


def test_a_platform_without_sighup_is_named(monkeypatch):
    monkeypatch.delattr(signal, "SIGHUP")
    with pytest.raises(ValueError, match="no SIGHUP"):
        SignalRouter()
    SignalRouter(["INT", "TERM"])


def test_a_router_of_stop_signals_needs_on_drain():
    with pytest.raises(ValueError, match="on_drain"):
        SignalRouter(["HUP", "TERM"]).route(on_reload=lambda: None)


def test_the_import_is_light(run):
    heavy = ["asyncio", "logging", "pydantic", "aiohttp", "click", "watchfiles", "socket", "subprocess", "traceback"]
    assert run(f"say(*[name for name in {heavy} if name in sys.modules])") == [""]


# Early: installed, not routed


@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 143)])
def test_early_stop_ends_the_process_without_a_word(spawn, name, code):
    child = spawn(f"SignalRouter().install(); kill('{name}'); time.sleep(30)")
    assert child.end() == (code, [], "")


def test_early_stop_at_any_moment_of_a_heavy_start(spawn):
    script = """
SignalRouter().install()
say("in")
import asyncio, decimal, email.message, http.client, pydantic, unittest, xml.dom.minidom, aiohttp
time.sleep(30)
"""
    pause = random.Random(11)
    for turn in range(30):
        child = spawn(script)
        child.await_line("in")
        time.sleep(pause.uniform(0, 0.15))
        signum = (signal.SIGINT, signal.SIGTERM)[turn % 2]
        child.send(signum)
        assert child.end() == (128 + signum, [], "")


def test_i7_hup_before_ready_is_one_reload_when_routed(run):
    lines = run("""
with SignalRouter() as router:
    kill("HUP")
    until(lambda: router._reload_waits)
    router.reload()
    say("ready")
    router.route(on_reload=reload, on_drain=drain)
    router.route(on_reload=reload, on_drain=drain)
""")
    assert lines == ["ready", "reload"]


def test_a_drain_before_ready_is_delivered_and_takes_precedence():
    router, calls = SignalRouter(), []
    router.reload()
    router.drain(signal.SIGINT)
    router.route(on_reload=lambda: calls.append("reload"), on_drain=calls.append)
    assert calls == [signal.SIGINT]


# Routed


def test_hup_reloads_and_the_first_stop_drains(spawn):
    child = spawn(ROUTED + "until(lambda: len(calls) == 3); say(router.drain_signal); router.restore()")
    child.await_line("routed")
    for _ in range(2):
        child.send(signal.SIGHUP)
        assert child.line() == "reload"
    child.send(signal.SIGINT)
    assert child.end() == (0, ["drain 2", "2"], "")


def test_one_signal_is_one_call_wherever_the_main_thread_is(run):
    """The interpreter's byte and the handler's byte belong together."""
    lines = run(
        ROUTED
        + """
for turn in range(1, 51):
    kill("HUP")
    until(lambda: len(calls) == turn)
router.restore()
say(len(calls))
"""
    )
    assert lines[-1] == "50"


def test_after_a_storm_of_hups_the_last_one_still_reloads(spawn):
    child = spawn("""
router = SignalRouter()
router.install()
router.route(on_reload=lambda: say(time.monotonic()), on_drain=drain)
say("routed")
until(lambda: calls)
router.restore()
""")
    child.await_line("routed")
    child.send(*[signal.SIGHUP] * 999)
    before_the_last = time.monotonic()
    child.send(signal.SIGHUP)
    reloads = 1
    while float(child.line()) < before_the_last:
        reloads += 1
    child.send(signal.SIGTERM)
    code, lines, err = child.end()
    assert (code, lines[-1], err) == (0, "drain 15", "")
    assert reloads + len(lines) - 1 <= 1000


def test_a_burst_read_at_once_is_one_reload(run):
    lines = run("""
router, first, go = SignalRouter(), threading.Event(), threading.Event()

def slow():
    reload()
    first.set()
    go.wait(10)

router.install()
router.route(on_reload=slow, on_drain=drain)
kill("HUP")
first.wait(10)
for _ in range(100):
    kill("HUP")
go.set()
router.restore()
""")
    assert lines == ["reload", "reload"]


def test_a_full_pipe_does_not_block_handlers(run):
    lines = run("""
router, go = SignalRouter(), threading.Event()
router.install()
router.route(on_reload=lambda: go.wait(10), on_drain=drain)
for _ in range(70_000):
    signal.raise_signal(signal.SIGHUP)
go.set()
until(lambda: len(router._pipe.take(0) or b"") == 0)
kill("TERM")
router.restore()
""")
    assert lines == ["drain 15"]


def test_i7_hup_while_draining_is_ignored(run):
    lines = run(ROUTED + "kill('TERM'); until(lambda: calls); kill('HUP'); router.reload(); router.restore()")
    assert lines == ["routed", "drain 15"]


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
def test_a_repeat_within_the_window_is_the_same_signal(spawn, again):
    child = spawn(ROUTED + "time.sleep(30)")
    child.await_line("routed")
    child.send(signal.SIGSTOP, signal.SIGTERM, again, signal.SIGCONT)  # both wait, and arrive together
    assert child.line().startswith("drain")
    time.sleep(2 * signals.REPEAT_WINDOW)
    assert child.process.poll() is None
    child.send(again)
    assert child.end()[:2] == (128 + again, [])


BLOCKED = {
    "sleeping": "time.sleep(60)",
    "in a python loop": "while True: pass",
    "waiting for a lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "joining a thread": "t = threading.Thread(target=time.sleep, args=(60,)); t.start(); t.join()",
    "in a blocked event loop": """
import asyncio
async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)
    say("looping")
    time.sleep(60)
asyncio.run(main())
""",
}
BLOCKED["in a blocked uvloop event loop"] = BLOCKED["in a blocked event loop"].replace("asyncio.run", "uvloop.run")


@pytest.mark.parametrize("where", BLOCKED)
def test_a_second_signal_stops_at_once_while_main_is(spawn, where):
    if "uvloop" in where:
        pytest.importorskip("uvloop")
    child = spawn(f"import {'uvloop' if 'uvloop' in where else 'time'}\n" + ROUTED + BLOCKED[where])
    child.await_line("looping" if "event loop" in where else "routed")
    child.send(signal.SIGTERM)
    child.await_line("drain 15")
    time.sleep(1.5 * signals.REPEAT_WINDOW)
    start = time.monotonic()
    child.send(signal.SIGINT)
    code, _, err = child.end()
    assert time.monotonic() - start < PROMPT
    assert code == 130
    assert err == "hotconf: SIGINT again: stopping at once\n"


FILL_STDERR = """
os.set_blocking(2, False)
try:
    while True:
        os.write(2, bytes(1024))
except BlockingIOError:
    os.set_blocking(2, True)
"""


def test_an_unread_stderr_does_not_delay_the_second_signal(spawn):
    child = spawn(FILL_STDERR + ROUTED + "time.sleep(60)")
    child.await_line("routed")
    child.send(signal.SIGTERM)
    child.await_line("drain 15")
    time.sleep(1.5 * signals.REPEAT_WINDOW)
    child.send(signal.SIGTERM)
    assert child.process.wait(PATIENCE) == 143


@pytest.mark.parametrize("error", ["ValueError('late')", "SystemExit(3)"])
def test_a_callback_that_raises_is_shown_and_the_next_signal_works(spawn, error):
    child = spawn(f"""
def broken():
    reload()
    raise {error}
router = SignalRouter()
router.install()
router.route(on_reload=broken, on_drain=drain)
for count in (1, 2):
    kill("HUP")
    until(lambda: len(calls) == count)
router.restore()
""")
    code, lines, err = child.end()
    assert (code, lines) == (0, ["reload", "reload"])
    assert err.count("in broken") == 2


def test_an_excepthook_that_raises_changes_nothing(run):
    lines = run("""
def hook(*_):
    raise ValueError
sys.excepthook = hook
with SignalRouter() as router:
    router.route(on_reload=lambda: 1 / 0, on_drain=drain)
    kill("HUP")
    kill("TERM")
""")
    assert lines == ["drain 15"]


# From the program


def test_without_install_the_program_still_reloads_and_drains_once():
    router, calls = SignalRouter(), []
    router.route(on_reload=lambda: calls.append("reload"), on_drain=calls.append)
    router.reload()
    router.drain()
    router.drain(signal.SIGINT)
    router.reload()
    assert calls == ["reload", signal.SIGTERM]
    assert router.drain_signal == signal.SIGTERM


def test_a_drain_by_the_program_is_no_first_signal(spawn):
    child = spawn(ROUTED + "router.drain(); time.sleep(60)")
    child.await_line("drain 15")
    time.sleep(1.5 * signals.REPEAT_WINDOW)
    child.send(signal.SIGTERM)
    time.sleep(1.5 * signals.REPEAT_WINDOW)
    assert child.process.poll() is None
    child.send(signal.SIGTERM)
    assert child.end()[:2] == (143, [])


def test_many_threads_begin_one_drain():
    router, calls = SignalRouter(), []
    threads = [threading.Thread(target=router.drain) for _ in range(20)]
    for thread in threads[:10]:
        thread.start()
    router.route(on_reload=lambda: None, on_drain=calls.append)
    for thread in threads[10:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [signal.SIGTERM]


# The deadline


@pytest.mark.parametrize("where", ["sleeping", "in a python loop"])
def test_the_deadline_ends_a_blocked_process_and_shows_why(spawn, where):
    child = spawn(f"def stuck():\n    {BLOCKED[where]}\n" + ROUTED + "router.arm(time.monotonic() + 0.2, 124); stuck()")
    code, _, err = child.end()
    assert code == 124
    assert err.startswith("hotconf: the deadline has passed")
    assert "in stuck" in err


def test_the_deadline_holds_even_if_a_c_call_keeps_the_interpreter_lock(spawn):
    child = spawn(ROUTED + "router.arm(time.monotonic() + 0.1, 124); sum(range(10**12))")
    code, _, err = child.end()
    assert code == 1
    assert "<module>" in err


def test_the_deadline_holds_while_a_callback_hangs(spawn):
    child = spawn("""
with SignalRouter() as router:
    router.route(on_reload=reload, on_drain=lambda signum: time.sleep(60))
    router.arm(time.monotonic() + 0.1, 124)
    kill("TERM")
    time.sleep(60)
""")
    code, _, err = child.end()
    assert code == 1
    assert "in <lambda>" in err


# The last line fits in what is left, the stacks do not.
FILL_STDERR_NEARLY = """
import fcntl
os.write(2, bytes(fcntl.fcntl(2, fcntl.F_GETPIPE_SZ) - 80))
"""


@pytest.mark.parametrize("fill", [FILL_STDERR, FILL_STDERR_NEARLY])
def test_the_deadline_holds_with_an_unread_stderr(spawn, fill):
    child = spawn(fill + ROUTED + "router.arm(time.monotonic() + 0.1, 124); time.sleep(60)")
    assert child.process.wait(PATIENCE) == 124


def test_a_deadline_in_the_past_is_kept_at_once(spawn):
    assert spawn(ROUTED + "router.arm(0.0, 124); time.sleep(60)").end()[0] == 124


@pytest.mark.parametrize("change", ["disarm()", "arm(time.monotonic() + 60, 124)", "restore()"])
def test_a_deadline_is_taken_back_or_moved(spawn, change):
    child = spawn(f"""
import hotconf.signals
hotconf.signals._BELT_MARGIN = 0.1
{ROUTED}
router.arm(time.monotonic() + 0.3, 124)
router.{change}
time.sleep(0.6)
os._exit(0)
""")
    assert child.end() == (0, ["routed"], "")


def test_arming_without_install_changes_nothing(run):
    assert run("SignalRouter().arm(time.monotonic(), 124); time.sleep(0.1); say('alive')") == ["alive"]


def test_a_deadline_wakes_the_thread_that_waits_without_one(spawn):
    child = spawn(
        ROUTED + "sys.stdin.readline(); router.arm(time.monotonic() + 0.05, 124); time.sleep(60)", stdin=subprocess.PIPE
    )
    child.await_line("routed")
    child.process.stdin.write(b"\n")
    assert child.end()[0] == 124


# The wakeup descriptor


def test_a_signal_that_another_thread_takes_works_while_main_sleeps(run):
    """No bytecode runs in the main thread here: only the interpreter's own handler can tell us."""
    lines = run(
        ROUTED
        + """
import select

def elsewhere():
    signal.pthread_kill(threading.get_ident(), signal.SIGHUP)
    until(lambda: calls)
    os._exit(0)

threading.Timer(0.1, elsewhere).start()
select.select([], [], [], 60)
"""
    )
    assert lines == ["routed", "reload"]


LOOP = (
    ROUTED
    + """
import asyncio

async def count(wanted):
    while len(calls) < wanted:
        await asyncio.sleep(0.001)

async def main():
    if usr1:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, say, "usr1")
    say("looping")
    for turn in range(1, 6):
        kill("HUP")
        await asyncio.wait_for(count(turn), 10)
    if usr1:
        kill("USR1")
        await asyncio.sleep(0)
    kill("INT")
    await asyncio.wait_for(count(6), 10)
"""
)


@pytest.mark.parametrize("engine", ["asyncio", "uvloop"])
@pytest.mark.parametrize("usr1", [False, True])
def test_an_event_loop_that_takes_the_descriptor_changes_nothing(run, engine, usr1):
    if engine == "uvloop":
        pytest.importorskip("uvloop")
    lines = run(f"import {engine}\nusr1 = {usr1}\n{LOOP}\n{engine}.run(main())\nrouter.restore()\n")
    assert lines.count("reload") == 5
    assert lines.count("drain 2") == 1
    assert lines.count("usr1") == int(usr1)


@pytest.mark.parametrize("engine", ["asyncio", "uvloop"])
def test_in_and_out_inside_a_running_loop_leaves_the_loop_its_descriptor(run, engine):
    if engine == "uvloop":
        pytest.importorskip("uvloop")
    lines = run(f"""
import asyncio, {engine}

async def main():
    heard = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heard.set)
    with SignalRouter(["HUP"]) as router:
        router.route(on_reload=reload)
        kill("HUP")
    threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1)).start()
    await asyncio.wait_for(heard.wait(), 10)
    say("heard")

{engine}.run(main())
""")
    assert lines == ["reload", "heard"]


def test_signals_of_other_code_are_left_alone(run):
    lines = run("""
signal.signal(signal.SIGUSR1, lambda *_: say("usr1"))
signal.signal(signal.SIGTERM, lambda *_: say("term"))
with SignalRouter(["HUP"]) as router:
    router.route(on_reload=reload)
    kill("USR1")
    kill("TERM")
""")
    assert lines == ["usr1", "term"]


class Interpreter:
    """What CPython does with one signal: a trip flag, the wakeup byte, and a handler that runs when main gets to it."""

    def __init__(self, *, wakeup_is_ours):
        self.wakeup_is_ours = wakeup_is_ours
        self.tripped = False

    def signal(self):
        self.tripped = True
        return [1] if self.wakeup_is_ours else []

    def main_runs(self):
        tripped, self.tripped = self.tripped, False
        return [1 | 0x80] if tripped else []

    def descriptor_is_taken(self):
        echoes = self.main_runs()  # it takes the main thread to do so
        self.wakeup_is_ours = False
        return echoes


@given(st.booleans(), st.lists(st.sampled_from(["signal", "main_runs", "descriptor_is_taken"])))
def test_every_signal_is_answered_and_none_twice(ours, steps):
    interpreter, echoes = Interpreter(wakeup_is_ours=ours), signals._Echoes()
    sent = acted = unanswered = 0
    for step in [*steps, "main_runs"]:
        if step == "signal":
            sent, unanswered = sent + 1, unanswered + 1
        for byte in getattr(interpreter, step)():
            if echoes.is_news(byte):
                acted, unanswered = acted + 1, 0
    assert unanswered == 0
    assert acted <= sent


# Restoring


def noted(signum, frame):
    """A handler of other code."""


@pytest.mark.parametrize("name", ["HUP", "INT", "TERM"])
@pytest.mark.parametrize("found", [signal.SIG_DFL, signal.SIG_IGN, noted, signal.default_int_handler])
def test_i7_restore_puts_back_what_it_found(name, found):
    signum = getattr(signal, f"SIG{name}")
    before = signal.signal(signum, found)
    try:
        with SignalRouter():
            assert signal.getsignal(signum) is not found
        assert signal.getsignal(signum) is found
    finally:
        signal.signal(signum, before)


def test_restore_keeps_a_handler_that_was_installed_later():
    before, calls = signal.getsignal(signal.SIGHUP), []
    try:
        with SignalRouter() as router:
            router.route(on_reload=lambda: calls.append("reload"), on_drain=calls.append)
            signal.signal(signal.SIGHUP, noted)
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is noted
        assert calls == []
        router.install()
        router.restore(ignore_hup=True)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_handler_that_was_not_installed_from_python_becomes_the_default(monkeypatch):
    before = signal.getsignal(signal.SIGHUP)
    router = SignalRouter(["HUP"])
    real = signal.signal

    def tell_nothing(signum, handler):
        real(signum, handler)

    monkeypatch.setattr(signal, "signal", tell_nothing)
    try:
        router.install()
        monkeypatch.undo()
        router.restore()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        real(signal.SIGHUP, before)


def test_routers_nest():
    before = signal.getsignal(signal.SIGHUP)
    outer, inner = SignalRouter(["HUP"]), SignalRouter(["HUP"])
    outer_called, inner_called = threading.Event(), threading.Event()
    outer.route(on_reload=outer_called.set)
    inner.route(on_reload=inner_called.set)
    with outer:
        with inner:
            signal.raise_signal(signal.SIGHUP)
            assert inner_called.wait(PATIENCE)
        inner_called.clear()
        signal.raise_signal(signal.SIGHUP)
        assert outer_called.wait(PATIENCE)
    assert not inner_called.is_set()
    assert signal.getsignal(signal.SIGHUP) == before


def test_a_handler_of_ours_that_outlives_its_router_hands_the_signal_back(run):
    """Left out of order, the inner router puts back the handler of an outer one that is gone."""
    lines = run("""
signal.signal(signal.SIGHUP, lambda *_: say("found"))
outer, inner = SignalRouter(["HUP"]), SignalRouter(["HUP"])
outer.install()
inner.install()
outer.restore()
inner.restore()
outer.install()
outer.restore()
kill("HUP")
kill("HUP")
""")
    assert lines == ["found"] * 2


def test_what_came_before_restore_is_still_acted_on(run):
    assert run(ROUTED + "kill('HUP'); router.restore(); say('restored')") == ["routed", "reload", "restored"]


def test_the_context_manager_restores_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), SignalRouter():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is before


def test_nothing_leaks():
    def held():
        return len(os.listdir("/proc/self/fd")), threading.active_count(), len(signals._installed)

    before = held()
    router = SignalRouter()
    for _ in range(100):
        router.install()
        router.restore()
    assert held() == before
    assert signal.set_wakeup_fd(-1) == -1


def test_restore_does_not_wait_for_a_callback_that_hangs(run):
    lines = run("""
router = SignalRouter()
router.install()
router.route(on_reload=lambda: (say("hanging"), time.sleep(60)), on_drain=drain)
kill("HUP")
start = time.monotonic()
router.restore()
say(time.monotonic() - start < 5, signal.getsignal(signal.SIGHUP) is signal.SIG_DFL)
""")
    assert lines == ["hanging", "True True"]


def test_install_twice_is_an_error_and_restore_twice_is_not():
    router = SignalRouter()
    with router, pytest.raises(RuntimeError, match="installed already"):
        router.install()
    router.restore()


def test_off_the_main_thread_signals_are_unavailable():
    raised = []

    def elsewhere(action):
        try:
            action()
        except SignalsUnavailable as error:
            raised.append(error)

    def in_thread(action):
        thread = threading.Thread(target=elsewhere, args=(action,))
        thread.start()
        thread.join()

    descriptors = len(os.listdir("/proc/self/fd"))
    in_thread(SignalRouter().install)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    with SignalRouter() as router:
        in_thread(router.restore)
        assert signal.getsignal(signal.SIGHUP) == router._on_signal
    assert len(raised) == 2


def test_descriptors_above_1023_do(run):
    lines = run("""
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
held = [os.dup(1) for _ in range(1100)]
with SignalRouter() as router:
    router.route(on_reload=reload, on_drain=drain)
    kill("HUP")
""")
    assert lines == ["reload"]


def test_i7_an_ignored_hup_cannot_kill_a_command_that_ends(spawn):
    child = spawn(
        "import atexit\n"
        + ROUTED
        + """
class Late:
    def __del__(self):
        time.sleep(0.3)

keep = Late()
atexit.register(time.sleep, 0.3)
router.restore(ignore_hup=True)
say("ending")
"""
    )
    child.await_line("ending")
    while child.process.poll() is None:  # to the last instruction
        child.send(signal.SIGHUP)
        time.sleep(0.001)
    assert child.end() == (0, [], "")


# The terminal

TERMINAL = """
os.close(os.open(sys.argv[1], os.O_RDWR))  # a session leader without a terminal gets this one
"""


@pytest.fixture
def in_terminal(spawn):
    """Start a script with a controlling terminal; return the child and what closes the terminal."""
    opened = []

    def hang_up():
        while opened:
            os.close(opened.pop())

    def start(script):
        opened.extend(os.openpty())
        return spawn(TERMINAL + script, os.ttyname(opened[-1])), hang_up

    yield start
    hang_up()


def test_a_closed_terminal_drains(in_terminal):
    child, hang_up = in_terminal(ROUTED + "time.sleep(60)")
    child.await_line("routed")
    child.send(signal.SIGHUP)
    assert child.line() == "reload"
    hang_up()
    assert child.line() == "drain 1"


def test_a_process_that_survives_its_terminal_reloads_again(in_terminal):
    child, _ = in_terminal("""
import hotconf.signals
hotconf.signals.TERMINAL_CHECK = 0.05
routed, ready = os.pipe()
if os.fork():  # the shell: it ends, and sends no SIGHUP to its background job
    os.read(routed, 1)
    os._exit(0)
os.setpgid(0, 0)
router = SignalRouter()
router.install()
router.route(on_reload=reload, on_drain=drain)
time.sleep(0.3)
assert router._watches_terminal
os.write(ready, b".")
until(lambda: not router._watches_terminal)
say(os.getpid())
time.sleep(60)
""")
    os.kill(int(child.line()), signal.SIGHUP)
    assert child.line() == "reload"


def test_a_closed_terminal_before_ready_drains_when_ready(in_terminal):
    child, hang_up = in_terminal("""
with SignalRouter() as router:
    say("in")
    until(lambda: router.drain_signal)
    router.route(on_reload=reload, on_drain=drain)
""")
    child.await_line("in")
    hang_up()
    assert child.end() == (0, ["drain 1"], "")


def test_under_nohup_a_closed_terminal_is_a_reload(in_terminal):
    child, hang_up = in_terminal("signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + ROUTED + "time.sleep(60)")
    child.await_line("routed")
    hang_up()
    assert child.line() == "reload"
    child.send(signal.SIGHUP)
    assert child.line() == "reload"


def test_a_closed_terminal_ends_a_program_that_lent_us_only_hup(in_terminal):
    child, hang_up = in_terminal("""
router = SignalRouter(["HUP"])
router.install()
router.route(on_reload=reload)
say("routed")
time.sleep(60)
""")
    child.await_line("routed")
    child.send(signal.SIGHUP)
    assert child.line() == "reload"
    hang_up()
    assert child.end() == (-signal.SIGTERM, [], "")


def test_out_of_descriptors_is_no_closed_terminal(in_terminal):
    child, _ = in_terminal(
        ROUTED
        + """
import resource
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
try:
    while True:
        os.dup(1)
except OSError:
    say("full")
time.sleep(60)
"""
    )
    child.await_line("full")
    child.send(signal.SIGHUP)
    assert child.line() == "reload"


def test_a_daemon_without_terminal_reloads(spawn):
    child = spawn(ROUTED + "time.sleep(60)")
    child.await_line("routed")
    child.send(signal.SIGHUP)
    assert child.line() == "reload"


# Fork


@pytest.mark.parametrize("thread", [False, True])
def test_a_forked_child_is_free_of_us_and_its_signals_are_its_own(run, thread):
    lines = run(
        ROUTED
        + f"in_thread = {thread}"
        + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)

def fork():
    before = len(os.listdir("/proc/self/fd"))
    pid = os.fork()
    if pid == 0:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        say("child", signal.getsignal(signal.SIGHUP) is signal.SIG_DFL, signal.set_wakeup_fd(-1),
            before - len(os.listdir("/proc/self/fd")), len(mask))
        kill("HUP")
        time.sleep(60)
    status = os.waitpid(pid, 0)[1]
    say("child died of", os.WTERMSIG(status))

if in_thread:
    forker = threading.Thread(target=fork)
    forker.start()
    forker.join()
else:
    fork()
say("parent", len(calls), len(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
kill("HUP")
router.restore()
"""
    )
    assert lines == ["routed", "child True -1 2 0", "child died of 1", "parent 0 0", "reload"]


def test_a_child_that_is_terminated_in_its_first_moment_does_not_drain_the_parent(run):
    lines = run(
        ROUTED
        + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
deaths = []
for _ in range(50):
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    os.kill(pid, signal.SIGTERM)
    deaths.append(os.WTERMSIG(os.waitpid(pid, 0)[1]))
router.restore()
say(set(deaths), calls)
"""
    )
    assert lines == ["routed", "{15} []"]


def test_a_child_may_install_a_router_of_its_own(run):
    lines = run(
        ROUTED
        + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
pid = os.fork()
if pid == 0:
    router.install()
    kill("HUP")
    router.restore()
    os._exit(len(calls))
say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), len(calls))
router.restore()
"""
    )
    assert lines == ["routed", "reload", "1 0"]


def test_a_child_forked_while_another_thread_is_in_the_router_does_not_hang(run):
    lines = run("""
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
router, held, go = SignalRouter(), threading.Event(), threading.Event()

def hold():
    with router._lock:
        held.set()
        go.wait(10)

router.install()
threading.Thread(target=hold).start()
held.wait(10)
pid = os.fork()
if pid == 0:
    router.drain()
    os._exit(router.drain_signal)
say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
go.set()
router.restore()
""")
    assert lines == ["15"]
