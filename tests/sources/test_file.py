"""Files: what is there, what is not, and what must never read as nothing."""

import asyncio
import os
import socket

import pytest

from hotconf import HotConf, formats
from hotconf.errors import SourceBusy, SourceError
from hotconf.sources import Dir, File, reader
from tests.heart import QUIET, App


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "app.toml"
    path.write_text("port = 1\n")
    return path


def removed(path):
    path.unlink()


def a_folder(path):
    path.unlink()
    path.mkdir()


def a_fifo(path):
    path.unlink()
    os.mkfifo(path)


def a_socket(path):
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def a_broken_link(path):
    path.unlink()
    path.symlink_to(path.with_name("nowhere.toml"))


def a_link_to_itself(path):
    path.unlink()
    path.symlink_to(path)


def a_device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def too_large(path):
    path.write_text("port = 2\n" + "#" * (4 * 2**20))


def without_permission(path):
    path.chmod(0)


def half_written(path):
    path.write_text('port = 2\nmessage = "ab')


def no_text(path):
    path.write_bytes(b"port = 2\nmessage = '\xff\xfe'\n")


def with_nul(path):
    path.write_bytes(b"port = 2\0\n")


def with_a_key_twice(path):
    path.write_text("port = 2\nport = 3\n")


def no_mapping(path):
    path.write_text("[[[")


def nested_deeply(path):
    path.write_text("message = " + "[" * 100_000)


UNREADABLE = {
    removed: "does not exist",
    a_folder: "is a folder, not a file",
    a_fifo: "is a FIFO, not a file",
    a_socket: "",
    a_broken_link: "is a link to nothing",
    a_link_to_itself: "",
    a_device: "is a device, not a file",
    too_large: "is larger than 4194304 bytes",
    without_permission: "Permission denied",
}
MALFORMED = [half_written, no_text, with_nul, with_a_key_twice, no_mapping, nested_deeply]


@pytest.mark.parametrize("spoil", UNREADABLE)
@pytest.mark.parametrize("required", [True, False])
async def test_I5_what_cannot_be_read_rejects_and_is_named(file, spoil, required):
    if spoil is without_permission and os.geteuid() == 0:
        pytest.skip("root may read everything")
    conf = HotConf(App, sources=[File(file, required)], options=QUIET)
    async with conf.running(signals=()), asyncio.timeout(20):
        before = conf.snapshot
        spoil(file)
        report = await conf.reload()
        if spoil is removed and not required:
            assert (report.outcome, conf.current.port) == ("applied", 8080)
            return
        (fault,) = report.faults
        assert (report.outcome, report.stage) == ("rejected", "read")
        assert str(fault).startswith(f"{file}: ")
        assert UNREADABLE[spoil] in str(fault)
        assert conf.snapshot is before
        assert conf.status.sources[0]["error"] == str(fault)


@pytest.mark.parametrize("spoil", MALFORMED)
@pytest.mark.parametrize("required", [True, False])
async def test_I5_what_is_malformed_rejects_at_its_place_and_mending_recovers(file, spoil, required):
    conf = HotConf(App, sources=[File(file, required)], options=QUIET)
    async with conf.running(signals=()):
        spoil(file)
        report = await conf.reload()
        assert report.outcome == "rejected"
        assert report.faults[0].origin.line is not None
        assert conf.current.port == 1
        file.write_text("port = 4\n")
        assert (await conf.reload()).outcome == "applied"
        assert conf.current.port == 4


async def test_an_optional_file_may_come_and_go(file):
    file.unlink()
    conf = HotConf(App, sources=[File(file, required=False)], options=QUIET)
    async with conf.running(signals=()):
        assert conf.current.port == 8080
        file.write_text("port = 2\n")
        assert (await conf.reload()).outcome == "applied"
        file.unlink()
        assert (await conf.reload()).outcome == "applied"
        assert conf.current.port == 8080


async def test_I6_an_unchanged_file_is_not_parsed_again(file, monkeypatch):
    parsed, parse = [], formats.parse
    monkeypatch.setattr(formats, "parse", lambda kind, data: parsed.append(bytes(data)) or parse(kind, data))
    source = File(file)
    first = await source.read()
    file.touch()
    assert await source.read() is first
    file.write_bytes(file.read_bytes())
    assert await source.read() is first
    assert len(parsed) == 1
    file.write_text("port = 2\n")
    assert (await source.read()).values == {"port": 2}
    assert len(parsed) == 2


async def test_I6_changed_bytes_are_read_whatever_the_times_and_size_say(file):
    source = File(file)
    await source.read()
    times = file.stat()
    file.write_text("port = 2\n")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (await source.read()).values == {"port": 2}


async def test_a_file_that_was_malformed_is_read_again_when_it_is_what_it_was(file):
    source = File(file)
    first = await source.read()
    half_written(file)
    with pytest.raises(SourceError):
        await source.read()
    file.write_text("port = 1\n")
    assert (await source.read()).values == first.values


async def test_origins_give_the_file_as_it_was_named_with_line_and_column(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    file.write_text("# first\nport = 1\n\n[database]\n  url = 'x'\n")
    conf = HotConf(App, files=["app.toml"], options=QUIET)
    conf.load()
    assert str(conf.explain("port").origin) == "app.toml:2:1"
    assert str(conf.explain("database.url").origin) == "app.toml:5:3"
    assert conf.status.sources[0]["name"] == "app.toml"


async def test_a_relative_path_starts_where_the_process_stood(file, tmp_path, monkeypatch):
    monkeypatch.chdir(file.parent)
    source = File("app.toml")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert (await source.read()).values == {"port": 1}
    assert list(source.paths()) == [file]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("app.toml", "port = 3\n[database]\nurl = 'x'\n"),
        ("app.json", '{"port": 3, "database": {"url": "x"}}'),
        ("app.yaml", "port: 3\ndatabase:\n  url: x\n"),
        ("app.yml", "port: 3\ndatabase: {url: x}\n"),
    ],
)
def test_each_format_is_known_by_its_name(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    conf = HotConf(App, files=[tmp_path / name], options=QUIET)
    conf.load()
    assert (conf.current.port, conf.current.database.url) == (3, "x")


def test_a_name_that_tells_no_format_rejects(tmp_path):
    (tmp_path / "app.conf").write_text("port = 3\n")
    conf = HotConf(App, files=[tmp_path / "app.conf"], options=QUIET)
    report = conf.reload_blocking()
    assert report.outcome == "rejected"
    assert report.faults[0].origin.source == str(tmp_path / "app.conf")


def test_its_repr_can_be_typed_in():
    assert repr(File("a.toml")) == "File('a.toml')"
    assert repr(File("a.toml", required=False)) == "File('a.toml', required=False)"


async def test_all_files_of_a_folder_are_read_in_one_thread_and_only_those_that_changed(tmp_path, monkeypatch):
    for number in range(50):
        (tmp_path / f"{number:02}.toml").write_text(f"key{number} = {number}")
    calls, opened = [], []
    to_thread, really, clock = asyncio.to_thread, os.open, reader.file_clock
    monkeypatch.setattr(
        asyncio, "to_thread", lambda function, *args: calls.append(function) or to_thread(function, *args)
    )
    monkeypatch.setattr(os, "open", lambda name, *rest: opened.append(os.path.basename(name)) or really(name, *rest))
    monkeypatch.setattr(reader, "file_clock", lambda: clock() + 60 * 10**9)
    source = Dir(tmp_path)
    assert len(await source.read()) == 50
    assert len(calls) == 1
    calls.clear()
    opened.clear()
    (tmp_path / "07.toml").write_text("key7 = 8")
    opened.clear()
    layers = await source.read()
    assert [layer.values for layer in layers][7] == {"key7": 8}
    assert (len(calls), opened) == (1, ["07.toml"])


async def test_the_faults_of_a_file_that_is_written_and_of_a_malformed_one_come_together(tmp_path):
    (tmp_path / "a.toml").write_text("a = 1")
    (tmp_path / "b.toml").write_text("b = ")
    (tmp_path / "c.toml").write_text("c = 1")
    with (tmp_path / "a.toml").open("a"), pytest.raises(SourceBusy) as refused:
        await Dir(tmp_path, max_wait=0.05).read()
    assert [fault.origin.source for fault in refused.value.faults] == [f"{tmp_path}/a.toml", f"{tmp_path}/b.toml"]
