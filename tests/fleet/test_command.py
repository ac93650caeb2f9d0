"""`hotconf fleet`: every verb, on a SQLite file, with a fleet that runs in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import re
import threading

import click
import pytest
from click.testing import CliRunner

from hotconf.cli.main import command
from hotconf.fleet.stores.sqlite import SqliteStore
from tests.fleet.live import Live
from tests.support import HOTCONF, PATIENCE, ROOT, Process, request

APP = """
from typing import Annotated
from pydantic import Field
from hotconf import Settings

class App(Settings):
    message: str = "hello"
    pool: Annotated[int, Field(ge=1)] = 1
    needed: str
    token: str = ""
"""


class Fleet:
    """A folder with a store and documents, and the command in it."""

    def __init__(self, folder):
        self.folder = folder
        self.url = f"sqlite:{folder}/fleet.db"
        self.environment = {"HOTCONF_STORE": self.url, "HOTCONF_FLEET": "shop"}
        self.documents = 0

    def __call__(self, *words, code=0, env=None):
        """Run a verb, and return its output."""
        environment = self.environment if env is None else env
        found = CliRunner().invoke(command, ["fleet", *map(str, words)], env=environment, standalone_mode=False)
        if isinstance(found.exception, click.ClickException):
            errors = io.StringIO()
            with contextlib.redirect_stderr(errors):
                found.exception.show()
            assert found.exception.exit_code == code, errors.getvalue()
            return errors.getvalue()
        if found.exception is not None:
            raise found.exception
        assert (found.return_value or 0) == code, found.output
        return found.output

    def status(self):
        return json.loads(self("status", "--format", "json"))

    def document(self, text):
        self.documents += 1
        path = self.folder / f"release-{self.documents}.toml"
        path.write_text(text)
        return path

    @contextlib.contextmanager
    def live(self, *names, judge=True):
        """Run instances and a judge in a thread of their own."""
        started, ended = threading.Event(), threading.Event()

        async def run():
            async with Live(SqliteStore(self.folder / "fleet.db"), judge=judge) as fleet:
                await fleet.join(*names)
                await fleet.wait(fleet.control.reports)
                if judge:
                    await fleet.wait(fleet.control.judge)
                started.set()
                await asyncio.to_thread(ended.wait)

        thread = threading.Thread(target=asyncio.run, args=(run(),))
        thread.start()
        try:
            assert started.wait(PATIENCE)
            yield
        finally:
            ended.set()
            thread.join(PATIENCE)


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "shop_app.py").write_text(APP)
    return Fleet(tmp_path)


def test_the_first_release_of_an_empty_fleet_is_stable_at_once(fleet):
    out = fleet("propose", fleet.document('message = "one"\n'), "-m", "the first", "--by", "ann")
    assert "stable at once" in out
    assert "no judge leads this fleet" in out
    status = fleet.status()
    assert (status["state"], status["stable_release"], status["judge"]) == ("idle", 1, "")
    assert status["stable"] == hashlib.sha256(b'message = "one"\n').hexdigest()
    assert "release 1" in fleet("status")
    assert "one machine" not in fleet("status")
    assert "on this machine" in fleet("status")
    assert fleet("show", 1) == 'message = "one"\n'


def test_a_good_release_and_a_bad_one(fleet):
    fleet("propose", fleet.document('message = "one"\n'))
    with fleet.live(*[f"web-{n}" for n in range(4)]):
        stages = ("--stages", "25%:0.1s,100%:0")
        out = fleet("propose", fleet.document('message = "two"\n'), *stages, "--wait")
        assert "done" in out
        out = fleet("propose", fleet.document("message = 5\n"), *stages, "--wait", code=1)
        assert "reverted: " in out
        assert "fleet:shop/3:1:1: message" in out
        status = fleet.status()
        assert (status["state"], status["stable_release"], status["target_release"]) == ("reverted", 2, 3)
        lines = fleet("instances").splitlines()
        assert len(lines) == 4
        assert all("applied" in line for line in lines)
        assert json.loads(fleet("instances", "--state", "silent", "--format", "json")) == []
        assert "release 3" in fleet("status")
        lines = fleet(
            "propose", fleet.document('message = "four"\n'), *stages, "--wait", "--format", "json"
        ).splitlines()
        assert json.loads(lines[-1])["state"] == "done"
        assert json.loads(lines[-1])["final"]["cohort"] == 4
    assert "-message = 5" in fleet("diff", 3, 2)
    history = fleet("history")
    assert "*    4" in history
    assert "revert" in history
    found = json.loads(fleet("history", "--format", "json"))
    assert [release["release"] for release in found["releases"]] == [1, 2, 3, 4]


def test_operators_act_on_a_rollout_without_a_judge(fleet):
    fleet("propose", fleet.document('message = "one"\n'))
    with fleet.live("web-1", "web-2", judge=False):
        fleet("propose", fleet.document('message = "two"\n'), "--approve-by", 1, "--no-rehearse", "--by", "ann")
        assert fleet.status()["state"] == "approval"
        assert "another operator" in fleet("approve", "--by", "ann", code=1)
        assert "approve" in fleet("approve", "--by", "bob", "-m", "looks right")
        assert "paused" in fleet("pause", "--message", "lunch")
        assert "nothing to pause" in fleet("pause", code=1)
        assert "approval" in fleet("resume")
        assert "while it spreads" in fleet("promote", "--skip-stage", code=1)
        assert "abort it first" in fleet("propose", fleet.document("x = 1\n"), code=1)
        assert "aborted" in fleet("abort")
        assert "aborted" in fleet("abort")
        assert "to release 2" in fleet("rollback", 2)
        assert "to release 1" in fleet("rollback", "--format", "text")
        assert "there is no release 9" in fleet("rollback", 9, code=1)
        assert json.loads(fleet("rollback", 2, "--format", "json"))["stable"]["release"] == 2


@pytest.mark.parametrize(
    ("text", "words", "says"),
    [
        ("", (), "empty"),
        ("a = \n", (), "release-1.toml:1:"),
        ('password = "hunter2"\n', (), "release-1.toml:1:1: password: is a secret"),
        ('url = "postgres://u:hunter2@db/x"\n', (), "is a secret"),
        ('needed = "x"\npool = 0\n', ("--target", "shop_app:App"), "release-1.toml:2:1: pool"),
        ('needed = "x"\ntoken = "hunter2"\n', ("--target", "shop_app:App"), "token: is a secret"),
        ("x = '" + "x" * (1 << 20) + "'\n", (), "at most 1048576"),
    ],
)
def test_I27_what_is_no_release_is_declined(fleet, text, words, says):
    out = fleet("propose", fleet.document(text), *words, code=1)
    assert says in out
    assert "hunter2" not in out
    assert fleet.status()["stable"] is None


def test_what_other_sources_have_may_be_missing(fleet):
    fleet("propose", fleet.document("pool = 3\n"), "--target", "shop_app:App", "--rehearse")


@pytest.mark.parametrize(
    "words",
    [
        ("--stages", "5%"),
        ("--stages", "x,100%"),
        ("--stages", "0%,100%"),
        ("--guard", "9x"),
        ("--max-refused", "-1"),
        ("--approve-by", "21"),
        ("--store", "ftp://x"),
    ],
)
def test_unusable_arguments_are_usage_errors(fleet, words):
    fleet("propose", fleet.document("x = 1\n"), *words, code=2)


def test_a_document_has_a_format(fleet):
    (fleet.folder / "a.txt").write_text("x = 1\n")
    fleet("propose", "a.txt", code=2)
    (fleet.folder / "a.env").write_text("x=1\n")
    fleet("propose", "a.env", code=2)


def test_without_store_and_name_a_verb_asks_for_them(fleet):
    assert "--store" in fleet("status", code=2, env={"HOTCONF_STORE": None, "HOTCONF_FLEET": None})


def test_an_export_goes_into_another_store(fleet):
    fleet("propose", fleet.document('message = "one"\n'), "-m", "first")
    exported = fleet("export")
    fleet("export", "--output", "fleet.json")
    assert json.loads((fleet.folder / "fleet.json").read_text()) == json.loads(exported)
    other = ("--store", f"sqlite:{fleet.folder}/other.db")
    fleet("import", "fleet.json", *other)
    assert fleet("show", 1, *other) == 'message = "one"\n'
    assert json.loads(fleet("export", *other)) == json.loads(exported)
    assert "already" in fleet("import", "fleet.json", *other, code=1)
    content = json.loads(exported)
    content["documents"] = dict.fromkeys(content["documents"], "AAAA")
    (fleet.folder / "forged.json").write_text(json.dumps(content))
    third = ("--store", f"sqlite:{fleet.folder}/third.db")
    assert "damaged" in fleet("import", "forged.json", *third, code=1)
    (fleet.folder / "none.json").write_text("{}")
    assert "no export" in fleet("import", "none.json", *third, code=1)


def test_a_judge_leads_until_it_is_told_to_end(fleet):
    words = ("fleet", "judge", "--store", fleet.url, "--fleet", "shop", "--lease", "2", "--silent-after", "3")
    first = Process([*HOTCONF, *words])
    try:
        first.stderr.find("leading in term 1")
        token = fleet.folder / "token"
        token.write_text("s3cret-token-of-the-page")
        second = Process([*HOTCONF, *words, "--host", "127.0.0.1", "--port", "0", "--token-file", str(token)])
        page = int(second.stdout.find(r"hotconf fleet: http://127.0.0.1:(\d+)")[1])
        assert request(page, "/fleet").status == 401
        assert first.terminate() == 0
        second.stderr.find("leading in term 2")
        assert second.terminate() == 0
    finally:
        first.kill()
        second.kill()


def test_a_large_fleet_reads_well():
    from hotconf.cli.fleet_text import status_lines
    from hotconf.fleet.control import status_of
    from tests.fleet.cases import Fleet as Cases, proposed

    cases, plan = Cases(10_000), proposed()
    plan = cases.judge(plan)
    cases.apply(900)
    for index in range(900, 1000):
        cases.refuse(index)
    status = status_of(plan, cases.reports) | {"judge": "judge a:1"}
    assert (status["applied_count"], status["refused_count"], len(status["refused"])) == (9900, 100, 100)
    lines = ["".join(getattr(part, "text", part) for part in line) for line in status_lines("shop", "etcd://x", status)]
    assert len(lines) < 20
    assert max(map(len, lines)) < 200
    assert any("and 95 more" in line for line in lines)


def test_the_demo_shows_what_the_readme_says(tmp_path):
    process = Process([*HOTCONF, "fleet", "demo", "--once"], cwd=tmp_path)
    try:
        assert process.end(timeout=60) == 0, process.stdout.text
    finally:
        process.kill()
    assert process.stderr.text == ""
    shown = re.search(r"\$ hotconf fleet demo\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]

    def plain(text):
        """The lines without what differs from run to run. A stage may be over before it is seen."""
        text = re.sub(r"sqlite:\S+|\d+\.?\d* times|p = [\d.]+", "", text)
        return [line for line in text.splitlines() if line and not re.match(" +(rehearsing|spreading|baking)", line)]

    assert plain(process.stdout.text) == plain(shown)
    for stage in ("baking 10%", "baking 50%", "baking 100%"):
        assert stage in process.stdout.text


def test_the_demo_stays_up_for_the_command(fleet):
    process = Process([*HOTCONF, "fleet", "demo", "--instances", "10", "--port", "0"])
    try:
        url = process.stdout.find(r"a judge, (sqlite:\S+)")[1]
        where = ("--store", url, "--fleet", "demo")
        page = int(process.stdout.find(r"hotconf fleet: http://127.0.0.1:(\d+)")[1])
        process.stdout.find("rehearsing")
        assert request(page, "/fleet").json["instances"] == 10
        assert "<title>hotconf fleet</title>" in request(page).text
        assert json.loads(fleet("status", "--format", "json", *where))["instances"] == 10
        assert process.terminate() == 0
    finally:
        process.kill()
