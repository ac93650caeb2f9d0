"""A threaded program without an event loop: workers take jobs from a queue, and their number follows the file.

    python examples/threaded_worker.py

Edit examples/threaded_worker.toml while it runs. On SIGTERM or Ctrl-C the running jobs finish.
"""

import itertools
import logging
import queue
import signal
import threading
from pathlib import Path
from typing import Annotated

from pydantic import Field

from hotconf import HotConf, Settings


class Works(Settings):
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    rate: Annotated[float, Field(gt=0, le=1000)] = 10.0
    label: str = "job"


conf = HotConf(Works, files=[Path(__file__).with_suffix(".toml")])
log = logging.getLogger("works")
jobs = queue.SimpleQueue()
end_of_work = object()
crew = []
resizing = threading.Lock()


@conf.on_change("workers")
def resize(_change=None):
    """Start workers, or end the ones that are free next. Called in hotconf's thread, and once in the main thread."""
    with resizing:
        wanted = conf.current.workers
        while len(crew) < wanted:
            crew.append(threading.Thread(target=work))
            crew[-1].start()
        while len(crew) > wanted:
            crew.pop()
            jobs.put(end_of_work)
        log.info("%d workers", wanted)


def work():
    while (job := jobs.get()) is not end_of_work:
        with conf.pin() as snapshot:  # one configuration for one job
            log.info("%s %d", snapshot.settings.label, job)


def produce(stop):
    for job in itertools.count(1):
        if stop.wait(1 / conf.current.rate):
            return
        jobs.put(job)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())
    with conf.running():  # SIGHUP reloads
        resize()
        produce(stop)
    for _ in crew:
        jobs.put(end_of_work)
