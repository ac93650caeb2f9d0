"""Under Celery's prefork pool: the main process and its children are live, and outlive a broken file."""

import datetime as dt
import pickle
import re
import sys
from pathlib import Path

import pytest

from hotconf import HotConf, Options, Section
from hotconf.integrations.celery import Every, task_snapshot
from hotconf.sources import Memory
from tests.support import replace, wait_until

TASKS = """
from celery import Celery
from hotconf.integrations.celery import Every, setup, task_snapshot

app = Celery("tasks", broker="filesystem://", backend="file://" + os.path.abspath("results"))
app.conf.broker_transport_options = {
    "data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control", "polling_interval": 0.05,
}
conf = HotConf(App, files=["app.toml"], options=Options(last_good=True))
setup(app, conf)


@app.task
def message():
    return f"{os.getpid()} {conf.current.message}"


@app.task
def slow(path):
    open(path, "w").close()
    until(lambda: conf.current.message == "two")
    return f"{task_snapshot().settings.message} {sorted(conf.leased)}"


app.conf.beat_schedule = {"often": {"task": "tasks.message", "schedule": Every(conf, "interval")}}
app.conf.beat_max_loop_interval = 0.1
"""

CLIENT = """
from tasks import message

while True:
    say(message.delay().get(timeout=20, interval=0.02))
"""


@pytest.fixture
def celery(launch, tmp_path):
    """Start a worker with two children, and a client that has it run one task after the other."""
    for folder in ("queue", "control", "results"):
        (tmp_path / folder).mkdir()

    def celery(*options, tasks=TASKS, client=CLIENT):
        program = str(Path(sys.executable).with_name("celery"))  # with `-m celery` it cannot start itself anew
        words = (program, "-A", "tasks", "worker", "--concurrency", "2", "--loglevel", "INFO", *options)
        scripts = {"tasks.py": tasks, "client.py": client}
        worker = launch(*words, scripts=scripts, STATE_DIRECTORY=str(tmp_path / "state"))
        worker.stderr.find("ready")
        return worker, launch("client.py")

    return celery


def ran(client, message, *, after=0, by_other_than=()):
    """Wait until two children have run tasks with a message, which no task before has seen. Return their pids."""
    pids = set()
    while len(pids) < 2:
        found = client.stdout.find(rf"^(\d+) {message}$", start=after)
        after = found.end()
        pids |= {found[1]} - set(by_other_than)
    return pids


def break_and_mend(worker, client, recycle):
    old = ran(client, "one")
    worker.config.write_text("message = [", encoding="utf-8")
    recycle()
    ran(client, "one", after=len(client.stdout.text), by_other_than=old)
    worker.write("two")
    ran(client, "two", by_other_than=old)
    # Every child ends on the mended values: from the last task with the old ones on, all have the new ones.
    ran(client, "two", after=client.stdout.text.rindex("one"))
    assert client.alive, client.stderr.text  # a task that fails ends it
    client.kill()
    assert worker.terminate() == 0


@pytest.mark.soak
def test_a_hangup_to_the_main_process_starts_it_anew(celery):
    worker, client = celery()
    break_and_mend(worker, client, worker.hang_up)
    worker.stderr.find("Traceback|started from the last known good")
    assert "Traceback" not in worker.stderr.text


@pytest.mark.soak
def test_children_that_end_after_some_tasks(celery):
    worker, client = celery("--max-tasks-per-child", "4")
    break_and_mend(worker, client, lambda: None)
    assert "last known good" not in worker.stderr.text  # the main process has never lost its settings


@pytest.mark.soak
def test_a_start_without_last_good_says_so_once(celery):
    worker, client = celery(tasks=TASKS.replace("last_good=True", ""))
    ran(client, "one")
    client.kill()
    assert worker.terminate() == 0
    assert len(re.findall("a worker of Celery that starts while a source is broken", worker.stderr.text)) == 1


@pytest.mark.soak
def test_a_task_keeps_its_snapshot(celery, tmp_path):
    client = f"""
from tasks import slow
say(slow.delay({str(tmp_path / "begun")!r}).get(timeout=20, interval=0.02))
"""
    worker, client = celery(client=client)
    wait_until((tmp_path / "begun").exists, what="the task")
    worker.write("two")
    client.stdout.find(r"^one \[1\]$")
    assert worker.terminate() == 0


@pytest.mark.soak
def test_an_interval_of_beat_is_a_setting(celery, launch):
    tasks = TASKS.replace(
        "conf = HotConf(App,", "class App(App):\n    interval: float = 3600.0\n\n\nconf = HotConf(App,"
    )
    worker, client = celery(tasks=tasks, client="")
    assert client.end() == 0
    beat = launch("-m", "celery", "-A", "tasks", "beat", "--loglevel", "INFO")
    beat.stderr.find("beat: Starting")
    assert "Sending due task" not in beat.stderr.text
    replace(beat.config, "interval = 0.2")
    for _ in range(3):
        beat.stderr.find("Sending due task often", start=len(beat.stderr.text))
    assert beat.terminate() == 0
    assert worker.terminate() == 0


class Report(Section):
    every: dt.timedelta = dt.timedelta(hours=1)


class Jobs(Section):
    report: Report = Report()


def test_an_interval_is_read_when_it_is_asked_for_and_outlives_the_file_of_beat():
    memory = Memory({})
    conf = HotConf(Jobs, sources=[memory], options=Options(watch=False))
    interval = Every(conf, "report.every")  # before anything is loaded
    assert (interval.run_every, interval.seconds) == (dt.timedelta(hours=1), 3600)
    stored = pickle.loads(pickle.dumps(interval))
    memory.set({"report": {"every": 30}})
    conf.load()
    assert interval.run_every == stored.run_every == dt.timedelta(seconds=30)


def test_outside_of_a_task_there_is_no_snapshot():
    with pytest.raises(KeyError, match="within a task"):
        task_snapshot()
