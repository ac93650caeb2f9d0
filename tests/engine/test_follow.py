"""Sources that live elsewhere: they hang, fail, lie and come back, and hold up nothing. I13, I14, I16."""

import asyncio
import contextlib
import time

import pytest

from hotconf import Fault, HotConf, Options
from hotconf.abc import Checkable, Connected
from hotconf.errors import SourceError, SourceUnreachable
from hotconf.sources.patience import Backoff, within
from hotconf.testing import FakeSource
from tests.engine.test_engine import until
from tests.heart import App

FAST = Options(watch=False, read_timeout=0.2)
GONE = ConnectionResetError("gone")


def conf_of(*sources, options=FAST):
    return HotConf(App, sources=sources, options=options)


def status_of(conf, index=0):
    return conf.status.sources[index]


class Deaf(FakeSource):
    """A source whose read goes on although it is cancelled."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.is_deaf = False

    async def read(self):
        while self.is_deaf:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)
        return await super().read()


@pytest.mark.parametrize("outage", ["keep", "reject"])
async def test_I13_a_read_that_hangs_ends_in_time(outage):
    source = FakeSource({"port": 1}, outage=outage)
    conf = conf_of(source)
    async with conf.running(signals=()):
        source.hang()
        async with asyncio.timeout(10):
            report = await conf.reload()
        assert report.outcome == ("rejected" if outage == "reject" else "unchanged")
        assert status_of(conf)["state"] == ("failed" if outage == "reject" else "stale")
        assert status_of(conf)["error"] == "fake: cannot be read: no response within 0.2 s"
        source.release()
        source.set({"port": 2})
        assert (await conf.reload()).outcome == "applied"


async def test_I13_a_read_that_ignores_its_end_holds_up_nothing():
    deaf, other = Deaf({"port": 1}, outage="keep"), FakeSource({"message": "a"}, name="other")
    conf = conf_of(deaf, other)
    async with asyncio.timeout(10), conf.running(signals=()):
        deaf.is_deaf = True
        other.set({"message": "b"})
        assert (await conf.reload()).outcome == "applied"
        assert conf.current.message == "b"
    assert not any(reading.done() for reading in asyncio.all_tasks())
    deaf.is_deaf = False


async def test_stop_waits_for_no_source_that_hangs():
    source = FakeSource({"port": 1})
    conf = conf_of(source, options=Options(watch=False, read_timeout=60))
    async with conf.running(signals=()):
        source.hang()
        source.hint()
        await until(lambda: source.reads == 2)
        began = time.monotonic()
    assert time.monotonic() - began < 1.5


async def test_I16_an_outage_rejects_no_other_source_and_is_visible_with_its_age():
    remote, local = FakeSource({"port": 1}, name="remote", outage="keep"), FakeSource({"message": "a"}, name="local")
    conf = conf_of(remote, local)
    async with conf.running(signals=()):
        assert status_of(conf)["age"] == 0.0
        remote.fail(GONE, times=10**6)
        local.set({"message": "b"})
        assert (await conf.reload()).outcome == "applied"
        assert (conf.current.port, conf.current.message) == (1, "b")
        status = status_of(conf)
        assert (status["state"], status["failures"]) == ("stale", 1)
        assert status["age"] > 0
        assert conf.status.degraded == ("source remote is stale",)
        remote.fail(GONE, times=0)
        await conf.reload()
        status = status_of(conf)
        assert (status["state"], status["failures"], status["age"]) == ("fresh", 0, 0.0)


async def test_I16_what_is_kept_may_become_too_old():
    source = FakeSource({"port": 1}, outage="keep", max_stale=0.05)
    conf = conf_of(source)
    async with conf.running(signals=()):
        source.fail(GONE, times=10**6)
        await until(lambda: status_of(conf)["state"] != "fresh" or asyncio.create_task(conf.reload()))
        while (await conf.reload()).outcome != "rejected":
            await asyncio.sleep(0.01)
        assert status_of(conf)["state"] == "failed"


async def test_what_was_never_read_cannot_be_kept():
    source = FakeSource({"port": 1}, outage="keep")
    source.fail(GONE)
    assert (await conf_of(source).reload()).outcome == "rejected"


async def test_an_outage_in_the_sources_own_words_is_kept_and_what_is_malformed_is_not():
    source = FakeSource({"port": 1}, outage="keep")
    conf = conf_of(source)
    async with conf.running(signals=()):
        source.fail(SourceUnreachable([Fault("", "forbidden (403)")]))
        assert (await conf.reload()).outcome == "unchanged"
        assert status_of(conf)["error"] == "forbidden (403)"
        source.fail(SourceError([Fault("", "malformed")], "17"))
        report = await conf.reload()
        assert report.outcome == "rejected"
        assert report.revisions["fake"] == "17", "it says which revision it tried"
        assert conf.snapshot.revisions["fake"] == "1"


async def test_I14_what_changes_while_no_watch_is_set_is_read():
    source = FakeSource({"port": 1}, outage="keep")
    conf = conf_of(source)
    async with conf.running(signals=()):
        await asyncio.sleep(0)
        source.lose(GONE)
        source.set({"port": 2})  # and no hint
        await until(lambda: conf.current.port == 2)
        assert conf.reports[-1].triggers == ("fake",)
        assert status_of(conf)["state"] == "fresh"


async def test_a_lost_watch_is_an_outage_at_once_and_local_edits_do_not_wait_for_it():
    remote, local = FakeSource({"port": 1}, name="remote", outage="keep"), FakeSource({"message": "a"}, name="local")
    conf = conf_of(remote, local, options=Options(watch=False, read_timeout=60))
    async with conf.running(signals=()):
        await until(lambda: status_of(conf)["following"])
        remote.hang()
        remote.fail(GONE, times=10**6)
        remote.lose(GONE)
        await until(lambda: status_of(conf)["state"] == "stale")
        assert status_of(conf)["following"] == "remote: cannot be read: ConnectionResetError"
        local.set({"message": "b"})
        local.hint()
        await until(lambda: conf.current.message == "b")


async def test_a_watch_that_fails_for_another_reason_is_no_outage(caplog):
    source = FakeSource({"port": 1})
    conf = conf_of(source)
    async with conf.running(signals=()):
        await asyncio.sleep(0)
        source.lose(ValueError("odd"))
        await until(lambda: "stopped reporting" in caplog.text)
        assert status_of(conf)["state"] == "fresh"


async def test_values_that_belong_together_are_read_when_the_source_is_quiet():
    source = FakeSource({"port": 1, "message": "one"}, quiet=0.1)
    conf = conf_of(source)
    seen = []
    conf.on_change(lambda change: seen.append((change.new.port, change.new.message)))
    async with conf.running(signals=()):
        await asyncio.sleep(0)
        source.set({"port": 2, "message": "one"})
        source.hint()
        await asyncio.sleep(0.02)
        source.set({"port": 2, "message": "two"})
        source.hint()
        await until(lambda: conf.current.message == "two")
    assert seen == [(2, "two")]


async def test_a_source_that_is_never_quiet_is_read_after_max_wait():
    source = FakeSource({"port": 1}, quiet=0.2)
    conf = conf_of(source, options=Options(watch=False, max_wait=0.3))
    async with conf.running(signals=()):
        await asyncio.sleep(0)
        source.set({"port": 2})
        async with asyncio.timeout(10):
            while conf.current.port != 2:
                source.hint()
                await asyncio.sleep(0.02)


class Watched(FakeSource):
    """A source with a connection, and with a check beside its watch."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.open = 0
        self.checks = 0
        self.missed = False
        self.unreachable = False

    @contextlib.asynccontextmanager
    async def connect(self):
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    async def outdated(self):
        self.checks += 1
        if self.unreachable:
            raise GONE
        missed, self.missed = self.missed, False
        return missed


async def test_a_connection_lives_as_long_as_the_engine():
    source = Watched({"port": 1})
    conf = conf_of(source)
    conf.load()
    assert source.open == 0
    async with conf.running(signals=()):
        assert source.open == 1
        assert isinstance(source, Connected)
    assert source.open == 0


async def test_a_watch_that_is_dead_is_found_by_the_check(monkeypatch, caplog):
    monkeypatch.setattr("hotconf.engine.follow.CHECK", 0.05)
    monkeypatch.setattr("hotconf.engine.follow.SETTLED", 0.01)
    source = Watched({"port": 1}, outage="keep")
    assert isinstance(source, Checkable)
    conf = conf_of(source)
    async with conf.running(signals=()):
        source.set({"port": 2})
        await until(lambda: source.checks > 1)
        assert conf.current.port == 1
        source.missed = True
        await until(lambda: conf.current.port == 2)
        assert "did not tell of a change" in caplog.text
        source.unreachable = True
        await until(lambda: status_of(conf)["state"] == "stale")
        reads = source.reads
        await until(lambda: status_of(conf)["failures"] > 2)
        assert source.reads == reads, "no reload waits for a source that is known to be out of reach"
        source.unreachable = False
        await until(lambda: status_of(conf)["state"] == "fresh")
        assert source.reads == reads, "what is still what was read needs no reload"


async def test_revisions_are_in_report_snapshot_and_status(tmp_path):
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    for path in (first, second):
        path.write_text("port = 1\n")
    conf = HotConf(App, files=[first, second], options=FAST)
    conf.load()
    revisions = conf.snapshot.revisions
    assert revisions[str(first)] == revisions[str(second)], "it is of the content alone"
    assert conf.reports[-1].revisions == revisions == conf.status.revisions
    second.write_text("port = 1 # still\n")
    report = await conf.reload()
    assert report.outcome == "unchanged"
    assert report.revisions[str(second)] != revisions[str(second)]
    assert conf.status.revisions == report.revisions
    assert status_of(conf, 1)["revision"] == report.revisions[str(second)]


async def test_a_document_that_may_be_nothing_but_secrets_has_no_revision(tmp_path):
    (tmp_path / ".env").write_text("PORT=1\n")
    conf = HotConf(App, files=[tmp_path / ".env"], options=FAST)
    conf.load()
    assert not conf.snapshot.revisions


def test_I17_pauses_are_random_below_a_bound_that_doubles():
    samples = [[backoff.pause() for _ in range(10)] for backoff in (Backoff() for _ in range(200))]
    for step, bound in enumerate((0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30)):
        pauses = [sample[step] for sample in samples]
        assert max(pauses) <= bound
        assert min(pauses) < bound / 4 < bound * 3 / 4 < max(pauses)
    backoff = Backoff()
    for _ in range(10):
        backoff.pause()
    backoff.reset()
    assert backoff.pause() <= 0.2


async def test_an_attempt_may_raise_anything():
    async def leave():
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        await within(None, leave())


async def test_a_source_that_only_reads_found_out_of_reach_is_looked_after(monkeypatch):
    monkeypatch.setattr("hotconf.engine.follow.LOOK", 0.02)
    source = Watched({"port": 1}, outage="keep")
    conf = conf_of(source)
    async with conf.running(signals=()):
        await until(lambda: status_of(conf)["following"])
        source.fail(GONE)
        source.set({"port": 2})
        assert (await conf.reload()).outcome == "unchanged"
        source.missed = True
        await until(lambda: conf.current.port == 2)
        assert status_of(conf)["state"] == "fresh"
