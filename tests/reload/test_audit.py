"""The audit log: a line for every reload and request, in order, whatever happens to the file."""

import datetime as dt
import errno
import json
import logging
import os
import resource
import stat
import threading
from itertools import groupby
from typing import Annotated

import pytest
from pydantic import SecretStr

from hotconf import HotConf, Report, Section, Sensitive
from hotconf.reload.audit import AuditLog
from hotconf.sources import Memory
from hotconf.values.report import Fault, jsonable
from tests.faults import failing, recorded
from tests.heart import QUIET

NOW = dt.datetime(2026, 3, 29, 1, 30, tzinfo=dt.UTC)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
def audit(path):
    return AuditLog(path)


def report(number=1, **options):
    options = {"outcome": "applied", "triggers": ("SIGHUP",), "generation": number, "duration": 0.01, **options}
    return Report(id=number, started_at=NOW, **options)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_reload_is_a_line_with_all_that_its_report_says(audit, path):
    faults = (Fault("port", "not a number"),)
    said = report(3, outcome="rejected", triggers=("file change", "PATCH"), faults=faults, stage="validate")
    audit.reload_began(said.triggers)
    audit.reload_ended(said)
    (line,) = lines(path)
    assert {**jsonable(said), "event": "reload", "pid": os.getpid()}.items() >= {
        key: value for key, value in line.items() if key != "time"
    }.items()
    assert line["time"] == NOW.isoformat()


def test_a_request_is_a_line_that_says_who_asked_and_which_report_answers(audit, path):
    audit.asked("PATCH /config", when=NOW, peer="127.0.0.1", token="deploy", report=3)
    audit.asked("POST /reload", when=NOW, peer="unix")
    assert lines(path) == [
        {
            "time": NOW.isoformat(),
            "event": "request",
            "action": "PATCH /config",
            "peer": "127.0.0.1",
            "token": "deploy",
            "report": 3,
            "pid": os.getpid(),
        },
        {
            "time": NOW.isoformat(),
            "event": "request",
            "action": "POST /reload",
            "peer": "unix",
            "token": None,
            "report": None,
            "pid": os.getpid(),
        },
    ]


class App(Section):
    port: int = 1
    token: Annotated[str, Sensitive()] = ""
    password: SecretStr = SecretStr("")


async def test_it_observes_every_reload_and_I11_holds_no_secret(audit, path):
    memory = Memory({"token": "canary-1", "password": "canary-2"})
    conf = HotConf(App, sources=[memory], options=QUIET)
    conf.observe(audit)
    async with conf.running(signals=()):
        for values in ({"token": "canary-3", "port": 2}, {"token": ["canary-4"], "port": "canary-4"}, {"port": 2}):
            memory.set(values)
            await conf.reload(trigger="test")
    found = lines(path)
    assert [line["outcome"] for line in found] == ["applied", "applied", "rejected", "applied"]
    assert found[1]["changed"] == ["port", "token", "password"]
    assert {fault["path"] for fault in found[2]["faults"]} == {"port", "token"}
    assert "canary" not in path.read_text()


def test_only_its_owner_may_read_it(audit, path):
    before = os.umask(0)
    try:
        audit.reload_ended(report())
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_there_stays_and_lines_are_added(path):
    for number in (1, 2, 3):
        AuditLog(path).reload_ended(report(number))
    assert [line["id"] for line in lines(path)] == [1, 2, 3]


def test_it_may_be_rotated_by_renaming_and_by_truncating(audit, path):
    audit.reload_ended(report(1))
    path.rename(path.with_suffix(".1"))
    audit.reload_ended(report(2))
    path.write_bytes(b"")
    audit.reload_ended(report(3))
    assert [line["id"] for line in lines(path.with_suffix(".1"))] == [1]
    assert [line["id"] for line in lines(path)] == [3]


def test_a_line_is_one_write_at_the_end_of_the_file_whatever_is_in_it(audit, path):
    forged = report(faults=(Fault("a\nb", 'line\u2028break\n{"event": "forged"}\udcff'),))
    with recorded() as calls:
        audit.reload_ended(forged)
    assert calls == ["open", "write", "close"]
    assert path.read_bytes().count(b"\n") == 1
    assert lines(path)[0]["faults"][0]["path"] == "a\nb"


def test_threads_and_processes_do_not_mix_their_lines(path):
    def work():
        own = AuditLog(path)
        for number in range(50):
            own.reload_ended(report(number, note="x" * 5000))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = sorted(line["id"] for line in lines(path))
    assert [(number, len(list(group))) for number, group in groupby(found)] == [(number, 4) for number in range(50)]


@pytest.mark.parametrize("call", ["open", "write", "close"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_fails_stops_nothing_and_is_logged_once(audit, path, caplog, call, number):
    with caplog.at_level(logging.INFO, "hotconf"):
        with failing(call, number):
            for _ in range(5):
                audit.reload_ended(report())
        assert audit.error == f"cannot be written: {os.strerror(number)}"
        audit.reload_ended(report(2))
    assert audit.error is None
    assert lines(path)[-1]["id"] == 2
    assert [record.getMessage() for record in caplog.records] == [
        f"audit log {path} cannot be written: {os.strerror(number)}",
        f"audit log {path} can be written again",
    ]


def test_a_line_that_was_cut_off_spoils_no_other(audit, path):
    audit.reload_ended(report(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, limits[1]))
    try:
        audit.reload_ended(report(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert audit.error == "cannot be written: File too large"
    audit.reload_ended(report(3))
    first, cut, third = path.read_text().splitlines()
    assert [json.loads(first)["id"], json.loads(third)["id"]] == [1, 3]
    assert len(cut) == 20


def test_a_pipe_that_nobody_reads_blocks_nobody(audit, path):
    os.mkfifo(path)
    audit.reload_ended(report())
    assert audit.error == "cannot be written: No such device or address"


def test_a_folder_that_is_gone_stops_nothing(tmp_path):
    audit = AuditLog(tmp_path / "gone" / "audit.jsonl")
    audit.reload_ended(report())
    assert audit.error == "cannot be written: No such file or directory"
