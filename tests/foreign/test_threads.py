"""In programs of threads: with and without a loop, in the main thread and in others, one configuration and two."""

import pytest

# The main thread

THREADED = """
conf = unwatched()


@conf.on_change
def changed(change):
    say("has", change.new.message)


def work():
    while conf.current.message != "stop":
        time.sleep(0.001)


before = signal.getsignal(signal.SIGHUP)
with conf.running():
    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    say("ready")
    for worker in workers:
        worker.join()  # without a time limit: a signal must be heard here too
say("restored", hangup_is(before))
"""


def test_I7_a_threaded_program_reloads_on_hangup(launch):
    program = launch("program.py", scripts={"program.py": THREADED})
    program.stdout.find("^ready$")
    program.write("two")
    program.hang_up()
    program.stdout.find("^has two$")
    program.write("stop")
    for _ in range(20):
        program.hang_up()
    assert program.end() == 0
    assert "restored True" in program.stdout.text


@pytest.mark.parametrize("ignored", [True, False])
def test_I7_what_hangup_meant_before_it_means_again(run, ignored):
    lines, _ = run(f"""
if {ignored}:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
before = signal.getsignal(signal.SIGHUP)
conf = unwatched()
with conf.running():
    os.kill(os.getpid(), signal.SIGHUP)
    until(lambda: len(conf.reports) == 2)
async def main():
    async with conf.running():
        os.kill(os.getpid(), signal.SIGHUP)
        while len(conf.reports) < 4:
            await asyncio.sleep(0.002)
asyncio.run(main())
say(hangup_is(before), signal.set_wakeup_fd(-1), [*map(str, threading.enumerate())] == [str(threading.main_thread())])
""")
    assert lines == ["True -1 True"]


def test_I7_a_start_that_fails_puts_the_handler_back_too(run):
    lines, _ = run("""
from hotconf import ConfigError

os.unlink("app.toml")
conf = unwatched()
try:
    with conf.running():
        say("entered")
except ConfigError as error:
    say(error)
say(hangup_is(signal.SIG_DFL), conf.status.state)
""")
    assert lines == ["configuration refused: 1 fault", "  app.toml: does not exist", "True stopped"]


# Other threads


def in_a_thread(body):
    """A script whose thread runs `body`, an indented block."""
    return f"""
from hotconf.errors import SignalsUnavailable

signal.signal(signal.SIGHUP, lambda *_: say("the program's own handler"))
conf = watching()


def work():
{body}

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.parametrize("how", ["with", "async with"])
def test_off_the_main_thread_it_says_that_no_hangup_is_routed_and_works_otherwise(run, how):
    live = f"""
        {how} conf.running():
            os.kill(os.getpid(), signal.SIGHUP)
            with open("app.toml.new", "w") as file:
                file.write('message = "two"')
            os.replace("app.toml.new", "app.toml")
            until(lambda: len(conf.reports) > 1)
            say(conf.current.message, conf.reports[-1].triggers, conf.reload_blocking(20).outcome)
"""
    if how == "async with":
        live = live.replace("until(lambda: ", "while not (").replace(" > 1)", " > 1): await asyncio.sleep(0.002)")
        live = "\n    async def main():" + live.replace("conf.reload_blocking(20)", "(await conf.reload())")
        live += "\n    asyncio.run(main())"
    else:
        live = "\n    if True:" + live
    lines, log = run(in_a_thread(live))
    assert sorted(lines) == ["the program's own handler", "two ('file',) unchanged"]
    assert log.count("SIGHUP is not routed") == 1


def test_sighup_off_the_main_thread_is_refused(run):
    lines, _ = run(
        in_a_thread("""
    try:
        with conf.running(signals=("HUP",)):
            say("entered")
    except SignalsUnavailable as error:
        say(error)
""")
    )
    assert len(lines) == 1
    assert "main thread" in lines[0]


def test_a_loop_in_another_thread_is_left_by_stopping_what_runs_in_it(run):
    lines, log = run("""
conf = unwatched()
loop = asyncio.new_event_loop()
thread = threading.Thread(target=loop.run_forever)
thread.start()
live = conf.running(signals=())
asyncio.run_coroutine_threadsafe(live.__aenter__(), loop).result(20)
with open("app.toml", "w") as file:
    file.write('message = "two"')
say(conf.reload_blocking(20).outcome, conf.current.message)
asyncio.run_coroutine_threadsafe(live.__aexit__(None, None, None), loop).result(20)
loop.call_soon_threadsafe(loop.stop)
thread.join()
loop.close()
say(conf.status.state)
""")
    assert lines == ["applied two", "stopped"]
    assert "SIGHUP is not routed" not in log  # it was not requested


# Two configurations in one process

TWO = """
first, second = unwatched("app.toml"), unwatched("other.toml")
with open("other.toml", "w") as file:
    file.write('message = "other"')


def hangups(conf):
    return sum("SIGHUP" in report.triggers for report in conf.reports)


def hang_up():
    os.kill(os.getpid(), signal.SIGHUP)
"""


def test_of_two_that_are_live_both_hear_a_hangup_and_the_last_one_gives_it_back(run):
    lines, _ = run(
        TWO
        + """
with first.running():
    with second.running():
        hang_up()
        until(lambda: hangups(second) == hangups(first) == 1)
        say(hangups(first), hangups(second))
    hang_up()
    until(lambda: hangups(first) == 2)
    say(hangups(first), hangups(second))
say(hangup_is(signal.SIG_DFL))
"""
    )
    assert lines == ["1 1", "2 1", "True"]


def test_I7_the_outer_one_may_end_first(run):
    lines, _ = run(
        TWO
        + """
outer, inner = first.running(), second.running()
outer.__enter__()
inner.__enter__()
outer.__exit__(None, None, None)
hang_up()
until(lambda: hangups(second) == 1)
inner.__exit__(None, None, None)
say(hangups(first), hangups(second), first.status.state, second.status.state)
"""
    )
    assert lines == ["0 1 stopped stopped"]


def test_one_router_serves_two(run):
    lines, _ = run(
        TWO
        + """
from hotconf import SignalRouter


def reload_both():
    for conf in (first, second):
        conf.request_reload("SIGHUP")


with SignalRouter(("HUP",)) as router, first.running(signals=()), second.running(signals=()):
    router.route(on_reload=reload_both)
    hang_up()
    until(lambda: hangups(first) == hangups(second) == 1)
say(hangup_is(signal.SIG_DFL))
"""
    )
    assert lines == ["True"]


# A loop of another make


def test_uvloop(run):
    lines, _ = run("""
import uvloop

conf = unwatched()
usr1 = asyncio.Event()


async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, usr1.set)
    async with conf.running():
        with open("app.toml", "w") as file:
            file.write('message = "two"')
        os.kill(os.getpid(), signal.SIGHUP)
        while conf.current.message != "two":
            await asyncio.sleep(0.002)
        os.kill(os.getpid(), signal.SIGUSR1)  # the loop keeps its own signals
        await asyncio.wait_for(usr1.wait(), 20)
    os.kill(os.getpid(), signal.SIGUSR1)
    usr1.clear()
    await asyncio.wait_for(usr1.wait(), 20)
    say(conf.current.message, hangup_is(signal.SIG_DFL))


uvloop.run(main())
""")
    assert lines == ["two True"]
