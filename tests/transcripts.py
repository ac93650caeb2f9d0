"""Transcripts in documents: each command of a ```console block is run, and must print what the document shows."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.support import ROOT, environment

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"^# (\S+\.\w+)\n")
STEP = re.compile(r"((?:[^\n]*\\\n)*[^\n]*)\n?(.*)", re.DOTALL)

SHIM = f'#!/bin/sh\nexec "{sys.executable}" -m hotconf "$@"\n'
"""The command of this checkout, whatever is installed."""

needs_curl = pytest.mark.skipif(
    shutil.which("curl") is None and "HOTCONF_REQUIRE_TOOLS" not in os.environ, reason="curl is not installed"
)


def document(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text, language):
    return [block[2] for block in FENCE.finditer(text) if block[1] == language]


def steps(text):
    """Each command of a text's console blocks, without its comment, and the output that is shown."""
    for block in blocks(text, "console"):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, output = STEP.fullmatch(step).groups()
            yield re.sub(r"\s+# .*", "", command), output.strip()


def write_named_blocks(text, folder):
    """Write the blocks that begin with a comment that is a file's name."""
    for block in FENCE.finditer(text):
        if name := NAMED.match(block[2]):
            path = folder / name[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(block[2], encoding="utf-8")


def matches(shown, output):
    """Whether an output is what a document shows; … stands for anything."""
    pattern = ".*?".join(re.escape(part) for part in shown.split("…"))
    return re.fullmatch(pattern, output.replace("\r", "").strip(), re.DOTALL) is not None


def run(command, folder):
    """Run a command in a shell and return its stdout. Its stderr goes to the stderr of the tests."""
    shim = folder / "bin/hotconf"
    if not shim.exists():
        shim.parent.mkdir()
        shim.write_text(SHIM)
        shim.chmod(0o755)
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(PATH=f"{shim.parent}:{os.environ['PATH']}"),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=30,
    ).stdout
