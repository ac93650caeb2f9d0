"""Any arguments give an exit code from the list, a message, and never a traceback."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from hotconf.cli.main import VERBS
from hotconf.process.service import Service
from tests.cli.verbs import GOOD

WORDS = st.sampled_from(
    [
        *("app:App", "app:conf", "app:function", "app:", ":", "nowhere:App", "app.toml", "missing.toml", "folder", "."),
        *("binary.toml", "fifo.toml", "dangling.toml", "a" * 300 + ".toml", "ünï.toml", "\udcff.toml"),
        *(
            "http://127.0.0.1:1",
            "unix:no.sock",
            "http://[",
            "1",
            "-1",
            "99999999999999999999",
            "a=b",
            "=",
            "a..b",
            "",
            " ",
        ),
        *(
            "--config",
            "--secret",
            "--key",
            "--format",
            "json",
            "toml",
            "--origins",
            "--output",
            "folder/x",
            "--exit-code",
        ),
        *("--against", "--token-file", "--dry-run", "--force", "--unset", "--confirm", "1s", "--port", "0", "--host"),
        *(
            "--overlay",
            "--last-good",
            "--unix-socket",
            "--heartbeat",
            "nan",
            "--max-watchers",
            "--pid-file",
            "--",
            "-x",
        ),
    ]
)
GARBAGE = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8
)  # no argument can hold a NUL


@pytest.fixture
def mess(folder, monkeypatch):
    """A folder with odd things in the place of files, and services that end as soon as they would run."""
    (folder / "app.toml").write_text(GOOD)
    (folder / "binary.toml").write_bytes(bytes(range(256)))
    (folder / "folder").mkdir()
    (folder / "dangling.toml").symlink_to("nothing")
    os.mkfifo(folder / "fifo.toml")
    monkeypatch.setattr(Service, "run", lambda self: 0)
    return folder


@given(verb_name=st.sampled_from(sorted(VERBS)), words=st.lists(WORDS | GARBAGE, max_size=5))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_arguments_lead_to_a_traceback(mess, verb, verb_name, words):
    result = verb(verb_name, *words)
    assert result.code in (0, 1, 2)
    assert "Traceback" not in result.err
    assert result.code == 0 or result.err or result.out
    assert "canary" not in result.out + result.err
