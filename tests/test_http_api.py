"""docs/http-api.md, held to its word: its curl commands are run, in order, against its service."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.support import ROOT, Process, environment
from tests.test_docs import FENCE, write_named_blocks

TEXT = (ROOT / "docs/http-api.md").read_text("utf-8")
SERVICE = "import app; raise SystemExit(app.main())"

pytestmark = pytest.mark.skipif(
    shutil.which("curl") is None and "HOTCONF_REQUIRE_TOOLS" not in os.environ, reason="curl is not installed"
)


def steps():
    """Each command with the output that the document shows."""
    for block in FENCE.finditer(TEXT):
        if block[1] == "console":
            for step in re.split(r"^\$ ", block[2], flags=re.MULTILINE)[1:]:
                command, output = re.fullmatch(r"((?:[^\n]*\\\n)*[^\n]*)\n?(.*)", step, re.DOTALL).groups()
                yield re.sub(r"\s+#.*", "", command), output.strip()


def matches(shown, output):
    """Whether an output is what the document shows; … stands for anything."""
    pattern = ".*?".join(re.escape(part) for part in shown.split("…"))
    return re.fullmatch(pattern, output.replace("\r", "").strip(), re.DOTALL)


@pytest.fixture
def port(tmp_path):
    """The port on which the document's service listens."""
    write_named_blocks(TEXT, tmp_path)
    program = tmp_path / "app.py"
    assert program.read_text().count("port=8080)") == 1
    program.write_text(program.read_text().replace("port=8080)", "port=0)"))
    service = Process([sys.executable, "-c", SERVICE], cwd=tmp_path, env=environment())
    try:
        yield service.stdout.find(r"serving on http://127.0.0.1:(\d+)")[1]
        assert service.terminate() == 0
    finally:
        service.kill()


def test_curl_alone_can_do_everything(port, tmp_path):
    for command, shown in steps():
        real = command.replace("curl ", "curl -sS --max-time 20 ").replace("localhost:8080", f"127.0.0.1:{port}")
        words = ["bash", "-c", real]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30)
        assert matches(shown, done.stdout), f"{command}\n{done.stdout}{done.stderr}"


def test_the_first_word_is_about_secrets():
    heading, first, *_ = TEXT.split("\n\n")
    assert heading.startswith("# ")
    assert "ecrets are not served" in first.replace("\n", " ")
