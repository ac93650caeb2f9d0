"""Forked children: they keep the settings, say that they are not live, may become so. The parent notices nothing."""

import pytest

FORK = """
import warnings

from hotconf.errors import NotRunning

warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads


def fork(child):
    '''Run a function in a forked child, which ends without unwinding. Return its exit code.'''
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = child() or 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    return ended(pid)


def ended(pid):
    def done():
        found, status = os.waitpid(pid, os.WNOHANG)
        codes.extend([os.waitstatus_to_exitcode(status)] if found else [])
        return found
    codes = []
    try:
        until(done)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return codes[0]


def refused(call):
    try:
        call()
    except NotRunning:
        return True


def write(message):
    with open("app.toml.new", "w") as file:
        file.write(f'message = "{message}"')
    os.replace("app.toml.new", "app.toml")
"""

# What a child is


def test_a_child_keeps_the_settings_and_is_not_live(run):
    lines, log = run(
        FORK
        + """
conf = watching()


def child():
    with conf.pin("the first look"):
        status = conf.status
    say(conf.current.message, status.state, status.generation, *status.degraded, status.watching["kind"])
    say(refused(conf.request_reload), refused(conf.reload_blocking), refused(lambda: asyncio.run(conf.reload())))
    say(conf.explain("message"))
    with conf.pin() as snapshot:
        say(snapshot.settings is conf.current is conf.snapshot.settings, conf.leased)


with conf.running(after_fork="keep"):
    code = fork(child)
    write("two")
    until(lambda: conf.current.message == "two")  # the parent's events were not taken away
    os.kill(os.getpid(), signal.SIGHUP)
    until(lambda: any("SIGHUP" in report.triggers for report in conf.reports))
    say(code, conf.status.state, conf.status.degraded)
"""
    )
    assert lines == [
        "one stopped 1 not live in this forked process: enter running() in it none",
        "True True True",
        "message = 'one'  from app.toml:1:1",
        "True {1: 1}",
        "0 ready ()",
    ]
    assert log.count("was forked from one where the configuration is live") == 1


def test_relative_paths_mean_to_a_child_what_they_meant_at_construction(run):
    lines, _ = run(
        FORK
        + """
class Env(Settings):
    model_config = {"env_file": "extra.env"}
    message: str = "default"
    extra: str = "none"


write("one")
with open("extra.env", "w") as file:
    file.write("extra=here")
conf = HotConf(Env, files=["app.toml"], options=Options(watch=False, overlay="overlay.toml"))


def child():
    report = conf.reload_blocking(20)
    say(report.outcome, conf.current.extra, asyncio.run(conf.patch({"message": "two"})).outcome)


with conf.running():
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    say(fork(child), os.path.exists("../overlay.toml"), os.listdir("."))
"""
    )
    assert lines == ["unchanged here applied", "0 True []"]


def test_it_says_so_once_at_the_first_look(run):
    lines, log = run(
        FORK
        + """
conf = watching()
looks = [lambda: conf.current, lambda: conf.snapshot, lambda: conf.pin(), lambda: conf.status]


def child():
    say(os.getpid())
    for _ in range(3):
        look()
        conf.current.message
    assert type(conf) is HotConf
    return fork(lambda: conf.current and 0)  # its own child heard it already


with conf.running(after_fork="keep"):
    for look in looks:
        assert fork(child) == 0
    conf.current
"""
    )
    said = [line for line in log.splitlines() if "was forked" in line]
    assert [line.split()[2] for line in said] == lines


def test_children_that_do_not_look_hear_nothing(run):
    lines, log = run(
        FORK
        + """
import subprocess

conf = watching()
with conf.running():
    assert fork(lambda: None) == 0
    say(subprocess.run(["echo", "a program"], preexec_fn=lambda: None, capture_output=True, text=True))
"""
    )
    assert "stdout='a program\\n', stderr=''" in lines[0]
    assert "was forked" not in log


def test_what_was_not_live_is_what_it_was(run):
    lines, log = run(
        FORK
        + """
new, loaded, left = unwatched(), unwatched(), unwatched()
loaded.load()
with left.running():
    pass


def child():
    say([conf.status.state for conf in (new, loaded, left)], [conf.reload_blocking(20).outcome for conf in (new, left)])


fork(child)
"""
    )
    assert lines == ["['new', 'new', 'stopped'] ['applied', 'unchanged']"]
    assert "was forked" not in log


def test_load_reads_afresh_in_a_child(run):
    lines, _ = run(
        FORK
        + """
conf = unwatched()


def child():
    write("two")
    say(conf.load().outcome, conf.current.message, refused(conf.request_reload))


with conf.running(after_fork="keep"):
    fork(child)
    say(conf.current.message)
"""
    )
    assert lines == ["applied two True", "one"]


# Live again


@pytest.mark.parametrize("how", ["with", "async with"])
def test_a_child_may_become_live_and_the_two_go_their_own_ways(run, how):
    enter = {
        "with": """
    with conf.running():
        look()
""",
        "async with": """
    async def main():
        async with conf.running():
            await asyncio.to_thread(look)
    asyncio.run(main())
""",
    }[how]
    lines, log = run(
        FORK
        + """
conf = watching()


@conf.on_change
def changed(change):
    say("parent" if os.getpid() == parent else "child", "has", change.new.message)


def look():
    write("two")
    until(lambda: conf.current.message == "two")
    before = len(conf.reports)
    os.kill(os.getpid(), signal.SIGHUP)
    until(lambda: any("SIGHUP" in report.triggers for report in conf.reports))
    say("child", conf.status.state, conf.status.degraded, conf.status.watching["kind"])


def child():"""
        + enter
        + """
    say("child", conf.status.state, hangup_is(signal.SIG_DFL))


parent = os.getpid()
with conf.running():
    assert fork(child) == 0
    until(lambda: conf.current.message == "two")
    say("parent", conf.status.state, any("SIGHUP" in report.triggers for report in conf.reports))
"""
    )
    assert [line for line in lines if line.startswith("child")] == [
        "child has two",
        "child ready () events",
        "child stopped True",
    ]
    assert sorted(line for line in lines if line.startswith("parent")) == ["parent has two", "parent ready False"]
    assert "was forked" not in log  # it never stood still


def test_multiprocessing(run):
    lines, _ = run(
        FORK
        + """
import multiprocessing

conf = watching()


def child(number):
    with conf.running():
        say("ready", number)
        until(lambda: conf.current.message == "two")


with conf.running():
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=child, args=(number,)) for number in range(3)]
    for process in children:
        process.start()
    write("two")
    for process in children:
        process.join(20)
    say([process.exitcode for process in children])
"""
    )
    assert sorted(lines) == ["[0, 0, 0]", "ready 0", "ready 1", "ready 2"]


def test_a_listener_that_was_busy_gets_the_next_change(run):
    lines, _ = run(
        FORK
        + """
conf = unwatched()
at_work = threading.Event()


@conf.on_change
async def slow(change):
    say("hears", change.new.message)
    at_work.set()
    if change.new.message == "two":
        await asyncio.sleep(30)


@conf.prepare
def checks(change):
    say("asked", change.new.message)


def child():
    with conf.running(signals=()):
        at_work.clear()
        write("three")
        conf.request_reload()
        assert at_work.wait(20)


with conf.running():
    write("two")
    conf.request_reload()
    at_work.wait(20)
    say(fork(child))
    os._exit(0)  # rather than wait for the slow one
"""
    )
    assert lines == ["asked one", "asked two", "hears two", "asked two", "asked three", "hears three", "0"]


# Leaving


def test_a_child_that_leaves_the_parents_block_stops_nothing(run):
    lines, _ = run(
        FORK
        + """
conf = watching()
with conf.running():
    pid = os.fork()
    if pid:
        assert ended(pid) == 0
        write("two")
        until(lambda: conf.current.message == "two")
if pid == 0:
    say("child left", conf.status.state)
    os._exit(0)
say("parent left", conf.status.state)
"""
    )
    assert lines == ["child left stopped", "parent left stopped"]


def test_a_child_that_leaves_it_while_live_itself_stays_live(run):
    lines, _ = run(
        FORK
        + """
conf = watching()


def child():
    with conf.running(signals=()):
        outer.__exit__(None, None, None)
        say(conf.status.state, conf.reload_blocking(20).outcome)


outer = conf.running()
with outer:
    assert fork(child) == 0
"""
    )
    assert lines == ["ready unchanged"]


def test_a_child_of_a_loop_leaves_the_loops_block(run):
    lines, _ = run(
        FORK
        + """
conf = watching()


async def main():
    async with conf.running():
        pid = os.fork()
        if pid:
            assert await asyncio.to_thread(ended, pid) == 0
            write("two")
            while conf.current.message != "two":
                await asyncio.sleep(0.002)
    if not pid:
        say("child left", conf.status.state)
        os._exit(0)


asyncio.run(main())
say("parent left", conf.status.state)
"""
    )
    assert lines == ["child left stopped", "parent left stopped"]


def test_a_child_that_exits_as_programs_do_ends_without_a_word(run):
    lines, log = run(
        FORK
        + """
conf = watching()
with conf.running():
    pid = os.fork()
    if pid == 0:
        sys.exit(7)
    say(ended(pid))
"""
    )
    assert lines == ["7"]
    assert "destroyed" not in log


# Locks


@pytest.mark.parametrize("lock", ["conf._host._loading", "conf._subscribers._lock", "conf._host.engine.queue._lock"])
def test_a_lock_that_another_thread_holds_is_free_in_the_child(run, lock):
    lines, _ = run(
        FORK
        + f"""
conf = unwatched()
held, go = threading.Event(), threading.Event()


def hold():
    with {lock}:
        held.set()
        go.wait(20)


def child():
    conf.on_change(lambda change: None)
    conf.load()
    with conf.running(signals=()):
        return conf.reload_blocking(20).outcome != "unchanged"


with conf.running(signals=()):
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    say(fork(child))
    go.set()
    thread.join()
"""
    )
    assert lines == ["0"]


def test_I2_a_fork_waits_for_the_swap_of_another_thread(run):
    lines, _ = run(
        FORK
        + """
conf = unwatched()
conf.load()
held = threading.Event()


def hold():
    with conf._swap:
        held.set()
        time.sleep(0.3)  # what stands half done must be done when the child is made
        done.append(True)


def child():
    with conf.pin():
        say(conf.leased, done)


done = []
thread = threading.Thread(target=hold)
thread.start()
held.wait(20)
say(fork(child))
thread.join()
with conf.pin():
    say(conf.leased)
"""
    )
    assert lines == ["{1: 1} [True]", "0", "{1: 1}"]


def test_I1_children_of_a_storm_of_reloads_are_whole(run):
    lines, _ = run(
        FORK
        + """
logging.disable()
from hotconf.sources import Memory

memory = Memory({"message": "0"})
conf = HotConf(App, sources=[memory])
stop = threading.Event()


def storm():
    number = 0
    while not stop.is_set():
        number += 1
        memory.set({"message": str(number)})
        conf.request_reload()
        with conf.pin():
            time.sleep(0.0005)


def child():
    snapshot = conf.snapshot
    assert snapshot.settings is conf.current
    with conf.pin() as pinned:
        assert pinned is snapshot
    with conf.running(signals=()):
        return conf.reload_blocking(20).outcome == "rejected"


with conf.running():
    thread = threading.Thread(target=storm)
    thread.start()
    codes = {fork(child) for _ in range(25)}
    stop.set()
    thread.join()
    say(codes, conf.snapshot.generation > 1)
"""
    )
    assert lines == ["{0} True"]


# Live by itself


def test_a_child_goes_on_live_with_resources_of_its_own(run):
    lines, log = run(
        FORK
        + """
from contextlib import contextmanager

conf = watching()


@conf.resource("message")
@contextmanager
def pool(candidate):
    yield os.getpid(), candidate.settings.message


def child():
    assert conf.current.message == "one"
    until(lambda: conf.status.state == "ready")
    say(conf.snapshot[pool] == (os.getpid(), "one"))
    write("two")
    until(lambda: conf.current.message == "two")
    with conf.pin() as snap:
        say(snap[pool] == (os.getpid(), snap.settings.message))
    say(conf.reload_blocking(20).outcome, conf.status.degraded)
    return fork(grandchild)


def grandchild():
    write("three")
    until(lambda: conf.current.message == "three")


with conf.running():
    say(fork(child))
    until(lambda: conf.current.message == "three")
    say(conf.status.state, conf.snapshot[pool] == (os.getpid(), "three"))
"""
    )
    assert lines == ["True", "True", "unchanged ()", "0", "ready True"]
    assert "was forked" not in log


def test_a_child_starts_on_what_is_running_while_the_file_is_broken(run):
    lines, _ = run(
        FORK
        + """
conf = watching()


def child():
    say(conf.current.message)
    until(lambda: conf.status.state == "ready")
    until(lambda: conf.status.consecutive_failures > 0)
    say(conf.current.message)
    write("mended")
    until(lambda: conf.current.message == "mended")


with conf.running():
    with open("app.toml", "w") as file:
        file.write("message = ")
    until(lambda: conf.status.consecutive_failures > 0)
    say(fork(child))
"""
    )
    assert lines == ["one", "one", "0"]


def test_a_child_of_a_loop_resumes_where_that_is_asked_for(run):
    lines, _ = run(
        FORK
        + """
conf = watching()


def child():
    write("two")
    until(lambda: conf.current.message == "two")


async def main():
    async with conf.running(after_fork="resume"):
        say(await asyncio.to_thread(fork, child))


asyncio.run(main())
"""
    )
    assert lines == ["0"]


@pytest.mark.parametrize("where", ["prepare", "on_change"])
def test_a_fork_inside_a_reload_goes_on_in_both(run, where):
    lines, _ = run(
        FORK
        + f"""
conf = watching()
codes = []


@conf.{where}("message")
def forking(change):
    if change.new.message == "two" and not codes:
        codes.append(None)
        codes[0] = fork(child)


def child():
    conf.current
    write("three")
    until(lambda: conf.current.message == "three")


with conf.running():
    write("two")
    until(lambda: conf.current.message == "three")
    say(codes)
"""
    )
    assert lines == ["[0]"]


def test_multiprocessing_and_pools_go_on_live(run):
    lines, _ = run(
        FORK
        + """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

conf = watching()


def seen(message):
    until(lambda: conf.current.message == message)
    return conf.current.message


context = multiprocessing.get_context("fork")
with conf.running(), ProcessPoolExecutor(1, mp_context=context) as pool:
    say(pool.submit(seen, "one").result())
    write("two")
    say(pool.submit(seen, "two").result())
    process = context.Process(target=seen, args=("three",))
    process.start()
    write("three")
    process.join(30)
    say(process.exitcode)
"""
    )
    assert lines == ["one", "two", "0"]


# What the parent has open stays the parent's

OPEN = """
import gc
import contextlib

conf = watching()


@conf.resource("message")
@MANAGER
DEF pool(candidate):
    name = f"open.{os.getpid()}"
    open(name, "w").close()
    try:
        yield os.getpid()
    finally:
        os.unlink(name)
"""


def opened(kind):
    kinds = {
        "sync": ("contextlib.contextmanager", "def"),
        "async": ("contextlib.asynccontextmanager", "async def"),
    }
    manager, definition = kinds[kind]
    return FORK + OPEN.replace("MANAGER", manager).replace("DEF", definition)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("how", ["resume", "keep"])
@pytest.mark.parametrize("reads", [True, False])
def test_no_child_closes_what_the_parent_has_open(run, kind, how, reads):
    lines, log = run(
        opened(kind)
        + f"""
with conf.running(after_fork={how!r}):
    pid = os.fork()
    if pid == 0:
        if {reads}:
            conf.current
            if {how!r} == "resume":
                until(lambda: conf.status.state == "ready")
        gc.collect()
        sys.exit(0)  # the interpreter ends as it does for any program, and collects what it can
    say(ended(pid), os.path.exists(f"open.{{os.getpid()}}"))
say(os.path.exists(f"open.{{os.getpid()}}"))
"""
    )
    assert lines[-2:] == ["0 True", "False"]
    assert "pending" not in log
    assert "Traceback" not in log


def test_no_child_gets_an_object_of_the_parent(run):
    lines, _ = run(
        opened("sync")
        + """
from hotconf.errors import NotBuilt


def child():
    try:
        with conf.pin() as snapshot:
            assert snapshot[pool] == os.getpid()
    except NotBuilt:
        pass
    until(lambda: conf.status.state == "ready")
    say(conf.snapshot[pool] == os.getpid())


with conf.running():
    code = fork(child)
    say(code, conf.snapshot[pool] == os.getpid())
"""
    )
    assert lines == ["True", "0 True"]


def test_a_child_stops_what_its_parent_started(run):
    lines, _ = run(
        FORK
        + """
conf = watching()


def child():
    conf.current
    until(lambda: conf.status.state == "ready")
    conf.stop()
    say(conf.status.state)


conf.start()
code = fork(child)
say(code, conf.status.state)
conf.stop()
say(conf.status.state)
"""
    )
    assert lines == ["stopped", "0 ready", "stopped"]


def test_a_child_may_begin_with_changes(run):
    lines, _ = run(
        FORK
        + """
conf = watching()


def child():
    async def main():
        async for change in conf.changes("message"):
            return change.new.message

    said = []
    thread = threading.Thread(target=lambda: said.append(asyncio.run(main())), daemon=True)
    thread.start()

    def told():
        write(f"news {time.monotonic()}")
        return said

    until(told)
    say(said[0][:4])


with conf.running():
    say(fork(child))
"""
    )
    assert lines == ["news", "0"]
