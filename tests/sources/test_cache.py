"""The cache of a source that lives elsewhere: a start while it is out of reach, with what was applied last."""

import json
import stat

import pytest
from pydantic import SecretStr

from hotconf import HotConf, Options, Settings
from hotconf.errors import ConfigError
from hotconf.testing import FakeSource

GONE = ConnectionRefusedError(111, "gone")
QUIET = Options(watch=False)


class App(Settings):
    port: int = 1
    message: str = "none"
    password: SecretStr = SecretStr("own")


class Other(Settings):
    port: int = 1
    more: str = ""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.cache"


def remote(path, values=None, **options):
    source = FakeSource(values, name="remote", outage="keep", **options)
    source.cache = path
    if values is None:
        source.fail(GONE, times=10**6)
    return source


def test_a_start_while_the_source_is_out_of_reach_takes_what_was_applied_last(path):
    source = remote(path, {"port": 5, "password": "hunter2"})
    conf = HotConf(App, sources=[source], options=QUIET)
    conf.load()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "hunter2" not in path.read_text()
    again = HotConf(App, sources=[remote(path)], options=QUIET)
    again.load()
    assert (again.current.port, again.current.password.get_secret_value()) == (5, "own")
    status = again.status.sources[0]
    assert (status["state"], status["revision"]) == ("stale", "1")
    assert status["age"] > 0
    assert status["read_at"] is not None
    assert str(again.explain("port").origin) == "remote (cache)"
    assert again.snapshot.revisions == {"remote": "1"}


def test_what_was_rejected_is_not_kept(path):
    source = remote(path, {"port": 5})
    conf = HotConf(App, sources=[source], options=QUIET)
    with conf.running(signals=()):
        source.set({"port": "no number"})
        assert conf.reload_blocking(10).outcome == "rejected"
        assert json.loads(path.read_text())["content"]["values"] == {"port": 5}
        source.set({"port": 6})
        assert conf.reload_blocking(10).outcome == "applied"
        assert json.loads(path.read_text())["content"]["values"] == {"port": 6}


def test_what_is_too_old_is_not_taken(path):
    HotConf(App, sources=[remote(path, {"port": 5})], options=QUIET).load()
    with pytest.raises(ConfigError):
        HotConf(App, sources=[remote(path, max_stale=0.0)], options=QUIET).load()


def test_the_source_counts_as_soon_as_it_is_back(path):
    HotConf(App, sources=[remote(path, {"port": 5})], options=QUIET).load()
    source = remote(path)
    conf = HotConf(App, sources=[source], options=QUIET)
    with conf.running(signals=()):
        source.fail(GONE, times=0)
        source.set({"port": 7})
        conf.reload_blocking(10)
        assert conf.current.port == 7


def wrong_class(path):
    HotConf(Other, sources=[remote(path, {"port": 5})], options=QUIET).load()


def other_source(path):
    source = FakeSource({"port": 5}, name="elsewhere", outage="keep")
    source.cache = path
    HotConf(App, sources=[source], options=QUIET).load()


def damaged(path):
    HotConf(App, sources=[remote(path, {"port": 5})], options=QUIET).load()
    path.write_text(path.read_text().replace('"port": 5', '"port": 6'))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: None, "does not exist yet"),
        (wrong_class, "was written for other settings"),
        (other_source, "belongs to elsewhere"),
        (damaged, "is damaged"),
        (lambda path: path.write_text("{"), "is damaged"),
        (lambda path: path.mkdir(), "cannot be read"),
    ],
)
def test_a_cache_that_cannot_be_used_is_refused_by_name(path, spoil, reason):
    spoil(path)
    with pytest.raises(ConfigError) as raised:
        HotConf(App, sources=[remote(path)], options=QUIET).load()
    faults = list(map(str, raised.value.report.faults))
    assert faults[0] == "remote: cannot be read: ConnectionRefusedError: Connection refused"
    assert reason in faults[1]
    assert str(path) in faults[1]


def test_a_cache_that_cannot_be_written_is_logged_and_rejects_nothing(tmp_path, caplog):
    source = remote(tmp_path / "absent" / "app.cache", {"port": 5})
    HotConf(App, sources=[source], options=QUIET).load()
    assert "cannot be written" in caplog.text
