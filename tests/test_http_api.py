"""The curl commands of docs/http-api.md are run, in order, against the service of that document."""

import sys

import pytest

from tests.support import Process, environment
from tests.transcripts import document, matches, needs_curl, run, steps, write_named_blocks

TEXT = document("docs/http-api.md")
SERVICE = "import app; raise SystemExit(app.main())"


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


@needs_curl
def test_curl_alone_can_do_everything(port, tmp_path):
    for command, shown in steps(TEXT):
        real = command.replace("curl ", "curl -sS --max-time 20 ").replace("localhost:8080", f"127.0.0.1:{port}")
        output = run(real, tmp_path)
        assert matches(shown, output), f"{command}\n{output}"


def test_the_first_paragraph_is_about_secrets():
    heading, first, *_ = TEXT.split("\n\n")
    assert heading.startswith("# ")
    assert "ecrets are not served" in first.replace("\n", " ")
