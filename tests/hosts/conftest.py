"""What the tests with real servers share: the processes of `tests/foreign`, and a client that must never fail."""

import contextlib
import threading
import time

import pytest

from tests.foreign.conftest import launch as launch  # noqa: PLC0414 - a fixture of this folder too
from tests.support import request, wait_until


class Clients:
    """A client that sends one request after the other. A failure is an answer other than 200, or no answer.

    `resets` counts apart the connections that the server accepted and closed without an answer: some servers do so
    with what comes in while a worker leaves, whatever the application does.
    """

    def __init__(self, port):
        self._port = port
        self._busy = threading.Lock()
        self._over = threading.Event()
        self.seen = {}
        self.failures = []
        self.resets = 0

    def __enter__(self):
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._over.set()
        self._thread.join()

    def _run(self):
        while not self._over.is_set():
            with self._busy:
                try:
                    reply = request(self._port)
                except ConnectionResetError:
                    self.resets += 1
                except OSError as error:
                    self.failures.append(repr(error))
                else:
                    if reply.status != 200:
                        self.failures.append(f"{reply.status} {reply.text}")
                    pid, _, message = reply.text.partition(" ")
                    self.seen.setdefault(message, set()).add(int(pid))
            time.sleep(0.01)

    @contextlib.contextmanager
    def between_requests(self):
        """While no request is in flight: what kills a worker here kills none of its requests."""
        with self._busy:
            yield

    def wait_for(self, message, workers):
        """Wait until workers, other than those named, have answered with a message. Return their pids."""
        condition = lambda: len(self.seen.get(message, set()) - workers) >= 2
        wait_until(condition, what=f"two new workers with {message!r}")
        return self.seen[message] - workers


@pytest.fixture
def clients():
    return Clients


@pytest.fixture
def break_and_mend(clients):
    """Break the file, recycle the workers, mend it: no request fails, every worker ends on the mended values."""

    def break_and_mend(server, recycle, *, may_reset=False, said="started from the last known good"):
        with clients(server.port) as users:
            old = users.wait_for("one", set())
            users.failures.clear()  # uvicorn names its address before its first worker listens
            server.config.write_text("message = [", encoding="utf-8")
            recycle(old, users)
            users.wait_for("one", old)
            server.stderr.find(said)
            server.write("two")
            users.seen.pop("two", None)
            users.wait_for("two", old)
            wait_until(lambda: old.isdisjoint(still_answering(users, server)), what="the old workers to leave")
        assert users.failures == []
        assert may_reset or not users.resets

    def still_answering(users, server):
        users.seen.clear()
        wait_until(lambda: sum(map(len, users.seen.values())) >= 2, what="two answers")
        assert set(users.seen) == {"two"}
        return users.seen["two"]

    return break_and_mend
