"""Writers that take their time, seen from a running configuration: never a half, and the whole once it is there."""

import asyncio
import contextlib
import resource

import pytest
from pydantic import BaseModel

from hotconf import HotConf, Options, Section
from hotconf.sources import Dir, File
from tests.heart import raising


class App(Section):
    message: str = "default"
    count: int = 0


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "app.toml"
    found.write_text('message = "old"\ncount = 1\n')
    return found


@contextlib.asynccontextmanager
async def live(*sources, **options):
    """A running configuration, and a function that waits for its next report."""
    conf = HotConf(App, sources=sources, options=Options(**options))
    async with conf.running(signals=()):
        seen = len(conf.reports)

        async def next_report():
            nonlocal seen
            async with asyncio.timeout(20):
                while len(conf.reports) <= seen:
                    await asyncio.sleep(0.005)
            seen += 1
            return conf.reports[seen - 1]

        yield conf, next_report


async def test_I5_a_valid_half_is_never_served_and_the_whole_is_read_when_its_writer_closes(path):
    async with live(File(path, max_wait=0.2)) as (conf, next_report):
        with path.open("w") as writer:
            writer.write('message = "new"\n')
            writer.flush()
            refused = await next_report()
            assert refused.outcome == "rejected"
            assert "is still being written after 0.2 s" in str(refused.faults[0])
            assert (conf.current.message, conf.current.count) == ("old", 1)
            # What the writer does now is no event: it has written everything, and only closes the file later.
            writer.write("count = 2\n")
            writer.flush()
            while (await next_report()).outcome != "rejected":
                pytest.fail("a file was read while it was open for writing")
        while (await next_report()).outcome != "applied":
            pass
        assert (conf.current.message, conf.current.count) == ("new", 2)


async def test_I5_truncate_then_write_is_one_change(path):
    async with live(File(path, max_wait=10)) as (conf, next_report):
        with path.open("w") as writer:
            await asyncio.sleep(0.1)  # longer than any debounce: the file is empty, which is valid too
            writer.write('message = "new"\n')
        report = await next_report()
        assert (report.outcome, conf.current.message, conf.current.count) == ("applied", "new", 0)


async def test_status_says_what_protects_a_file(path):
    async with live(File(path)) as (conf, _):
        assert [source["protection"] for source in conf.status.sources] == ["lease"]


async def test_the_guard_refuses_an_emptied_file_unless_forced(path):
    async with live(File(path)) as (conf, next_report):
        path.write_text("# nothing\n")
        report = await next_report()
        assert (report.outcome, report.stage) == ("rejected", "guard")
        assert str(report.faults[0]).startswith(f"{path}: holds no values any more, and held 2: message, count")
        assert conf.current.message == "old"
        forced = await conf.reload(force=True)
        assert (forced.outcome, conf.current.message) == ("applied", "default")


async def test_a_folder_of_files_is_merged_in_the_order_of_names(tmp_path):
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "20-b.yaml").write_text("message: second\n")
    (folder / "10-a.toml").write_text('message = "first"\ncount = 1\n')
    for passed_over in (".hidden.toml", "30-c.toml.bak", "README"):
        (folder / passed_over).write_text("] not looked at")
    (folder / "40.toml").mkdir()
    async with live(Dir(folder)) as (conf, next_report):
        assert (conf.current.message, conf.current.count) == ("second", 1)
        assert str(conf.explain("message").origin) == f"{folder}/20-b.yaml:1:1"
        (folder / "30-c.json").write_text('{"message": "third"}')
        assert (await next_report()).outcome == "applied"
        assert conf.current.message == "third"
        (folder / "30-c.json").unlink()
        assert (await next_report()).outcome == "applied"
        assert conf.current.message == "second"
        (folder / "20-b.yaml").write_text("message: [\n")
        (folder / "10-a.toml").write_text("message = \n")
        report = await next_report()
        assert [fault.origin.source for fault in report.faults] == [f"{folder}/10-a.toml", f"{folder}/20-b.yaml"]


async def test_a_change_right_after_a_reload_that_found_a_new_file_is_not_missed(tmp_path):
    (tmp_path / "0.toml").write_text("message = 'stays'\n")
    async with live(Dir(tmp_path), debounce=0) as (conf, next_report):
        for number in range(1, 20):
            path = tmp_path / f"{number}.toml"
            path.with_name("draft").write_text(f"count = {number}\n")
            path.with_name("draft").replace(path)
            while conf.current.count != number:
                await next_report()
            path.unlink()
            while conf.current.count:
                await next_report()


async def test_what_is_written_about_each_reload_may_lie_in_the_folder_that_is_read(tmp_path):
    (tmp_path / "10.toml").write_text('message = "one"\n')
    log = tmp_path / "audit.jsonl"
    async with live(Dir(tmp_path), audit_log=log) as (conf, next_report):
        (tmp_path / "10.toml").write_text('message = "two"\n')
        assert (await next_report()).outcome == "applied"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(next_report(), 0.5)
        assert conf.snapshot.generation == 2
        assert len(log.read_text().splitlines()) == 2


async def test_a_folder_that_is_missing(tmp_path):
    missing = HotConf(App, sources=[Dir(tmp_path / "none")])
    assert str((await missing.reload()).faults[0]) == f"{tmp_path}/none: does not exist"
    optional = HotConf(App, sources=[Dir(tmp_path / "none", required=False)])
    assert (await optional.reload()).outcome == "applied"


async def test_two_files_that_change_together_are_read_as_one(tmp_path):
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text('message = "old"\n')
    second.write_text("count = 1\n")
    async with live(File(first), File(second)) as (conf, next_report):
        first.write_text('message = "new"\n')
        await asyncio.sleep(0.05)
        second.write_text("count = 2\n")
        report = await next_report()
        assert set(report.changed) == {"message", "count"}
        assert (conf.current.message, conf.current.count) == ("new", 2)


async def test_the_files_of_a_folder_that_change_together_are_read_as_one(tmp_path):
    (tmp_path / "a.toml").write_text('message = "old"\n')
    (tmp_path / "b.toml").write_text("count = 1\n")
    async with live(Dir(tmp_path)) as (conf, next_report):
        (tmp_path / "a.toml").write_text('message = "new"\n')
        await asyncio.sleep(0.05)
        (tmp_path / "b.toml").write_text("count = 2\n")
        assert set((await next_report()).changed) == {"message", "count"}
        assert (conf.current.message, conf.current.count) == ("new", 2)


async def test_I5_a_folder_with_a_busy_file_is_read_when_its_writer_closes(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('message = "old"\n')
    async with live(Dir(tmp_path, max_wait=0.1), poll=60) as (conf, next_report):
        with path.open("w") as writer:
            writer.write('message = "new"\n')
            writer.flush()
            report = await next_report()
            assert "is still being written" in str(report.faults[0])
        while (await next_report()).outcome != "applied":  # closing gives no event: until_quiet waited
            pass
        assert conf.current.message == "new"


async def test_I5_a_folder_whose_files_are_removed_as_soon_as_they_are_listed_rejects(tmp_path, monkeypatch):
    (tmp_path / "a.toml").touch()
    monkeypatch.setattr("hotconf.sources.reader.FileReader.layer", raising(FileNotFoundError))
    report = await HotConf(App, sources=[Dir(tmp_path)]).reload()
    assert str(report.faults[0]) == f"{tmp_path}: its files are removed as soon as they are listed"


@contextlib.contextmanager
def no_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("source", [File, lambda path: Dir(path.parent)])
async def test_I5_what_there_was_no_descriptor_for_is_read_when_there_is_one(path, source):
    async with live(source(path), watch=False) as (conf, next_report):
        path.write_text('message = "new"\n')
        with no_descriptors():
            conf.request_reload()
            assert "Too many open files" in str((await next_report()).faults[0])
        while (await next_report()).outcome != "applied":  # no event tells of it: until_quiet waited
            pass
        assert conf.current.message == "new"


async def test_a_file_that_cannot_be_opened_for_long_is_refused_once(path):
    async with live(File(path), watch=False) as (conf, next_report):
        with no_descriptors():
            conf.request_reload()
            assert (await next_report()).outcome == "rejected"
            reports = len(conf.reports)
            await asyncio.sleep(0.5)  # two further tries
            assert len(conf.reports) == reports
        assert (await next_report()).outcome == "unchanged"


async def test_I5_a_broken_link_in_a_folder_is_named(tmp_path):
    (tmp_path / "a.toml").write_text("count = 1\n")
    (tmp_path / "b.toml").symlink_to("nowhere.toml")
    report = await HotConf(App, sources=[Dir(tmp_path)]).reload()
    assert [str(fault) for fault in report.faults] == [f"{tmp_path}/b.toml: is a link to nothing"]


@pytest.mark.parametrize("text", ["[server]\n", "[server.tls]\n[database]\n"])
async def test_the_guard_knows_a_file_that_was_cut_off_below_a_header(tmp_path, text):
    path = tmp_path / "app.toml"
    path.write_text('[server]\nhost = "a"\n')
    conf = HotConf(dict_of_anything(), files=[path])
    conf.load()
    path.write_text(text)
    report = await conf.reload()
    assert (report.stage, conf.current.server) == ("guard", {"host": "a"})


def dict_of_anything():
    class Anything(BaseModel):
        model_config = {"extra": "allow"}

    return Anything
