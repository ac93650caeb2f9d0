"""Every Python block of README and docs runs, those of one document in order and in one program."""

import re
import subprocess
import sys

import pytest

from tests.support import ROOT, environment

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"^# (\S+\.\w+)\n")
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


def write_named_blocks(text, folder):
    """Write the blocks that begin with a comment that is a file's name."""
    for block in FENCE.finditer(text):
        if name := NAMED.match(block[2]):
            (folder / name[1]).write_text(block[2], encoding="utf-8")


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
