"""From a class to a running service and back, as one script in a shell: nothing but the command."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

import pytest

from tests.support import PATIENCE, Process, environment

SCRIPT = """
set -eu
hotconf() { "$PYTHON" -m hotconf "$@"; }
until_says() { until grep -q "$2" "$1"; do sleep 0.02; done; }

hotconf init app:App database.pool_size --output app.toml
hotconf check app:conf

hotconf serve app:conf --unix-socket s --overlay overlay.toml --pid-file pid > serve.log 2>&1 &
until_says serve.log 'hotconf serve: '
"$PYTHON" -m hotconf watch unix:s message > watch.log &  # not the function: a signal would reach its shell
watching=$!
until_says watch.log 'generation 1  message = "hello"'

hotconf set unix:s message=soon --confirm 0.3        # not confirmed
until_says watch.log 'generation 2  message = "soon"'
until_says watch.log 'generation 3  message = "hello"'
test ! -e overlay.toml

hotconf set unix:s message=stays --confirm 60s
hotconf confirm unix:s
until_says watch.log 'generation 4  message = "stays"'
grep -q 'message = "stays"' overlay.toml

sed -i 's/pool_size = 10/pool_size = 1000/' app.toml  # refused, foretold and by the reload itself
! hotconf check --against unix:s > foretold
grep -q 'app.toml:.*: database.pool_size: ' foretold
! hotconf reload unix:s > done
grep -q 'app.toml:.*: database.pool_size: ' done
sed -i 's/pool_size = 1000/pool_size = 10/' app.toml
hotconf reload unix:s

hotconf rollback unix:s 1
until_says watch.log 'generation 5  message = "hello"'
hotconf history unix:s > history
hotconf diff unix:s 4 5 > between

kill -INT "$watching"
status=0; wait "$watching" || status=$?
test "$status" = 130
kill "$(cat pid)"
wait
"""


@pytest.fixture
def shell(folder):
    process = Process(
        ["bash", "-c", SCRIPT], cwd=folder, env=environment(PYTHON=sys.executable), start_new_session=True
    )
    yield process
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # and whatever it has started
    process.kill()


@pytest.mark.timeout(180)
def test_the_whole_way(shell, folder):
    assert shell.end(timeout=8 * PATIENCE) == 0, shell.stderr.text + shell.stdout.text
    assert len((folder / "watch.log").read_text().splitlines()) == 5
    assert (folder / "between").read_text() == 'message: "stays" -> "hello"\n'
    assert (folder / "history").read_text().splitlines()[-1].startswith("*    5  ")
    assert "canary" not in shell.stdout.text + (folder / "serve.log").read_text()
    assert (folder / "serve.log").read_text().splitlines()[-1].count("drain: closing took")
