"""What a reload leaves out: hops between threads, and all work where no source has changed."""

import asyncio
import threading

import pytest
from pydantic import BaseModel, field_validator

from hotconf import HotConf, Options, Section, Settings
from hotconf.sources import File
from tests.heart import QUIET

calls = []


class App(Settings):
    model_config = {"env_prefix": "SHORT_"}

    message: str = "hello"
    port: int = 8080

    @field_validator("message")
    @classmethod
    def noted(cls, value):
        calls.append(value)
        return value


class Moody(App):
    __revalidate__ = True


class MoodySection(Section):
    __revalidate__ = True

    message: str = "hello"

    @field_validator("message")
    @classmethod
    def noted(cls, value):
        calls.append(value)
        return value


class Above(Settings):
    part: MoodySection = MoodySection()


class Mutable(BaseModel):
    message: str = "hello"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "app.toml"
    path.write_text('message = "one"\n')
    calls.clear()
    return path


async def test_a_reload_of_files_takes_one_hop_to_a_thread(file, tmp_path, monkeypatch):
    other = tmp_path / "other.toml"
    other.write_text("port = 1\n")
    hops = []
    real = asyncio.BaseEventLoop.run_in_executor
    conf = HotConf(App, files=[file, other], options=QUIET)
    async with conf.running(signals=()):
        monkeypatch.setattr(
            asyncio.BaseEventLoop, "run_in_executor", lambda *args: (hops.append(args[2]), real(*args))[1]
        )
        file.write_text('message = "two"\n')
        assert (await conf.reload()).changed == ("message",)
        assert len(hops) == 1


@pytest.mark.parametrize(("model", "again"), [(App, 0), (Moody, 1)])
async def test_where_no_source_has_changed_no_validator_runs_unless_the_class_wants_it(file, model, again):
    conf = HotConf(model, files=[file], options=QUIET)
    async with conf.running(signals=()):
        calls.clear()
        before = conf.current
        report = await conf.reload()
        assert (report.outcome, report.changed, len(calls)) == ("unchanged", (), again)
        assert conf.current is before


async def test_a_section_that_wants_it_has_the_whole_validated_again(tmp_path, file):
    file.write_text('[part]\nmessage = "one"\n')
    conf = HotConf(Above, files=[file], options=QUIET)
    async with conf.running(signals=()):
        calls.clear()
        await conf.reload()
        assert calls == ["one"]


async def test_force_and_another_environment_validate_again(file, monkeypatch):
    conf = HotConf(App, files=[file], options=QUIET)
    async with conf.running(signals=()):
        calls.clear()
        assert (await conf.reload(force=True)).outcome == "unchanged"
        assert calls == ["one"]
        monkeypatch.setenv("SHORT_PORT", "1")
        assert (await conf.reload()).changed == ("port",)
        assert calls == ["one", "one"]
        monkeypatch.delenv("SHORT_PORT")
        assert (await conf.reload()).changed == ("port",)


async def test_what_returns_after_a_rejection_is_unchanged(file):
    conf = HotConf(App, files=[file], options=QUIET)
    async with conf.running(signals=()):
        text = file.read_text()
        file.write_text("port = 'no'\n")
        assert (await conf.reload()).outcome == "rejected"
        file.write_text(text)
        assert (await conf.reload()).outcome == "unchanged"


async def test_a_file_with_a_read_of_its_own_is_read_by_that(file):
    class Shouting(File):
        async def read(self):
            layer = await super().read()
            return type(layer)(layer.source, {"message": layer.values["message"].upper()})

    conf = HotConf(App, files=[Shouting(file)], options=QUIET)
    async with conf.running(signals=()):
        assert conf.current.message == "ONE"


async def test_a_file_that_hangs_is_given_up_and_named_and_holds_up_no_later_read(file, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text("port = 1\n")
    go_on = threading.Event()

    class Hung(File):
        waits = False

        def read_blocking(self):
            if self.waits:
                go_on.wait(20)
            return super().read_blocking()

        async def read(self):
            return await asyncio.to_thread(self.read_blocking)

    hung = Hung(file)
    conf = HotConf(App, files=[hung, other], options=Options(watch=False, read_timeout=0.1))
    async with conf.running(signals=()):
        hung.waits = True
        other.write_text("port = 2\n")
        report = await conf.reload()
        assert (report.outcome, str(report.faults[0])) == (
            "rejected",
            f"{hung.name}: cannot be read: no response within 0.1 s",
        )
        go_on.set()
        hung.waits = False
        assert (await conf.reload()).changed == ("port",)
