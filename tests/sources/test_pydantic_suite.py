"""The suite of pydantic-settings itself, with every construction in it done by HotConf as well.

The suite is not kept here: it comes from the source distribution of the very version that is installed.
"""

import json
import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

KNOWN = {
    "test_cli_app_run_alias_path_default_factory": "its default factory counts its calls, so it differs from itself",
    "test_settings_cached_loads_unrelated_classes_concurrently": "two threads meet in it, and the shadow comes alone",
    "test_settings_cached_is_thread_safe": "it counts constructions",
}
"""Tests of which a construction may differ, and why that is no difference of HotConf."""


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """The folder of the suite, unpacked."""
    folder = tmp_path_factory.mktemp("suite")
    wanted = f"pydantic-settings=={version('pydantic-settings')}"
    fetch = ["download", "--quiet", "--no-deps", "--no-binary", ":all:", wanted, "--dest", str(folder)]
    fetched = subprocess.run([sys.executable, "-m", "pip", *fetch], capture_output=True, text=True, check=False)
    archives = list(folder.glob("*.tar.gz"))
    if not archives:
        pytest.skip(f"the source distribution cannot be fetched: {fetched.stderr[-200:]}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    (unpacked / "pydantic_settings").rename(unpacked / "not_the_one_that_is_installed")
    return unpacked


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_whatever_the_suite_constructs_hotconf_loads_alike(suite, tmp_path):
    out = tmp_path / "out.jsonl"
    quiet = ["-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:xdist", "--continue-on-collection-errors"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.sources.shadow", *quiet],
        cwd=suite,
        env={**os.environ, "SHADOW_OUT": str(out), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    differing = [line for line in lines if line["differs"] and not any(name in line["test"] for name in KNOWN)]
    assert len(lines) > 1300, ran.stdout[-2000:]
    assert differing == []
