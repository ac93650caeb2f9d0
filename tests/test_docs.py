"""Every Python block of README and docs runs, those of one document in order and in one program."""

import subprocess
import sys

import pytest

from tests.support import HOTCONF, ROOT, Process, environment
from tests.transcripts import FENCE, document, matches, run, steps, write_named_blocks

COMMAND = document("docs/command.md")

DOCUMENTS = [
    path
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if "```python" in path.read_text("utf-8")
]


def program(text):
    """The Python blocks, each on the lines that it has in the document, so that a traceback names them."""
    script, end = "", 0
    for block in FENCE.finditer(text):
        if block[1] == "python":
            script += "\n" * text.count("\n", end, block.start(2)) + block[2]
            end = block.end(2)
    return script


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_blocks_of_a_document_run(document, tmp_path):
    text = document.read_text(encoding="utf-8")
    write_named_blocks(text, tmp_path)
    script = tmp_path / f"{document.stem}_md.py"
    script.write_text(program(text), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr


def test_the_library_has_blocks_and_a_block_that_fails_is_found_by_its_line():
    assert {path.name for path in DOCUMENTS} >= {"README.md", "library.md"}
    text = "one\n\n```toml\n# a.toml\n```\n\n```python\nx = 1\n```\nnine\n```python\n1 / 0\n```\n"
    assert program(text).splitlines().index("1 / 0") == text.splitlines().index("1 / 0")


@pytest.fixture
def port(tmp_path):
    """A running process, as docs/command.md starts it."""
    write_named_blocks(COMMAND, tmp_path)
    words = ["serve", "app:conf", "--overlay", "overlay.toml", "--port", "0"]
    serve = Process([*HOTCONF, *words], cwd=tmp_path)
    try:
        yield serve.stdout.find(r"^hotconf serve: http://127.0.0.1:(\d+) with")[1]
        assert serve.terminate() == 0
    finally:
        serve.kill()


def test_the_transcripts_of_the_command_are_true(port, tmp_path):
    played = 0
    for command, shown in steps(COMMAND):
        output = run(command.replace("localhost:8080", f"localhost:{port}"), tmp_path)
        assert matches(shown, output.replace(f"localhost:{port}", "localhost:8080")), f"{command}\n{output}"
        played += 1
    assert played > 5


def test_a_transcript_that_is_not_true_is_found():
    text = "```console\n$ echo one   # a comment\none\n$ echo two; \\\n  echo three\ntwo\n…\n```\n"
    assert list(steps(text)) == [("echo one", "one"), ("echo two; \\\n  echo three", "two\n…")]
    assert matches("two\n…", "two\nthree\n")
    assert not matches("two\n…", "one\nthree\n")
