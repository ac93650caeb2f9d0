"""Every block of the README is run as it stands: programs, transcripts, and the two commands against the Makefile."""

import os
import re
import shutil
import signal
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, TomlConfigSettingsSource

from hotconf import HotConf
from tests.support import HOTCONF, ROOT, Process, environment, wait_until
from tests.transcripts import blocks, document, matches, needs_curl, run, steps, write_named_blocks

README = document("README.md")

FIRST_SCREEN = README.partition("\n## ")[0]

RELOADING = ("sed", "echo", "kill", "git")
"""Commands after which the demo's log has another line."""


def section(heading):
    """The text below a heading, up to the next one."""
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)[1]


def normal(log):
    """A log without times, dates and ports, and without the lines of periodic jobs."""
    lines = [line for line in log.splitlines() if " job " not in line]
    return [re.sub(r"^[\d-]+ [\d:,]+ |(?<=127.0.0.1:)\d+|\d+\.\d+ (?=m?s\b)", "", line) for line in lines]


class Shell:
    """The second terminal, in a folder with the demo's sample."""

    def __init__(self, folder, port, pid):
        self._folder, self._port, self._pid = folder, port, pid

    def _real(self, command):
        command = command.replace("curl ", "curl -sS ").replace("localhost:8080", f"127.0.0.1:{self._port}")
        command = command.replace("$(pgrep -f 'hotconf demo')", str(self._pid))
        sample = ROOT / "sample_configs/demo.toml"
        return command.replace("git checkout sample_configs/demo.toml", f"cp {sample} sample_configs/demo.toml")

    def run(self, command):
        return run(self._real(command), self._folder)

    def start(self, command):
        return Process(["bash", "-c", self._real(command.removesuffix(" &"))], cwd=self._folder)


def test_the_first_program_runs_and_a_bad_edit_says_what_is_shown(tmp_path):
    write_named_blocks(FIRST_SCREEN, tmp_path)
    (start, started), (edit, refused), *_ = steps(FIRST_SCREEN)
    program = Process(
        ["bash", "-c", start.replace("python pool.py &", "exec " + sys.executable + " pool.py")], cwd=tmp_path
    )
    try:
        program.stdout.find(f"^{started}$")
        run(edit, tmp_path)
        program.stderr.find(re.escape(re.sub(r" \[.*", "", refused)))
        assert program.alive
    finally:
        program.kill()


@needs_curl
def test_the_transcript_is_true(tmp_path):
    (tmp_path / "sample_configs").mkdir()
    shutil.copy(ROOT / "sample_configs/demo.toml", tmp_path / "sample_configs")
    demo = Process([*HOTCONF, "demo", "--port", "0"], cwd=tmp_path, env=environment())
    try:
        port = demo.stdout.find(r"http://\S+:(\d+) with")[1]
        play(demo, Shell(tmp_path, port, demo.pid))
        assert demo.end() == 0
    finally:
        demo.kill()
    assert normal(demo.stderr.text) == normal(blocks(section("The demo"), "text")[0])


def play(demo, shell):
    """Play the transcript. Its last request is in flight when the demo gets SIGINT."""
    reloads = 1
    for command, output in steps(section("The demo")):
        if command.endswith("&"):
            finish(demo, shell.start(command), output)
        elif command.startswith(RELOADING):
            reloads += 1
            shell.run(command)
            demo.stderr.find(rf"reload {reloads} \(")
        else:
            assert matches(output, shell.run(command)), command


def finish(demo, client, output):
    wait_until(lambda: in_flight(demo.pid), what="a request in flight")
    demo.send(signal.SIGINT)
    assert client.end() == 0
    assert matches(output, client.stdout.text)


def in_flight(pid):
    """Whether a process has an open connection."""
    links = (os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir())
    inodes = {link[8:-1] for link in links if link.startswith("socket:")}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[3] == "01" and row[9] in inodes for row in rows)


def test_the_library_example_runs(tmp_path):
    write_named_blocks(README, tmp_path)
    (init, _), (_start, shown), *edits = steps(section("In your service"))
    run(init, tmp_path)
    service = Process([sys.executable, "app.py"], cwd=tmp_path, env=environment())
    try:
        service.stdout.find(re.escape(shown))
        [goes_on] = blocks(section("In your service"), "text")
        for (command, _), line in zip(edits, goes_on.splitlines(), strict=True):
            run(command, tmp_path)
            stream = service.stderr if line.startswith("reload") else service.stdout
            stream.find(re.escape(re.sub(r" \[.*", "", line)))
    finally:
        service.kill()


def test_the_command_does_what_is_shown(tmp_path):
    write_named_blocks(README, tmp_path)
    run(next(steps(section("In your service")))[0], tmp_path)
    for command, shown in steps(section("From the shell")):
        output = run(command, tmp_path)
        assert matches(shown, output), f"{command}\n{output}"


class Database(BaseModel):
    pool_size: int = 1


class App(BaseModel):
    message: str = "default"
    other: str = "default"
    database: Database = Database()


class FromFile(App, BaseSettings):
    model_config = {"toml_file": "app.toml"}

    @classmethod
    def settings_customise_sources(cls, settings_cls, **_sources):
        return (TomlConfigSettingsSource(settings_cls),)


class InPlace:
    """pydantic-settings, read again as its documentation says."""

    def __init__(self):
        self.settings = FromFile()

    def reload(self):
        try:
            self.settings.__init__()
        except (ValidationError, tomllib.TOMLDecodeError) as error:
            return str(error)


class Ours:
    def __init__(self):
        self._conf = HotConf(App, files=["app.toml"])
        self._conf.load()

    @property
    def settings(self):
        return self._conf.current

    def reload(self):
        return str(self._conf.reload_blocking())


@pytest.mark.parametrize(("kind", "is_ours"), [(Ours, True), (InPlace, False)])
def test_the_comparison_is_true(kind, is_ours, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = Path("app.toml")
    good = 'message = "A"\nother = "A"\n[database]\npool_size = 4\n'
    file.write_text(good)
    reader = kind()

    held = reader.settings
    first_half = held.message
    file.write_text(good.replace('"A"', '"B"'))
    reader.reload()
    assert (first_half + held.other == "AA") is is_ours
    assert reader.settings.other == "B"

    database = reader.settings.database
    reader.reload()
    assert (reader.settings.database is database) is is_ours

    file.write_text(good.replace("4", '"x"'))
    said = reader.reload()
    assert reader.settings.database.pool_size == 4
    assert "database.pool_size" in said
    assert ("app.toml:4:1" in said) is is_ours

    for spoil in (lambda: file.write_text(""), file.unlink):
        spoil()
        reader.reload()
        assert (reader.settings.message == "B") is is_ours


def test_the_two_commands_are_in_the_first_screen_and_do_what_the_makefile_does():
    lines = [line for line in FIRST_SCREEN.splitlines() if line.startswith("$ make ")]
    assert [line.split()[2] for line in lines] == ["demo", "test"]
    assert FIRST_SCREEN[: FIRST_SCREEN.index(lines[-1])].count("\n") < 40
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    constraints = re.search(r"^CONSTRAINTS \?= (\S+)$", makefile, re.MULTILINE)[1]
    recipes = re.findall(r"^\t@?(?:exec )?(.*)$", makefile, re.MULTILINE)
    installed = [f"pip install -c {constraints} -e {place}" for place in (".", "'.[dev]'")]
    assert [recipe.split()[-1].strip('"') for recipe in recipes if recipe.startswith("$(INSTALL)")][:2] == [
        ".",
        ".[dev]",
    ]
    for line, install in zip(lines, installed, strict=True):
        commands = line.partition("# or: ")[2].replace(".venv/bin/", "").split(" && ")
        assert install in commands
        for command in commands[commands.index(install) + 1 :]:
            real = command.replace("pytest", "python -m pytest").replace("'", '"')
            assert any(recipe.startswith(f"$(BIN)/{real}") for recipe in recipes), f"no target runs {command}"


def test_every_target_and_extra_that_is_named_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"there is no `make {target}`"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in re.findall(r"'\.\[(\w+)\]'|hotconf\[(\w+)\]", README):
        assert set(extra) - {""} <= set(project["optional-dependencies"])


@pytest.mark.parametrize(
    "document", ["README.md", *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
)
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", text):
        path = (ROOT / document).parent / target if target else ROOT / document
        assert path.exists(), f"{document} links to {target}"
        if anchor:
            assert anchor in anchors(path), f"{document} links to {target}#{anchor}"
    for path in re.findall(r"`((?:examples|tests|hotconf|docs|sample_configs)/[\w./]+\.\w+)`", text):
        assert (ROOT / path).exists(), f"{document} names {path}"


def anchors(path):
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
