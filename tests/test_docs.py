"""Every Python block of docs/ runs, those of one document in one program. The README has test_readme."""

import subprocess
import sys

import pytest

from tests.support import HOTCONF, ROOT, Process, environment
from tests.transcripts import FENCE, matches, run, steps, write_named_blocks

DOCUMENTS = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "```python" in path.read_text("utf-8")]


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
    assert {path.name for path in DOCUMENTS} >= {"library.md", "operating.md"}
    text = "one\n\n```toml\n# a.toml\n```\n\n```python\nx = 1\n```\nnine\n```python\n1 / 0\n```\n"
    assert program(text).splitlines().index("1 / 0") == text.splitlines().index("1 / 0")


def test_the_transcripts_of_the_command_are_true(tmp_path):
    text = (ROOT / "docs/command.md").read_text(encoding="utf-8")
    write_named_blocks(text, tmp_path)
    played = list(steps(text))
    assert len(played) > 5
    words = text.partition("```text\nhotconf ")[2].partition("\n")[0].split()
    process = Process([*HOTCONF, *words, "--no-watch"], cwd=tmp_path)
    try:
        process.stdout.find("hotconf serve: ")
        for command, shown in played:
            output = run(command, tmp_path)
            assert matches(shown, output), f"{command}\n{output}"
    finally:
        process.terminate()


def test_a_wrong_transcript_is_found():
    text = "```console\n$ echo one   # a comment\none\n$ echo two; \\\n  echo three\ntwo\n…\n```\n"
    assert list(steps(text)) == [("echo one", "one"), ("echo two; \\\n  echo three", "two\n…")]
    assert matches("two\n…", "two\nthree\n")
    assert not matches("two\n…", "one\nthree\n")
