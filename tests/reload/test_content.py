"""Files that settings name: their content counts, is watched, and is protected like that of any source."""

import asyncio
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import pytest

from hotconf import ConfigError, Content, HotConf, Options, Section, Settings
from hotconf.errors import OperationRefused
from hotconf.testing import FakeSource
from tests.heart import until


class Tls(Section):
    certificate: Annotated[Path, Content()] | None = None
    port: int = 443


class App(Settings):
    model_config = {"env_prefix": "CONTENT_"}
    tls: Tls = Tls()
    lists: dict[str, Annotated[Path, Content()]] = {}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "server.pem"
    path.write_text("one")
    return path


def conf_of(file, *, watch=False, **more):
    source = FakeSource({"tls": {"certificate": str(file)}, **more})
    return HotConf(App, sources=[source], options=Options(watch=watch)), source


def replace(file, text):
    file.with_suffix(".new").write_text(text)
    os.replace(file.with_suffix(".new"), file)


async def test_new_content_is_a_change_of_the_setting_and_of_nothing_else(file):
    conf, _ = conf_of(file)
    built, heard = [], []

    @conf.resource("tls")
    @contextmanager
    def context(candidate):
        built.append(candidate.settings.tls.certificate.read_text())
        yield built[-1]

    conf.on_change("tls.certificate")(lambda change: heard.append(change.paths))
    async with conf.running(signals=()):
        digest = conf.snapshot.digest
        assert (await conf.reload()).outcome == "unchanged"
        replace(file, "two")
        report = await conf.reload()
        assert (report.outcome, report.changed) == ("applied", ("tls.certificate",))
        assert (conf.snapshot[context], conf.snapshot.generation) == ("two", 2)
        assert conf.snapshot.digest != digest
        file.touch()
        assert (await conf.reload()).outcome == "unchanged"
        replace(file, "one")
        await conf.reload()
        assert conf.snapshot.digest == digest
        await until(lambda: len(heard) == 2)
    assert built == ["one", "two", "one"]


async def test_it_is_watched_also_where_it_is_the_only_file(file):
    conf, _ = conf_of(file, watch=True)
    async with conf.running(signals=()):
        replace(file, "two")
        await until(lambda: conf.snapshot.generation == 2)
        replace(file, "three")
        await until(lambda: conf.snapshot.generation == 3)


async def test_it_works_below_mappings_and_follows_the_setting_to_another_file(file, tmp_path):
    words = tmp_path / "words"
    words.write_text("a")
    conf, source = conf_of(file, watch=True, lists={"words": str(words)})
    async with conf.running(signals=()):
        replace(words, "b")
        await until(lambda: conf.snapshot.generation == 2)
        assert conf.reports[-1].changed == ("lists.words",)
        other = tmp_path / "other"
        other.write_text("c")
        source.set({"lists": {"words": str(other)}})
        await conf.reload()
        assert conf.snapshot.generation == 3
        replace(other, "d")
        await until(lambda: conf.snapshot.generation == 4)


async def test_a_file_that_is_missing_at_the_load_is_named(file):
    file.unlink()
    conf, _ = conf_of(file)
    with pytest.raises(ConfigError, match=rf"tls\.certificate: the file {file} does not exist"):
        await asyncio.to_thread(conf.load)


@pytest.mark.parametrize("spoil", [lambda file: file.unlink(), lambda file: file.write_text("")])
async def test_I5_one_that_vanishes_or_is_emptied_is_rejected(file, spoil):
    conf, _ = conf_of(file)
    async with conf.running(signals=()):
        spoil(file)
        report = await conf.reload()
        assert (report.outcome, conf.snapshot.generation) == ("rejected", 1)
        assert str(file) in str(report.faults[0])
        assert report.faults[0].path == "tls.certificate"
        replace(file, "two")
        assert (await conf.reload()).outcome == "applied"


async def test_an_empty_one_may_be_forced(file):
    conf, _ = conf_of(file)
    async with conf.running(signals=()):
        file.write_text("")
        assert (await conf.reload(force=True)).changed == ("tls.certificate",)


async def test_I5_a_half_is_not_taken_and_the_whole_comes_by_itself(file):
    conf, _ = conf_of(file, watch=True)
    async with conf.running(signals=()):
        with file.open("w") as writer:
            writer.write("ha")
            writer.flush()
            await until(lambda: conf.status.consecutive_failures)
            assert conf.snapshot.generation == 1
            writer.write("lf")
        await until(lambda: conf.snapshot.generation == 2)


async def test_a_rejected_reload_keeps_watching_what_is_in_force(file):
    conf, source = conf_of(file, watch=True)
    async with conf.running(signals=()):
        source.set({"tls": {"certificate": str(file.with_name("missing"))}})
        assert (await conf.reload()).outcome == "rejected"
        replace(file, "two")
        source.set({"tls": {"certificate": str(file)}})
        assert (await conf.reload()).changed == ("tls.certificate",)


async def test_an_override_reads_what_it_names(file):
    conf, _ = conf_of(file)
    other = file.with_name("other.pem")
    other.write_text("other")
    async with conf.running(signals=()):
        with conf.override(tls={"port": 1}):
            assert conf.current.tls.port == 1
        with pytest.raises(OperationRefused, match="use `async with`"):
            with conf.override(tls={"certificate": other}):
                pytest.fail("entered")
        async with conf.override(tls={"certificate": other}):
            replace(other, "newer")
            assert (await conf.reload()).changed == ("tls.certificate",)
        assert conf.current.tls.certificate == file


async def test_a_relative_path_stays_the_same_file_when_the_program_changes_its_working_directory(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    (file.parent / "below").mkdir()
    conf, _ = conf_of(file.name)
    async with conf.running(signals=()):
        digest = conf.snapshot.digest
        monkeypatch.chdir(file.parent / "below")
        assert (await conf.reload()).outcome == "unchanged"
        replace(file, "two")
        assert (await conf.reload()).changed == ("tls.certificate",)
        assert conf.snapshot.digest != digest
