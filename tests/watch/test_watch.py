"""Watching: every way in which a file is replaced gives a hint, and nothing else does."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic

import pytest

from hotconf import watch
from hotconf.sources import mounts
from hotconf.watch import Watcher, events, observer, survey
from tests.heart import Panic, raising

SOON = 20.0  # generous: a hint that comes at all comes within a tenth of a second
QUIET = 0.2  # long enough for a hint that should not come


class Hints:
    """What a running watcher said. Collected by a task of its own, so that nothing depends on who reads when."""

    def __init__(self, watcher):
        self.watcher = watcher
        self.queue = asyncio.Queue()

    async def collect(self):
        async for hint in self.watcher.changes():
            self.queue.put_nowait(hint)

    async def next(self):
        return await asyncio.wait_for(self.queue.get(), SOON)

    async def until(self, path):
        while path not in await self.next():
            pass

    async def settle(self):
        """Wait until nothing more comes; return how many came."""
        count = 0
        with contextlib.suppress(TimeoutError):
            while await asyncio.wait_for(self.queue.get(), QUIET):
                count += 1
        return count


@contextlib.asynccontextmanager
async def watching(*paths, debounce=0.0, max_wait=2.0, poll=60.0, mode="auto"):
    """Watch; the safety poll is far away unless asked for, so that events alone must do."""
    async with Watcher(lambda: paths, debounce=debounce, max_wait=max_wait, poll=poll, mode=mode) as watcher:
        hints = Hints(watcher)
        task = asyncio.create_task(hints.collect())
        yield hints
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "etc" / "app.toml"
    path.parent.mkdir()
    path.write_text("old")
    return path


def replace(path, text="new"):
    draft = path.with_name(path.name + ".draft")
    draft.write_text(text)
    draft.replace(path)


def write_in_place(path):
    with path.open("r+") as stream:
        stream.write("now")


def truncate_then_write(path):
    with path.open("w") as stream:
        stream.flush()
        stream.write("new")


def save_as_vim(path):
    backup = path.with_name(path.name + "~")
    path.rename(backup)
    path.write_text("new")
    backup.unlink()


def delete_and_recreate(path):
    path.unlink()
    path.write_text("new")


def write_and_hide_it(path):
    """Same size, same mtime, same inode, other content."""
    status = path.stat()
    write_in_place(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_by_older(path):
    replace(path)
    os.utime(path, ns=(0, 0))


def forbid_and_allow(path):
    path.chmod(0)
    path.chmod(0o644)


WRITERS = [
    write_in_place,
    truncate_then_write,
    replace,
    save_as_vim,
    delete_and_recreate,
    write_and_hide_it,
    replace_by_older,
    forbid_and_allow,
    Path.unlink,
    Path.touch,
]


@pytest.mark.parametrize("write", WRITERS)
async def test_every_way_of_writing_a_file_gives_a_hint(file, write):
    async with watching(file) as hints:
        assert hints.watcher.kind == "events"
        write(file)
        assert await hints.next() == {file}


@pytest.mark.parametrize("write", [write for write in WRITERS if write is not Path.touch])
async def test_polling_finds_every_way_of_writing_too(file, write):
    async with watching(file, poll=0.05, mode="poll") as hints:
        assert (hints.watcher.kind, hints.watcher.reason) == ("polling", None)
        write(file)
        assert await hints.next() == {file}


async def test_each_of_many_writes_is_seen(file):
    async with watching(file) as hints:
        for round_ in range(30):
            WRITERS[round_ % 7](file)
            await hints.until(file)


async def test_a_neighbour_gives_no_hint(file):
    neighbour = file.with_name("app.toml.swp")
    async with watching(file) as hints:
        neighbour.write_text("x")
        neighbour.rename(file.with_name("other"))
        (file.parent / "folder").mkdir()
        assert await hints.settle() == 0
        replace(file)
        assert await hints.next() == {file}


async def test_only_the_changed_file_is_named(file):
    second = file.with_name("second.toml")
    second.write_text("old")
    async with watching(file, second) as hints:
        replace(second)
        assert await hints.next() == {second}


async def test_a_relative_path_is_reported_as_it_was_given(file, monkeypatch):
    monkeypatch.chdir(file.parent.parent)
    path = Path("etc/../etc/app.toml")
    async with watching(path) as hints:
        monkeypatch.chdir("/")
        replace(file)
        assert await hints.next() == {path}


# Links and folders.


async def test_kubernetes_swaps_its_data_folder_five_times(tmp_path):
    volume = tmp_path / "config"
    volume.mkdir()

    def publish(number):
        fresh = volume / f"..2024_{number}"
        fresh.mkdir()
        (fresh / "app.toml").write_text(f"number = {number}")
        (volume / "..data_tmp").symlink_to(fresh.name)
        stale = volume / (volume / "..data").readlink() if number else None
        (volume / "..data_tmp").rename(volume / "..data")
        if stale:
            shutil.rmtree(stale)

    publish(0)
    file = volume / "app.toml"
    file.symlink_to("..data/app.toml")
    async with watching(file, volume) as hints:
        for number in range(1, 6):
            publish(number)
            await hints.until(file)
            await hints.settle()
        (volume / "..2024_5" / "app.toml").write_text("in place, in the newest folder")
        assert await hints.next() == {file, volume}


@pytest.fixture
def elsewhere(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / name).write_text(name)
    return folder


def retarget(link, target):
    draft = link.with_name("draft-link")
    draft.symlink_to(target)
    draft.replace(link)


async def test_a_link_into_another_folder(tmp_path, elsewhere):
    link = tmp_path / "app.toml"
    link.symlink_to(elsewhere / "one")
    async with watching(link) as hints:
        (elsewhere / "one").write_text("edited")
        await hints.until(link)
        retarget(link, elsewhere / "two")
        await hints.until(link)
        await hints.settle()
        (elsewhere / "one").write_text("no longer meant")
        assert await hints.settle() == 0
        replace(elsewhere / "two")
        await hints.until(link)


async def test_a_link_in_the_middle_of_the_way(tmp_path):
    for release in ("r1", "r2", "r3"):
        (tmp_path / "app" / release / "conf").mkdir(parents=True)
        (tmp_path / "app" / release / "conf" / "app.toml").write_text("the same text")
    current = tmp_path / "app" / "current"
    current.symlink_to("r1")
    file = current / "conf" / "app.toml"
    async with watching(file) as hints:
        for release in ("r2", "r3"):
            retarget(current, release)
            await hints.until(file)
            await hints.settle()
            (tmp_path / "app" / release / "conf" / "app.toml").write_text("edited")
            await hints.until(file)
            await hints.settle()


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_a_parent_folder_swapped_by_rename(tmp_path, depth):
    below = Path("conf", "d", "app.toml").parts[3 - depth :]
    for version in ("live", "next"):
        (tmp_path / version).joinpath(*below).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / version).joinpath(*below).write_text(version)
    file = (tmp_path / "live").joinpath(*below)
    async with watching(file) as hints:
        (tmp_path / "live").rename(tmp_path / "past")
        (tmp_path / "next").rename(tmp_path / "live")
        await hints.until(file)
        await hints.settle()
        (tmp_path / "past").joinpath(*below).write_text("no longer meant")
        assert await hints.settle() == 0
        file.write_text("edited after the swap")
        await hints.until(file)


async def test_a_folder_deleted_and_made_again_under_its_inode_number(file):
    async with watching(file) as hints:
        for _ in range(5):
            shutil.rmtree(file.parent)
            file.parent.mkdir()  # ext4 hands out the same inode number again
            await hints.until(file)
            file.write_text("back")
            await hints.until(file)
            await hints.settle()
            file.write_text("and edited")
            await hints.until(file)
            await hints.settle()


async def test_a_folder_that_appears_step_by_step(tmp_path):
    file = tmp_path / "a" / "b" / "c" / "app.toml"
    async with watching(file) as hints:
        for folder in (*reversed(file.parents[:3]), None):
            folder.mkdir() if folder else file.write_text("here")
            await hints.until(file)
            await hints.settle()
        file.write_text("edited")
        assert await hints.next() == {file}


async def test_what_came_and_went_within_one_look_is_told(tmp_path):
    """Nothing differs afterwards, but a reader may have seen it."""
    async with watching(tmp_path / "a" / "app.toml", debounce=0.1) as hints:
        (tmp_path / "a").mkdir()
        (tmp_path / "a").rmdir()
        await hints.until(tmp_path / "a" / "app.toml")


async def test_a_folder_that_appears_all_at_once(tmp_path):
    file = tmp_path / "a" / "b" / "c" / "app.toml"
    (tmp_path / "draft" / "b" / "c").mkdir(parents=True)
    (tmp_path / "draft" / "b" / "c" / "app.toml").write_text("here")
    async with watching(file) as hints:
        (tmp_path / "draft").rename(tmp_path / "a")
        await hints.until(file)


async def test_a_broken_link_whose_target_appears(tmp_path):
    link = tmp_path / "app.toml"
    link.symlink_to("later/app.toml")
    async with watching(link) as hints:
        (tmp_path / "later").mkdir()
        (tmp_path / "later" / "app.toml").write_text("here")
        await hints.until(link)


async def test_links_in_a_circle_and_a_file_used_as_a_folder_harm_nobody(tmp_path):
    circle, file = tmp_path / "circle", tmp_path / "file"
    circle.symlink_to("circle")
    file.write_text("x")
    async with watching(circle, file / "app.toml") as hints:
        circle.unlink()
        circle.write_text("a file at last")
        await hints.until(circle)
        file.unlink()
        file.mkdir()
        (file / "app.toml").write_text("here")
        await hints.until(file / "app.toml")


async def test_of_a_folder_any_direct_child_matters(tmp_path, elsewhere):
    folder = tmp_path / "conf.d"
    (folder / "sub").mkdir(parents=True)
    (folder / "linked.toml").symlink_to(elsewhere / "one")
    async with watching(folder) as hints:
        for change in (
            lambda: (folder / "10.toml").write_text("new"),
            lambda: (folder / "10.toml").write_text("changed"),
            (folder / "10.toml").unlink,
            lambda: (elsewhere / "one").write_text("behind a link"),
        ):
            change()
            assert await hints.next() == {folder}
            await hints.settle()
        (folder / "sub" / "deep.toml").write_text("too deep")
        (elsewhere / "two").write_text("not linked")
        assert await hints.settle() == 0


@pytest.mark.parametrize("options", [{}, {"poll": 0.05, "mode": "poll"}])
async def test_of_a_pattern_only_the_children_that_it_names_matter(tmp_path, elsewhere, options):
    folder = tmp_path / "conf.d"
    pattern = folder / "*.toml"
    async with watching(pattern, **options) as hints:
        for change in (
            folder.mkdir,
            lambda: (folder / "10.toml").write_text("new"),
            lambda: (folder / "10.toml").write_text("changed"),
            lambda: (folder / "10.toml").rename(folder / "20.toml"),
            lambda: (folder / "linked.toml").symlink_to(elsewhere / "one"),
            lambda: (elsewhere / "one").write_text("behind a link"),
            (folder / "20.toml").unlink,
        ):
            change()
            assert await hints.next() == {pattern}
            await hints.settle()
        for name in ("app.log", ".20.toml", "toml", "20.toml~"):
            (folder / name).write_text("of no concern")
        assert await hints.settle() == 0
        shutil.rmtree(folder)
        assert await hints.next() == {pattern}


async def test_polling_finds_a_child_that_comes_and_goes(tmp_path):
    folder = tmp_path / "conf.d"
    async with watching(folder, poll=0.05, mode="poll") as hints:
        for change in (folder.mkdir, (folder / "a").touch, (folder / "a").unlink, folder.rmdir):
            change()
            assert await hints.next() == {folder}


async def test_paths_are_asked_for_afresh(file):
    second = file.with_name("second.toml")
    paths = [file]
    async with Watcher(lambda: paths, debounce=0.0, max_wait=1.0, poll=0.05) as watcher:
        paths.append(second)
        changes = watcher.changes()
        assert await asyncio.wait_for(anext(changes), SOON) == {second}
        second.write_text("new")
        assert await asyncio.wait_for(anext(changes), SOON) == {second}
        await changes.aclose()


async def test_a_change_right_after_arming_is_not_missed(file):
    for _ in range(10):
        async with watching(file) as hints:
            file.write_text("first thing")
            assert await hints.next() == {file}


# Time.


async def test_files_that_change_together_give_one_hint(file):
    second = file.with_name("second.toml")
    async with watching(file, second, debounce=0.5, max_wait=10) as hints:
        replace(file)
        await asyncio.sleep(0.05)
        replace(second)
        assert await hints.next() == {file, second}
        assert await hints.settle() == 0


async def test_a_writer_that_never_rests_is_not_waited_for_beyond_max_wait(file):
    async with watching(file, debounce=30.0, max_wait=0.3) as hints:
        first = asyncio.create_task(hints.next())
        while not first.done():
            file.write_text("again")
            await asyncio.sleep(0.005)
        assert first.result() == {file}


async def test_hints_that_nobody_took_become_one(file):
    second = file.with_name("second.toml")
    async with Watcher(lambda: [file, second], debounce=0.0, max_wait=1.0, poll=60.0) as watcher:
        for path in (file, second):
            replace(path)
            async with asyncio.timeout(SOON):
                while path not in watcher._hinted:
                    await asyncio.sleep(0.005)
        changes = watcher.changes()
        assert await anext(changes) == {file, second}
        await changes.aclose()


@pytest.fixture
def deaf(monkeypatch):
    """Events are armed, and never told."""

    def sleep(feed, step, until, stop):
        stop.wait(max(0.0, until - monotonic()))
        return frozenset()

    monkeypatch.setattr(events.Events, "_collect", sleep)


async def test_the_safety_poll_finds_what_events_did_not_tell(file, deaf):
    async with watching(file, poll=0.05) as hints:
        assert hints.watcher.kind == "events"
        replace(file)
        assert await hints.next() == {file}


async def test_no_event_is_lost_at_the_end_of_a_wait(tmp_path):
    """A stamp of the same size within one tick of the clock may be the same: the event itself must arrive."""
    feed = events.Events([str(tmp_path.resolve())])
    stop, told = threading.Event(), set()

    def collect():
        while not stop.is_set():
            told.update(Path(event).name for event in feed.wait(monotonic() + 0.03, stop, 0.01))

    thread = threading.Thread(target=collect)
    thread.start()
    names = {str(number) for number in range(40)}
    for name in sorted(names):
        (tmp_path / name).touch()
        await asyncio.sleep(0.025 + int(name) / 4000)
    await asyncio.sleep(QUIET)
    stop.set()
    thread.join()
    feed.close()
    assert told == names


def test_a_wait_ends_even_when_the_wall_clock_is_set_back():
    assert events._Rhythm(threading.Event(), 0.0, monotonic() - 1).is_set()
    assert not events._Rhythm(threading.Event(), 0.0, monotonic() + 60).is_set()


# Without events.


REFUSALS = [
    OSError("OS file watch limit reached"),
    RuntimeError("Error creating recommended watcher: Too many open files (os error 24)"),
    PermissionError(errno.EACCES, "Permission denied"),
    Panic("at lib.rs"),
]


def refusing(error):
    def refuse(*_, **__):
        raise error

    return refuse


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_without_inotify_it_polls_and_says_so_once(file, monkeypatch, caplog, refusal):
    monkeypatch.setattr(events, "_open_notify", refusing(refusal))
    with caplog.at_level(logging.WARNING, "hotconf"):
        async with watching(file, poll=0.05) as hints:
            assert hints.watcher.kind == "polling"
            assert hints.watcher.reason.endswith(str(refusal))
            assert await hints.settle() == 0
            for _ in range(3):
                delete_and_recreate(file)
                assert await hints.next() == {file}
    (record,) = caplog.records
    assert "fs.inotify.max_user_watches" in record.message
    assert str(refusal) in record.message


async def test_watches_that_run_out_later_are_survived(file, monkeypatch, caplog):
    async with watching(file, poll=0.05) as hints:
        assert hints.watcher.kind == "events"
        monkeypatch.setattr(events, "_open_notify", refusing(OSError("limit reached")))
        shutil.rmtree(file.parent)
        file.parent.mkdir()
        await hints.until(file)
        await hints.settle()
        assert hints.watcher.kind == "polling"
        file.write_text("found by looking")
        await hints.until(file)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs", "9p"])
async def test_a_file_system_without_events_is_polled(file, monkeypatch, caplog, kind):
    table = mounts.Mounts({file.stat().st_dev: kind}, frozenset())
    monkeypatch.setattr(mounts.Mounts, "read", lambda: table)
    async with watching(file, poll=0.05) as hints:
        assert hints.watcher.kind == "polling"
        assert kind in hints.watcher.reason
        replace(file)
        assert await hints.next() == {file}


def test_a_mount_of_an_odd_name_is_one_line_of_the_mount_table(monkeypatch):
    line = "23 1 0:21 / /odd\x0c\r\x85\u2028\\040name rw - tmpfs none rw\n"
    monkeypatch.setattr(Path, "read_bytes", lambda _: line.encode() + b"24 1 0:22 / /mnt/\xff rw - nfs4 host:/ rw\n")
    table = mounts.Mounts.read()
    assert table.points == {"/odd\x0c\r\x85\u2028 name", "/mnt/\udcff"}
    assert table.types == {os.makedev(0, 21): "tmpfs", os.makedev(0, 22): "nfs4"}


def test_the_mount_table_is_read(tmp_path):
    table = mounts.Mounts.read()
    assert "/proc" in table.points
    assert table.types[Path("/proc").stat().st_dev] == "proc"
    assert table.remote([tmp_path.stat().st_dev]) is None
    line = "36 35 0:52 / /mnt/a\\040b rw,noatime shared:1 master:2 - fuse.sshfs host:/ rw"
    assert mounts.parse_mount(line) == (os.makedev(0, 52), "/mnt/a b", "fuse.sshfs")


def test_a_machine_without_a_mount_table_knows_of_no_remote_file_system(monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", refusing(FileNotFoundError()))
    assert mounts.Mounts.read() == mounts.Mounts({}, frozenset())


async def test_a_single_mounted_file_is_watched_itself(file, monkeypatch):
    """Its events are told in the folder it comes from, which may lie outside of what the process can see."""
    opened = []
    real = events._open_notify
    monkeypatch.setattr(events, "_open_notify", lambda folders: opened.append(folders) or real(folders))
    monkeypatch.setattr(mounts.Mounts, "read", lambda: mounts.Mounts({}, frozenset({str(file.resolve())})))
    async with watching(file) as hints:
        assert str(file.resolve()) in opened[-1]
        write_in_place(file)
        assert await hints.next() == {file}


async def test_a_parent_that_cannot_be_read_is_left_out(file, monkeypatch):
    opened = []
    real = events._open_notify
    monkeypatch.setattr(events, "_open_notify", lambda folders: opened.append(folders) or real(folders))
    monkeypatch.setattr(observer, "_readable", lambda folder: False)
    async with watching(file) as hints:
        assert opened == [[str(file.parent.resolve())]]
        assert hints.watcher.kind == "events"


async def test_a_folder_that_vanishes_while_being_armed_is_surveyed_again(file, monkeypatch):
    real = events._open_notify

    def vanish(folders):
        monkeypatch.setattr(events, "_open_notify", real)
        shutil.rmtree(file.parent)
        return real(folders)

    monkeypatch.setattr(events, "_open_notify", vanish)
    async with watching(file) as hints:
        assert hints.watcher.kind == "events"
        file.parent.mkdir()
        file.write_text("back")
        await hints.until(file)


async def test_a_name_that_is_not_utf8_costs_a_rearming_and_a_habit_of_it_the_events(file):
    strange = Path(os.fsdecode(os.fsencode(file.parent) + b"/\xff\xfe"))
    async with watching(file, poll=30.0) as hints:
        os.mkdir(strange)
        await hints.until(file)  # whatever else was told along with it is lost
        await hints.settle()
        assert hints.watcher.kind == "events"
        replace(file)
        await hints.until(file)
        while hints.watcher.kind == "events":
            strange.rmdir()
            strange.mkdir()
            await hints.until(file)


class Panicking:
    """Watchfiles, from the moment on that it panics."""

    close = raising(Panic("poisoned"))
    watch = raising(Panic("at lib.rs"))


async def test_a_panic_in_watchfiles_while_waiting_is_survived_by_polling(file, monkeypatch, caplog):
    async with watching(file, poll=0.5) as hints:
        assert hints.watcher.kind == "events"
        notify = hints.watcher._observer._feed._notify
        monkeypatch.setattr(hints.watcher._observer._feed, "_notify", Panicking())
        monkeypatch.setattr(events, "_open_notify", lambda _folders: Panicking())
        await hints.until(file)  # the events told along with it are lost
        await hints.settle()
        assert hints.watcher.kind == "polling"
        assert hints.watcher.reason == "watchfiles broke: Panic: at lib.rs"
        replace(file)
        await hints.until(file)
        notify.close()
    assert len(caplog.records) == 1


async def test_a_panic_in_what_is_to_be_watched_is_told(file):
    calls = iter([[file]] * 50)
    watcher = Watcher(lambda: next(calls, None) or raising(Panic("at lib.rs"))(), debounce=0.0, max_wait=2.0, poll=0.01)
    async with watcher:
        with pytest.raises(RuntimeError, match=r"Panic: at lib\.rs"):
            async for _ in watcher.changes():
                pass


async def test_a_fifo_in_place_of_the_file_blocks_nobody(file):
    for mode in ("auto", "poll"):
        async with watching(file, poll=0.05, mode=mode) as hints:
            file.unlink()
            os.mkfifo(file)
            await hints.until(file)
            await hints.settle()
            delete_and_recreate(file)
            await hints.until(file)
    os.mkfifo(file.with_name("fifo"))
    assert survey._digest(str(file.with_name("fifo"))) == b""


def test_content_is_compared_up_to_the_limit(file, monkeypatch):
    monkeypatch.setattr(survey, "DIGEST_LIMIT", 3)
    file.write_text("abc")
    short = survey._digest(str(file))
    file.write_text("abd")
    assert short
    assert survey._digest(str(file)) not in (short, b"")
    file.write_text("abcd")
    assert survey._digest(str(file)) == b""
    assert survey._digest(str(file.with_name("missing"))) == b""


def test_content_tells_where_no_time_does(file):
    """As on a network file system: same size, times and inode."""
    status = file.stat()
    lookup = survey.Lookup(hashing=True)
    before = lookup._stamp(str(file), status)
    file.write_text("new")
    assert lookup._stamp(str(file), status) != before


# The end.


def held():
    """Threads (watchfiles' own too) and descriptors of this process."""
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


async def until_released(before):
    """An earlier test's threads may still have been ending when `before` was taken: no more than that is all we ask."""
    async with asyncio.timeout(SOON):
        while any(now > then for now, then in zip(held(), before, strict=True)):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("mode", ["auto", "poll"])
async def test_leaving_leaves_no_thread_and_no_descriptor_behind(file, mode):
    before = held()
    for _ in range(5):
        async with watching(file, mode=mode) as hints:
            replace(file)
            if mode == "auto":
                await hints.next()
    await until_released(before)


async def test_rearming_leaves_nothing_behind(file):
    async with watching(file) as hints:
        before = held()
        for _ in range(10):
            shutil.rmtree(file.parent)
            file.parent.mkdir()
            file.write_text("back")
            await hints.until(file)
            await hints.settle()
        await until_released(before)


async def test_it_can_be_cancelled_at_any_point(file):
    before = held()

    async def use():
        async with watching(file) as hints:
            await hints.next()

    for delay in (0, 0, 0.001, 0.005, 0.02, 0.05):
        task = asyncio.create_task(use())
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await until_released(before)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_cancelled_wait_loses_no_hint(file):
    async with Watcher(lambda: [file], debounce=0.0, max_wait=1.0, poll=60.0) as watcher:
        waiting = asyncio.create_task(anext(watcher.changes()))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        replace(file)
        assert await asyncio.wait_for(anext(watcher.changes()), SOON) == {file}


async def test_leaving_ends_the_iteration(file):
    async with Watcher(lambda: [file], debounce=0.0, max_wait=1.0, poll=60.0) as watcher:
        collecting = asyncio.create_task(Hints(watcher).collect())
        await asyncio.sleep(0)
    await asyncio.wait_for(collecting, SOON)


async def test_an_error_of_paths_is_raised_at_the_start():
    def paths():
        raise LookupError("no paths")

    with pytest.raises(LookupError, match="no paths"):
        async with Watcher(paths, debounce=0.0, max_wait=1.0, poll=60.0):
            pytest.fail("it never got armed")


async def test_an_error_of_paths_is_raised_by_the_iteration(file):
    paths = [file]

    def ask():
        return paths if paths else 1 / 0

    async with Watcher(ask, debounce=0.0, max_wait=1.0, poll=0.05) as watcher:
        paths.clear()
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(anext(watcher.changes()), SOON)


async def test_a_thread_stuck_in_a_dead_mount_is_left_behind(file, monkeypatch):
    stuck, release = threading.Event(), threading.Event()
    monkeypatch.setattr("hotconf.watch.watcher.EXIT_PATIENCE", 0.05)
    paths = [file]

    def ask():
        if not paths:
            stuck.set()
            release.wait(SOON)
        return [file]

    async with Watcher(ask, debounce=0.0, max_wait=1.0, poll=0.02):
        paths.clear()
        async with asyncio.timeout(SOON):
            while not stuck.is_set():
                await asyncio.sleep(0.005)
    assert not release.is_set()
    release.set()


def test_a_closed_loop_ends_the_thread_in_peace(file):
    async def abandon():
        await Watcher(lambda: [file], debounce=0.0, max_wait=1.0, poll=0.02, mode="poll").__aenter__()

    before = set(threading.enumerate())
    asyncio.run(abandon())
    (thread,) = set(threading.enumerate()) - before
    replace(file)
    thread.join(SOON)
    assert not thread.is_alive()


def test_a_program_that_exits_without_leaving_exits_cleanly(file):
    code = """if True:
        import asyncio, pathlib, sys
        from hotconf.watch import Watcher
        watcher = Watcher(lambda: [pathlib.Path(sys.argv[1])], debounce=0.0, max_wait=1.0, poll=1.0)
        asyncio.run(watcher.__aenter__())
    """
    for _ in range(3):
        subprocess.run(
            [sys.executable, "-c", code, file], check=True, cwd=Path(watch.__file__).parents[2], timeout=SOON
        )


def test_a_forked_child_does_not_wait_at_its_exit_for_a_thread_that_it_has_not(file):
    code = """if True:
        import asyncio, os, pathlib, sys
        from hotconf.watch import Watcher, observer
        observer.EXIT_PATIENCE = 600.0
        watcher = Watcher(lambda: [pathlib.Path(sys.argv[1])], debounce=0.0, max_wait=1.0, poll=1.0)
        asyncio.run(watcher.__aenter__())
        child = os.fork()
        if child:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        sys.exit(0)
    """
    subprocess.run([sys.executable, "-c", code, file], check=True, cwd=Path(watch.__file__).parents[2], timeout=SOON)


def test_it_works_under_uvloop(file):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        async with watching(file) as hints:
            replace(file)
            return await hints.next()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == {file}


def test_the_module_alone_pulls_in_no_watchfiles():
    code = "import sys, hotconf.watch; sys.exit('watchfiles' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(watch.__file__).parents[2])
