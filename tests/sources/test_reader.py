"""Reading one file: whole, or not at all. Real files, real writers."""

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from hotconf.errors import SourceBusy, SourceError
from hotconf.sources import reader as reading
from hotconf.sources.mounts import Mounts
from hotconf.sources.reader import FileReader, ReadLimits, has_no_writer, once_written

OLD = 'message = "old"\n'


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "app.toml"
    found.write_text(OLD)
    return found


def reader(path, **limits):
    return FileReader(path, path.name, ReadLimits(**limits))


async def layer_of(reader):
    return await once_written(reader.layer, reader._limits.max_wait)


async def text_of(reader):
    return (await layer_of(reader)).values


async def refusal(reader, kind=SourceError):
    with pytest.raises(kind) as refused:
        await layer_of(reader)
    [fault] = refused.value.faults
    return str(fault)


@pytest.fixture
def no_leases(monkeypatch):
    """A system, or an owner, that grants no leases."""
    monkeypatch.setattr(reading, "has_no_writer", lambda _descriptor: None)


async def test_a_quiet_file_is_read_under_a_lease(path):
    found = reader(path)
    assert found.protection is None
    assert await text_of(found) == {"message": "old"}
    assert found.protection == "lease"


async def test_half_a_file_is_not_read_however_long_its_writer_pauses(path):
    found = reader(path, max_wait=30)
    writer = path.open("w")
    writer.write('message = "ne')
    writer.write('w"\n')
    writer.flush()  # valid as it stands, and only half of what is to come

    waiting = asyncio.create_task(text_of(found))
    done, _ = await asyncio.wait({waiting}, timeout=0.5)
    assert not done
    writer.write("count = 2\n")
    writer.close()

    assert await waiting == {"message": "new", "count": 2}


async def test_without_the_lease_the_half_would_be_read(path, monkeypatch):
    """The defence above switched off: what it defends against does happen."""
    monkeypatch.setattr(reading, "has_no_writer", lambda _descriptor: True)
    with path.open("w") as writer:
        writer.write('message = "new"\n')
        writer.flush()
        assert await text_of(reader(path)) == {"message": "new"}


async def test_a_writer_that_never_rests_is_refused_in_the_end(path):
    found = reader(path, max_wait=0.1)
    with path.open("a"):
        assert await refusal(found, SourceBusy) == (
            "app.toml: is still being written after 0.1 s; it is read as soon as its writer is done"
        )
        quiet = asyncio.create_task(found.until_quiet())
        done, _ = await asyncio.wait({quiet}, timeout=0.5)
        assert not done
    await quiet
    assert await text_of(found) == {"message": "old"}


async def test_a_file_that_goes_away_is_no_longer_waited_for(path):
    found = reader(path, max_wait=0.05)
    with path.open("a"):
        await refusal(found, SourceBusy)
        path.unlink()
        await found.until_quiet()


async def test_without_leases_a_file_must_be_stable(path, no_leases):
    found = reader(path, stable_for=0.2)
    waiting = asyncio.create_task(text_of(found))
    await asyncio.sleep(0.05)
    path.write_text('message = "new"\n')
    assert await waiting == {"message": "new"}
    assert found.protection == "settle"


async def test_without_leases_a_file_that_is_never_stable_is_refused(path, no_leases):
    found = reader(path, stable_for=0.05, max_wait=0.3)
    stop = asyncio.Event()

    async def write_for_ever():
        for count in range(1_000_000):
            path.write_text(f"count = {count}\n")
            if stop.is_set():
                return
            await asyncio.sleep(0.005)

    writing = asyncio.create_task(write_for_ever())
    assert "is still being written after 0.3 s" in await refusal(found, SourceBusy)
    stop.set()
    await writing
    await found.until_quiet()
    assert "count" in await text_of(found)


async def test_content_that_is_in_force_already_need_not_be_stable(path, no_leases):
    found = reader(path, stable_for=30)
    found._accepted = (path.read_bytes(), "the layer")
    assert await layer_of(found) == "the layer"


async def test_a_writer_that_holds_the_running_content_open_delays_no_read(path):
    found = reader(path, max_wait=30)
    first = await layer_of(found)
    with path.open("a"):
        assert await layer_of(found) is first


async def test_unchanged_bytes_are_not_parsed_again(path, monkeypatch):
    found = reader(path)
    first = await layer_of(found)
    monkeypatch.setattr(reading.formats, "parse", lambda *_: pytest.fail("parsed again"))
    os.utime(path)
    assert await layer_of(found) is first


@pytest.fixture
def opened(monkeypatch):
    """The files that are opened, while each of them seems to have rested since long ago."""
    names = []
    really = os.open
    monkeypatch.setattr(os, "open", lambda name, *rest: names.append(os.path.basename(name)) or really(name, *rest))
    clock = reading.file_clock
    monkeypatch.setattr(reading, "file_clock", lambda: clock() + 60 * 10**9)
    return names


async def test_a_file_at_rest_is_not_read_again(path, opened):
    one = reader(path)
    first = await layer_of(one)
    assert await layer_of(one) is first
    assert opened == [path.name]


CHANGES = {
    "in place, with the old time": lambda path: (path.write_text('message = "new"\n'), os.utime(path, ns=(0, 0))),
    "replaced": lambda path: (
        path.with_name("next").write_text('message = "new"\n'),
        path.with_name("next").replace(path),
    ),
    "a link": lambda path: (
        path.rename("other"),
        path.with_name("new").write_text('message = "new"\n'),
        path.symlink_to("new"),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_file_at_rest_that_changes_is_read(path, opened, change, monkeypatch):
    monkeypatch.chdir(path.parent)
    os.utime(path, ns=(0, 0))
    one = reader(path)
    await layer_of(one)
    CHANGES[change](path)
    assert await text_of(one) == {"message": "new"}
    assert opened == [path.name, path.name]


async def test_a_file_at_rest_that_is_gone_or_forbidden_is_not_taken_from_memory(path, opened):
    one = reader(path)
    await layer_of(one)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        await layer_of(one)
    path.mkdir()
    assert "is a folder" in await refusal(one)


async def test_a_file_that_was_written_just_now_is_read_again(path):
    """A write within the same tick of the clock leaves the same time."""
    one = reader(path)
    await layer_of(one)
    assert one._at_rest is None


async def test_without_leases_a_file_never_rests(path, opened, no_leases):
    """There the times may not tell of a change either."""
    one = reader(path, stable_for=0.0)
    await layer_of(one)
    read = len(opened)
    await layer_of(one)
    assert len(opened) > read


async def test_same_size_and_time_with_other_content_is_seen(path):
    found = reader(path)
    await layer_of(found)
    before = path.stat()
    path.write_text('message = "OLD"\n')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert await text_of(found) == {"message": "OLD"}


async def test_a_write_during_the_read_is_noticed(path, monkeypatch):
    """A writer that comes and goes between our two looks leaves other bytes than we read first."""
    real, texts = FileReader._bytes, iter(['message = "torn"\n', 'message = "whole"\n'])

    def read_and_be_overtaken(self, descriptor):
        data = real(self, descriptor)
        following = next(texts, None)
        if following is not None:
            path.write_text(following)
        return data

    monkeypatch.setattr(FileReader, "_bytes", read_and_be_overtaken)
    assert await text_of(reader(path)) == {"message": "whole"}


def test_the_lease_tells_writers_apart(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert has_no_writer(descriptor) is True
        with path.open("rb"):
            assert has_no_writer(descriptor) is True
        with path.open("r+"):
            assert has_no_writer(descriptor) is False
        assert has_no_writer(descriptor) is True
    finally:
        os.close(descriptor)


def test_no_lease_is_left_behind(path):
    descriptor = os.open(path, os.O_RDONLY)
    has_no_writer(descriptor)
    assert fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_UNLCK
    os.close(descriptor)


def test_a_writer_that_comes_while_the_lease_is_held_neither_waits_nor_kills(path):
    """A process asks for the lease in a tight loop while another one opens the file for writing again and again."""
    script = (
        "import os, sys, time; from hotconf.sources.reader import has_no_writer\n"
        f"descriptor = os.open({os.fspath(path)!r}, os.O_RDONLY); print('asking', flush=True)\n"
        "count, end = 0, time.monotonic() + 30\n"
        "while not os.path.exists(sys.argv[1]) and time.monotonic() < end:\n"
        "    has_no_writer(descriptor); count += 1\n"
        "print(count)"
    )
    stop = path.with_name("stop")
    asking = subprocess.Popen([sys.executable, "-c", script, stop], stdout=subprocess.PIPE, text=True)
    assert asking.stdout.readline() == "asking\n"
    longest = 0.0
    for _ in range(3000):
        started = time.monotonic()
        path.open("a").close()
        longest = max(longest, time.monotonic() - started)
    stop.touch()
    output, _ = asking.communicate(timeout=30)
    assert asking.returncode == 0  # and not -SIGIO
    assert int(output) > 100
    assert longest < 5  # the kernel would break a lease that is kept only after 45 s


def test_sigio_is_what_it_would_die_of():
    """Why the lease's signal is changed: the default one kills."""
    script = "import os, signal; os.kill(os.getpid(), signal.SIGIO)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGIO


async def test_refusals_name_what_is_there_instead(tmp_path):
    folder, fifo = tmp_path / "a.toml", tmp_path / "b.toml"
    folder.mkdir()
    os.mkfifo(fifo)
    assert await refusal(reader(folder)) == "a.toml: is a folder, not a file"
    assert await refusal(reader(fifo)) == "b.toml: is a FIFO, not a file"
    link = tmp_path / "c.toml"
    link.symlink_to("/dev/null")
    assert await refusal(reader(link)) == "c.toml: is a device, not a file"


async def test_a_loop_of_links_is_refused(tmp_path):
    link = tmp_path / "a.toml"
    link.symlink_to("a.toml")
    assert await refusal(reader(link)) == "a.toml: cannot be opened: Too many levels of symbolic links"


@pytest.mark.parametrize(("size", "refused"), [(100, False), (101, True), (100_000, True)])
async def test_a_file_beyond_the_limit_is_refused(path, size, refused):
    path.write_text("#" * size)
    found = reader(path, size_limit=100)
    if refused:
        assert await refusal(found) == "app.toml: is larger than 100 bytes"
    else:
        assert await text_of(found) == {}


async def test_a_missing_file_is_for_the_source_to_judge(tmp_path):
    with pytest.raises(FileNotFoundError):
        await layer_of(reader(tmp_path / "none.toml"))


async def test_no_descriptor_is_left_open(path, tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    found = reader(path)
    for index in range(20):
        path.write_text(f"count = {index}\n" if index % 2 else "[")
        with contextlib.suppress(SourceError):
            await layer_of(found)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_without_leases_a_file_that_is_written_again_was_not_stable(path, no_leases):
    """Each half is the same text, as if no process had written."""
    found = reader(path, stable_for=0.1)
    looks = []
    real = found._attempt

    def attempt():
        if len(looks) < 3:
            path.write_text('message = "half"\n')
            os.utime(path, ns=(0, len(looks)))
        looks.append(real())
        return looks[-1]

    found._attempt = attempt
    assert await text_of(found) == {"message": "half"}
    assert len(looks) == 4


@pytest.mark.parametrize(("kind", "writer"), [("nfs4", None), ("cifs", None), ("ext4", False)])
async def test_a_network_file_system_that_grants_no_lease_says_nothing_of_writers(path, monkeypatch, kind, writer):
    monkeypatch.setattr(Mounts, "read", lambda: Mounts({path.stat().st_dev: kind}, frozenset()))
    with path.open("a"), path.open("rb") as file:  # here it is a writer that makes the kernel say EAGAIN
        assert has_no_writer(file.fileno()) is writer
