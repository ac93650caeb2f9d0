"""A start whose sources are broken: from the last known good, loudly, and back with the first good reload."""

import asyncio
import json
import logging

import pytest
from pydantic import SecretStr

from hotconf import HotConf, Options, Refuse, Section, Settings
from hotconf.errors import ConfigError
from hotconf.reload.last_good import LastGood


class Database(Section):
    pool_size: int = 10
    password: SecretStr = SecretStr("")


class App(Settings):
    model_config = {"env_prefix": "BOOT_", "env_nested_delimiter": "__"}

    message: str
    database: Database = Database()


GOOD = "message = 'good'\n[database]\npool_size = 3\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "app.toml"
    path.write_text(GOOD)
    return path


def conf_of(file, **options):
    return HotConf(App, files=[file], options=Options(watch=False, last_good=file.parent / "good.json", **options))


async def run_once(file, **options):
    async with conf_of(file, **options).running(signals=()):
        pass


@pytest.mark.parametrize("broken", ["message = \n", "message = 7\n", "", None])
async def test_a_broken_source_starts_from_the_copy_and_says_so(file, broken, caplog):
    await run_once(file)
    file.unlink() if broken is None else file.write_text(broken)
    conf = conf_of(file)
    with caplog.at_level(logging.INFO, "hotconf"):
        async with conf.running(signals=()):
            assert (conf.current.message, conf.current.database.pool_size) == ("good", 3)
            assert conf.snapshot.generation == 1
            assert [report.outcome for report in conf.reports] == ["rejected", "applied"]
            assert conf.reports[-1].note.startswith("started from the last known good, generation 1 of ")
            assert any("last known good" in reason for reason in conf.status.degraded)
            assert conf.status.consecutive_failures == 1
            assert conf.explain("message").origin.source == "last known good"
    [loud] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "the sources are broken" in loud.getMessage()


async def test_the_first_good_reload_ends_it(file):
    await run_once(file)
    file.write_text("message = \n")
    conf = conf_of(file)
    async with conf.running(signals=()):
        assert (await conf.reload()).outcome == "rejected"
        assert (conf.current.message, conf.status.consecutive_failures) == ("good", 2)
        file.write_text(GOOD)
        assert (await conf.reload()).outcome == "unchanged"
        assert (conf.status.degraded, conf.status.consecutive_failures) == ((), 0)
        assert conf.explain("message").origin.source == str(file)


async def test_a_mended_file_that_says_less_is_no_accident(file):
    file.write_text("message = 'many'\n" + "".join(f"[database]\npool_size = {n}\n" for n in (1,)))
    await run_once(file)
    file.write_text("message = \n")
    conf = conf_of(file)
    async with conf.running(signals=()):
        file.write_text("message = 'one'\n")
        assert (await conf.reload()).outcome == "applied"


async def test_secrets_are_not_in_the_copy_and_come_from_what_can_be_read(file, monkeypatch):
    monkeypatch.setenv("BOOT_DATABASE__PASSWORD", "c4n4ry")
    await run_once(file)
    assert "c4n4ry" not in (file.parent / "good.json").read_text()
    file.write_text("message = \n")
    conf = conf_of(file)
    async with conf.running(signals=()):
        assert conf.current.database.password.get_secret_value() == "c4n4ry"
    monkeypatch.delenv("BOOT_DATABASE__PASSWORD")
    conf = conf_of(file)
    async with conf.running(signals=()):
        assert conf.current.database.password.get_secret_value() == "", "its default"


async def test_a_copy_that_no_thread_could_be_had_for_is_written_by_the_next_reload(file, monkeypatch, caplog):
    conf = conf_of(file)
    async with conf.running(signals=()):
        file.write_text("message = 'newer'\n")

        def write(*_args, **_options):
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(LastGood, "write", write)
            assert (await conf.reload()).outcome == "applied"
        assert "the last known good is not written" in caplog.text
        assert (await conf.reload()).outcome == "unchanged"
    assert "newer" in (file.parent / "good.json").read_text()


class Guarded(Settings):
    message: str
    token: SecretStr


async def test_a_secret_that_came_from_the_broken_file_and_has_no_default_fails_the_start(file):
    options = Options(watch=False, last_good=file.parent / "good.json")
    file.write_text("message = 'good'\ntoken = 'c4n4ry'\n")
    async with HotConf(Guarded, files=[file], options=options).running(signals=()):
        pass
    file.write_text("message = \n")
    with pytest.raises(ConfigError, match=r"token: is not in the last known good") as refused:
        async with HotConf(Guarded, files=[file], options=options).running(signals=()):
            pass
    assert str(file) in str(refused.value), "and the file's own fault is told as well"
    assert [fault.path for fault in refused.value.report.faults].count("token") == 1


@pytest.mark.parametrize("copy", ["", "{", json.dumps({"format": 99})])
async def test_a_copy_that_cannot_be_used_is_told_with_the_faults(file, copy):
    await run_once(file)
    (file.parent / "good.json").write_text(copy)
    file.write_text("message = \n")
    with pytest.raises(ConfigError, match=r"last known good .* is "):
        async with conf_of(file).running(signals=()):
            pass


async def test_without_a_copy_the_start_fails_as_ever(file):
    file.write_text("message = \n")
    with pytest.raises(ConfigError, match="does not exist"):
        await asyncio.to_thread(conf_of(file).load)


async def test_a_blocking_load_starts_from_it_too(file):
    await asyncio.to_thread(conf_of(file).load)
    file.write_text("message = \n")
    conf = conf_of(file)
    assert (await asyncio.to_thread(conf.load)).outcome == "applied"
    assert conf.current.message == "good"


async def test_a_subscriber_that_refuses_the_start_is_not_passed_by(file):
    await run_once(file)
    conf = conf_of(file)

    @conf.prepare
    def never(_change):
        raise Refuse("no")

    with pytest.raises(ConfigError, match="refuses: no"):
        async with conf.running(signals=()):
            pass


async def test_it_follows_what_is_applied_and_not_what_is_rejected(file):
    copy = file.parent / "good.json"
    async with conf_of(file).running(signals=()) as conf:
        file.write_text("message = 'two'\n")
        await conf.reload()
        assert json.loads(copy.read_text())["content"]["generation"] == 2
        file.write_text("message = 7\n")
        await conf.reload()
        assert json.loads(copy.read_text())["content"]["generation"] == 2


async def test_a_patch_that_waits_to_be_confirmed_is_not_good_yet(file):
    copy = file.parent / "good.json"
    async with conf_of(file, overlay=file.parent / "overlay.toml").running(signals=()) as conf:
        await conf.patch({"message": "perhaps"}, confirm=60)
        assert "perhaps" not in copy.read_text()
        await conf.confirm()
        assert "perhaps" in copy.read_text()


async def test_a_disk_that_cannot_be_written_degrades_and_stops_nothing(file, caplog):
    copy = file.parent / "good.json"
    copy.mkdir()
    async with conf_of(file).running(signals=()) as conf:
        file.write_text("message = 'two'\n")
        assert (await conf.reload()).outcome == "applied"
        assert "the last known good cannot be written: Is a directory" in conf.status.degraded
        assert caplog.text.count("Is a directory") == 1
        copy.rmdir()
        assert (await conf.reload()).outcome == "unchanged"
        assert conf.status.degraded == ()
        assert json.loads(copy.read_text())["content"]["generation"] == 2


async def test_a_patch_is_possible_as_soon_as_the_sources_can_be_read_again(file):
    overlay = file.parent / "overlay.toml"
    await run_once(file)
    file.write_text("message = \n")
    conf = conf_of(file, overlay=overlay)
    async with conf.running(signals=()):
        file.write_text(GOOD)
        assert (await conf.patch({"message": "patched"})).outcome == "applied"
        assert conf.current.message == "patched"


async def test_what_was_recovered_can_be_rolled_back_to(file):
    await run_once(file)
    file.write_text("message = \n")
    conf = conf_of(file, overlay=file.parent / "overlay.toml")
    async with conf.running(signals=()):
        file.write_text(GOOD.replace("good", "bad idea"))
        await conf.reload()
        assert (await conf.rollback(1)).outcome == "applied"
        assert "is held" in (await conf.reload()).note
        assert conf.current.message == "good"
        await conf.reload(force=True)
        assert (await conf.patch({"database": {"pool_size": 4}})).outcome == "applied"
        assert (conf.current.message, conf.current.database.pool_size) == ("bad idea", 4)


async def test_a_patch_that_is_refused_before_the_first_load_starts_nothing(file):
    await run_once(file)
    conf = conf_of(file, overlay=file.parent / "overlay.toml")
    assert (await conf.patch({"database": {"pool_size": "many"}})).outcome == "rejected"
    assert not conf.loaded


# An emptied file, and what a start may lose


@pytest.mark.parametrize("text", ["", "# nothing\n", "\ufeff", "[database]\n"])
async def test_a_file_that_was_emptied_while_the_process_was_down_counts_as_broken(tmp_path, text):
    class Lenient(Settings):
        model_config = {"env_prefix": "BOOT_"}
        message: str = "default"
        database: Database = Database()

    file, good = tmp_path / "app.toml", tmp_path / "good.json"
    file.write_text(GOOD)

    def lenient():
        return HotConf(Lenient, files=[file], options=Options(watch=False, last_good=good))

    async with lenient().running(signals=()):
        before = good.read_text()
    file.write_text(text)
    conf = lenient()
    async with conf.running(signals=()):
        assert (conf.current.message, conf.current.database.pool_size) == ("good", 3)
        assert "holds no values, and held some before this process started" in str(conf.reports[0].faults[0])
        assert str(conf.reports[0].faults[0].origin) == str(file)
        assert good.read_text() == before
        assert (await conf.reload(force=True)).outcome == "applied"
        assert conf.current.message == "default"
    async with lenient().running(signals=()):
        pass  # what was forced is good by now


async def test_most_values_do_not_vanish_at_a_start_either(tmp_path):
    class Many(Settings):
        model_config = {"env_prefix": "BOOT_"}
        numbers: list[int] = []

    file, good = tmp_path / "app.toml", tmp_path / "good.json"

    def many():
        return HotConf(Many, files=[file], options=Options(watch=False, last_good=good))

    file.write_text(f"numbers = {list(range(20))}\n")
    async with many().running(signals=()):
        pass
    file.write_text("numbers = [1]\n")
    conf = many()
    async with conf.running(signals=()):
        assert len(conf.current.numbers) == 20
        assert "19 of the 20 values of before the start would vanish" in str(conf.reports[0].faults[0])


async def test_a_source_that_the_program_no_longer_names_is_no_loss(file):
    await run_once(file)
    other = file.with_name("other.toml")
    other.write_text(GOOD)
    file.unlink()
    conf = HotConf(App, files=[other], options=Options(watch=False, last_good=file.parent / "good.json"))
    async with conf.running(signals=()):
        assert [report.outcome for report in conf.reports] == ["applied"]


async def test_a_second_start_with_a_broken_file_goes_on_with_what_ran_before(file):
    conf = conf_of(file)
    async with conf.running(signals=()):
        file.write_text(GOOD.replace("good", "newer"))
        await conf.reload()
    file.write_text("message = \n")
    async with conf.running(signals=()):
        assert (conf.current.message, conf.status.state) == ("newer", "ready")
        assert conf.status.consecutive_failures == 1
        assert "the last reload was rejected" in conf.status.degraded


# Its place


def test_true_chooses_a_place_by_class_and_program(file, tmp_path, monkeypatch):
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    options = Options(watch=False, last_good=True)
    HotConf(App, files=[file], options=options).load()
    [copy] = (tmp_path / "state" / "hotconf").glob("*.last-good.json")
    assert copy.name.startswith(f"{App.__module__}.App.")
    file.write_text("message = \n")
    conf = HotConf(App, files=[file], options=options)
    conf.load()
    assert conf.current.message == "good"
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "service"))
    file.write_text(GOOD)
    HotConf(App, files=[file], options=options).load()
    assert [path.name for path in (tmp_path / "service").glob("*good*")] == [f"{App.__module__}.App.last-good.json"]


async def test_a_program_that_changes_its_working_directory_keeps_writing_the_same_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.toml").write_text(GOOD)
    (tmp_path / "below").mkdir()
    options = Options(watch=False, last_good="good.json", audit_log="audit.jsonl")
    conf = HotConf(App, files=["app.toml"], options=options)
    async with conf.running(signals=()):
        monkeypatch.chdir(tmp_path / "below")
        (tmp_path / "app.toml").write_text(GOOD.replace("good", "newer"))
        assert (await conf.reload()).outcome == "applied"
    assert list((tmp_path / "below").iterdir()) == []
    assert "newer" in (tmp_path / "good.json").read_text()
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) > 1


async def test_I5_an_emptied_file_is_rejected_by_the_reloads_after_such_a_start_too(tmp_path):
    class Plain(Settings):
        x: int = 0
        y: int = 0

    file, good = tmp_path / "app.toml", tmp_path / "good.json"
    file.write_text("y = 3\n")
    options = Options(watch=False, last_good=good)
    async with HotConf(Plain, files=[file], options=options).running(signals=()):
        pass
    copy = good.read_bytes()
    file.write_text("")
    conf = HotConf(Plain, files=[file], options=options)
    async with conf.running(signals=()):
        assert conf.current.y == 3
        report = await conf.reload()
        assert (report.outcome, report.stage, conf.current.y) == ("rejected", "guard", 3)
        assert good.read_bytes() == copy
        assert (await conf.reload(force=True)).outcome == "applied"
        assert conf.current.y == 0
        assert good.read_bytes() != copy
