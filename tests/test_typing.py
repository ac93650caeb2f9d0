"""The public interface is typed: correct use passes mypy --strict, and wrong use does not."""

from pathlib import Path

import pytest

api = pytest.importorskip("mypy.api")

ROOT = Path(__file__).parents[1]


@pytest.mark.timeout(180)
def test_the_public_interface_is_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    output, errors, code = api.run(
        [
            "--strict",
            "--config-file=pyproject.toml",
            f"--cache-dir={tmp_path}",
            # Only what a user sees counts here; the package itself is checked by `make lint`.
            "--follow-imports=silent",
            "tests/typing_api.py",
        ]
    )
    assert code == 0, output + errors
