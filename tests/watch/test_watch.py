"""Watching: every way of replacing a file gives a change notice, and nothing else does."""

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
from types import SimpleNamespace

import pytest
from watchfiles._rust_notify import RustNotify

from hotconf import watch
from hotconf.sources import mounts
from hotconf.watch import Watcher, events, states
from tests.heart import Panic, raising

SOON = 20.0  # generous: a notice that comes at all comes within a tenth of a second
QUIET = 0.2  # long enough for a notice that should not come


class Notices:
    """The notices of a running watcher. A task of their own collects them, so that no test depends on when it reads."""

    def __init__(self, watcher):
        self.watcher = watcher
        self.queue = asyncio.Queue()

    async def collect(self):
        async for notice in self.watcher.changes():
            self.queue.put_nowait(notice)

    async def next(self):
        return await asyncio.wait_for(self.queue.get(), SOON)

    async def until(self, path):
        while path not in await self.next():
            pass

    async def drain(self):
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
        notices = Notices(watcher)
        task = asyncio.create_task(notices.collect())
        yield notices
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
async def test_every_way_of_writing_a_file_gives_a_notice(file, write):
    async with watching(file) as notices:
        assert notices.watcher.kind == "events"
        write(file)
        assert await notices.next() == {file}


@pytest.mark.parametrize("write", [write for write in WRITERS if write is not Path.touch])
async def test_polling_finds_every_way_of_writing_too(file, write):
    async with watching(file, poll=0.05, mode="poll") as notices:
        assert (notices.watcher.kind, notices.watcher.reason) == ("polling", None)
        write(file)
        assert await notices.next() == {file}


async def test_each_of_many_writes_is_seen(file):
    async with watching(file) as notices:
        for round_ in range(30):
            WRITERS[round_ % 7](file)
            await notices.until(file)


async def test_a_neighbour_gives_no_notice(file):
    neighbour = file.with_name("app.toml.swp")
    async with watching(file) as notices:
        neighbour.write_text("x")
        neighbour.rename(file.with_name("other"))
        (file.parent / "folder").mkdir()
        assert await notices.drain() == 0
        replace(file)
        assert await notices.next() == {file}


async def test_only_the_changed_file_is_named(file):
    second = file.with_name("second.toml")
    second.write_text("old")
    async with watching(file, second) as notices:
        replace(second)
        assert await notices.next() == {second}


async def test_a_relative_path_is_reported_as_it_was_given(file, monkeypatch):
    monkeypatch.chdir(file.parent.parent)
    path = Path("etc/../etc/app.toml")
    async with watching(path) as notices:
        monkeypatch.chdir("/")
        replace(file)
        assert await notices.next() == {path}


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
    async with watching(file, volume) as notices:
        for number in range(1, 6):
            publish(number)
            await notices.until(file)
            await notices.drain()
        (volume / "..2024_5" / "app.toml").write_text("in place, in the newest folder")
        assert await notices.next() == {file, volume}


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
    async with watching(link) as notices:
        (elsewhere / "one").write_text("edited")
        await notices.until(link)
        retarget(link, elsewhere / "two")
        await notices.until(link)
        await notices.drain()
        (elsewhere / "one").write_text("no longer meant")
        assert await notices.drain() == 0
        replace(elsewhere / "two")
        await notices.until(link)


async def test_a_link_in_the_middle_of_the_way(tmp_path):
    for release in ("r1", "r2", "r3"):
        (tmp_path / "app" / release / "conf").mkdir(parents=True)
        (tmp_path / "app" / release / "conf" / "app.toml").write_text("the same text")
    current = tmp_path / "app" / "current"
    current.symlink_to("r1")
    file = current / "conf" / "app.toml"
    async with watching(file) as notices:
        for release in ("r2", "r3"):
            retarget(current, release)
            await notices.until(file)
            await notices.drain()
            (tmp_path / "app" / release / "conf" / "app.toml").write_text("edited")
            await notices.until(file)
            await notices.drain()


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_a_parent_folder_swapped_by_rename(tmp_path, depth):
    below = Path("conf", "d", "app.toml").parts[3 - depth :]
    for version in ("live", "next"):
        (tmp_path / version).joinpath(*below).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / version).joinpath(*below).write_text(version)
    file = (tmp_path / "live").joinpath(*below)
    async with watching(file) as notices:
        (tmp_path / "live").rename(tmp_path / "past")
        (tmp_path / "next").rename(tmp_path / "live")
        await notices.until(file)
        await notices.drain()
        (tmp_path / "past").joinpath(*below).write_text("no longer meant")
        assert await notices.drain() == 0
        file.write_text("edited after the swap")
        await notices.until(file)


async def test_a_folder_deleted_and_made_again_under_its_inode_number(file):
    async with watching(file) as notices:
        for _ in range(5):
            shutil.rmtree(file.parent)
            file.parent.mkdir()  # ext4 hands out the same inode number again
            await notices.until(file)
            file.write_text("back")
            await notices.until(file)
            await notices.drain()
            file.write_text("and edited")
            await notices.until(file)
            await notices.drain()


async def test_a_folder_that_appears_step_by_step(tmp_path):
    file = tmp_path / "a" / "b" / "c" / "app.toml"
    async with watching(file) as notices:
        for folder in (*reversed(file.parents[:3]), None):
            folder.mkdir() if folder else file.write_text("here")
            await notices.until(file)
            await notices.drain()
        file.write_text("edited")
        assert await notices.next() == {file}


async def test_what_came_and_went_within_one_look_is_told(tmp_path):
    """Nothing differs afterwards, but a reader may have seen it."""
    async with watching(tmp_path / "a" / "app.toml", debounce=0.1) as notices:
        (tmp_path / "a").mkdir()
        (tmp_path / "a").rmdir()
        await notices.until(tmp_path / "a" / "app.toml")


async def test_a_folder_that_appears_all_at_once(tmp_path):
    file = tmp_path / "a" / "b" / "c" / "app.toml"
    (tmp_path / "draft" / "b" / "c").mkdir(parents=True)
    (tmp_path / "draft" / "b" / "c" / "app.toml").write_text("here")
    async with watching(file) as notices:
        (tmp_path / "draft").rename(tmp_path / "a")
        await notices.until(file)


async def test_a_broken_link_whose_target_appears(tmp_path):
    link = tmp_path / "app.toml"
    link.symlink_to("later/app.toml")
    async with watching(link) as notices:
        (tmp_path / "later").mkdir()
        (tmp_path / "later" / "app.toml").write_text("here")
        await notices.until(link)


async def test_links_in_a_circle_and_a_file_used_as_a_folder_are_watched(tmp_path):
    circle, file = tmp_path / "circle", tmp_path / "file"
    circle.symlink_to("circle")
    file.write_text("x")
    async with watching(circle, file / "app.toml") as notices:
        circle.unlink()
        circle.write_text("a file at last")
        await notices.until(circle)
        file.unlink()
        file.mkdir()
        (file / "app.toml").write_text("here")
        await notices.until(file / "app.toml")


async def test_of_a_folder_any_direct_child_matters(tmp_path, elsewhere):
    folder = tmp_path / "conf.d"
    (folder / "sub").mkdir(parents=True)
    (folder / "linked.toml").symlink_to(elsewhere / "one")
    async with watching(folder) as notices:
        for change in (
            lambda: (folder / "10.toml").write_text("new"),
            lambda: (folder / "10.toml").write_text("changed"),
            (folder / "10.toml").unlink,
            lambda: (elsewhere / "one").write_text("behind a link"),
        ):
            change()
            assert await notices.next() == {folder}
            await notices.drain()
        (folder / "sub" / "deep.toml").write_text("too deep")
        (elsewhere / "two").write_text("not linked")
        assert await notices.drain() == 0


@pytest.mark.parametrize("options", [{}, {"poll": 0.05, "mode": "poll"}])
async def test_of_a_pattern_only_the_children_that_it_names_matter(tmp_path, elsewhere, options):
    folder = tmp_path / "conf.d"
    pattern = folder / "*.toml"
    async with watching(pattern, **options) as notices:
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
            assert await notices.next() == {pattern}
            await notices.drain()
        for name in ("app.log", ".20.toml", "toml", "20.toml~"):
            (folder / name).write_text("of no concern")
        assert await notices.drain() == 0
        shutil.rmtree(folder)
        assert await notices.next() == {pattern}


async def test_polling_finds_a_child_that_comes_and_goes(tmp_path):
    folder = tmp_path / "conf.d"
    async with watching(folder, poll=0.05, mode="poll") as notices:
        for change in (folder.mkdir, (folder / "a").touch, (folder / "a").unlink, folder.rmdir):
            change()
            assert await notices.next() == {folder}


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


async def test_a_refresh_watches_what_is_new_without_a_notice_for_it(file):
    second = file.parent.parent / "elsewhere" / "second.toml"
    second.parent.mkdir()
    paths = [file]
    async with Watcher(lambda: paths, debounce=0.0, max_wait=1.0, poll=60.0) as watcher:
        notices = Notices(watcher)
        task = asyncio.create_task(notices.collect())
        for path in (second, second.with_name("third.toml")):
            paths.append(path)
            await asyncio.wait_for(watcher.refresh(), SOON)
            assert await notices.drain() == 0
            path.write_text("new")
            assert await notices.next() == {path}
            await notices.drain()
        replace(file)
        assert await notices.next() == {file}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("mode", ["auto", "poll"])
async def test_a_refresh_loses_no_change_of_what_was_watched_before(file, mode):
    paths = [file]
    async with Watcher(lambda: paths, debounce=0.0, max_wait=1.0, poll=60.0, mode=mode) as watcher:
        notices = Notices(watcher)
        task = asyncio.create_task(notices.collect())
        for number in range(10):
            paths.append(file.with_name(f"{number}.toml"))
            refreshing = asyncio.create_task(watcher.refresh())
            WRITERS[number % 7](file)
            await asyncio.wait_for(refreshing, SOON)
            await asyncio.wait_for(watcher.refresh(), SOON)  # without events the first one may have looked too early
            await notices.until(file)
            await notices.drain()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_refresh_returns_when_the_watch_has_ended(file):
    paths = [file]

    def ask():
        return paths if paths else 1 / 0

    async with Watcher(ask, debounce=0.0, max_wait=1.0, poll=60.0) as watcher:
        paths.clear()
        await asyncio.wait_for(asyncio.gather(watcher.refresh(), watcher.refresh()), SOON)
        await asyncio.wait_for(watcher.refresh(), SOON)
        with pytest.raises(ZeroDivisionError):
            await anext(watcher.changes())
    await asyncio.wait_for(watcher.refresh(), SOON)


async def test_a_change_right_after_arming_is_not_missed(file):
    for _ in range(10):
        async with watching(file) as notices:
            file.write_text("first thing")
            assert await notices.next() == {file}


# Time.


async def test_files_that_change_together_give_one_notice(file):
    second = file.with_name("second.toml")
    async with watching(file, second, debounce=0.5, max_wait=10) as notices:
        replace(file)
        await asyncio.sleep(0.05)
        replace(second)
        assert await notices.next() == {file, second}
        assert await notices.drain() == 0


async def test_a_writer_that_never_rests_is_not_waited_for_beyond_max_wait(file):
    async with watching(file, debounce=30.0, max_wait=0.3) as notices:
        first = asyncio.create_task(notices.next())
        while not first.done():
            file.write_text("again")
            await asyncio.sleep(0.005)
        assert first.result() == {file}


async def test_notices_that_were_not_taken_become_one(file):
    second = file.with_name("second.toml")
    async with Watcher(lambda: [file, second], debounce=0.0, max_wait=1.0, poll=60.0) as watcher:
        for path in (file, second):
            replace(path)
            async with asyncio.timeout(SOON):
                while path not in watcher._changed:
                    await asyncio.sleep(0.005)
        changes = watcher.changes()
        assert await anext(changes) == {file, second}
        await changes.aclose()


@pytest.fixture
def deaf(monkeypatch):
    """Events are armed, and never told."""

    def sleep(source, until, wake, alert_until):
        wake.wait(min(max(0.0, until - monotonic()), threading.TIMEOUT_MAX))
        return frozenset()

    monkeypatch.setattr(events.NativeEvents, "wait", sleep)


async def test_the_safety_poll_finds_what_events_did_not_tell(file, deaf):
    async with watching(file, poll=0.05) as notices:
        assert notices.watcher.kind == "events"
        replace(file)
        assert await notices.next() == {file}


@pytest.mark.parametrize("woken", [False, True])
async def test_no_event_is_lost_at_the_end_of_a_wait(tmp_path, woken):
    """A stamp of the same size within one tick of the clock may be the same: the event itself must arrive."""
    source = events.NativeEvents([str(tmp_path.resolve())])
    wake, stopped, told = threading.Event(), threading.Event(), set()

    def collect():
        while not stopped.is_set():
            until = monotonic() + (60 if woken else 0.03)
            told.update(Path(event).name for event in source.wait(until, wake, until))
            wake.clear()

    thread = threading.Thread(target=collect)
    thread.start()
    names = {str(number) for number in range(40)}
    for name in sorted(names):
        (tmp_path / name).touch()
        if woken:
            wake.set()
        await asyncio.sleep(0.025 + int(name) / 4000)
    await asyncio.sleep(QUIET)
    stopped.set()
    wake.set()
    thread.join()
    source.close()
    assert told == names


def test_the_private_backend_of_watchfiles_takes_and_returns_what_it_did(tmp_path):
    """`watchfiles._rust_notify.RustNotify` is private to watchfiles, which is bounded above for it."""
    options = {"debug": False, "force_polling": False, "poll_delay_ms": 300, "recursive": False}
    notify = RustNotify([str(tmp_path)], **options, ignore_permission_denied=False)
    (tmp_path / "file").touch()
    with pytest.raises(LookupError):  # leaves the event in the queue
        notify.watch(10, 50, 0, SimpleNamespace(is_set=raising(LookupError)))
    assert (1, str(tmp_path / "file")) in notify.watch(10, 0, 0, None)
    notify.close()


# Without events.


REFUSALS = [
    OSError("OS file watch limit reached"),
    RuntimeError("Error creating recommended watcher: Too many open files (os error 24)"),
    PermissionError(errno.EACCES, "Permission denied"),
    Panic("at lib.rs"),
]


NOTIFY = "watchfiles._rust_notify.RustNotify"


def refusing(error):
    def refuse(*_, **__):
        raise error

    return refuse


def recorded(monkeypatch):
    """The folders of every watch that is set from now on."""
    opened = []
    monkeypatch.setattr(NOTIFY, lambda folders, **options: opened.append(folders) or RustNotify(folders, **options))
    return opened


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_without_inotify_it_polls_and_says_so_once(file, monkeypatch, caplog, refusal):
    monkeypatch.setattr(NOTIFY, refusing(refusal))
    with caplog.at_level(logging.WARNING, "hotconf"):
        async with watching(file, poll=0.05) as notices:
            assert notices.watcher.kind == "polling"
            assert notices.watcher.reason.endswith(str(refusal))
            assert await notices.drain() == 0
            for _ in range(3):
                delete_and_recreate(file)
                assert await notices.next() == {file}
    (record,) = caplog.records
    assert "fs.inotify.max_user_watches" in record.message
    assert str(refusal) in record.message


async def test_watches_that_run_out_later_are_survived(file, monkeypatch, caplog):
    async with watching(file, poll=0.05) as notices:
        assert notices.watcher.kind == "events"
        monkeypatch.setattr(NOTIFY, refusing(OSError("limit reached")))
        shutil.rmtree(file.parent)
        file.parent.mkdir()
        await notices.until(file)
        await notices.drain()
        assert notices.watcher.kind == "polling"
        file.write_text("found by looking")
        await notices.until(file)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs", "9p"])
async def test_a_file_system_without_events_is_polled(file, monkeypatch, caplog, kind):
    table = mounts.Mounts({file.stat().st_dev: kind}, frozenset())
    monkeypatch.setattr(mounts.Mounts, "read", lambda: table)
    async with watching(file, poll=0.05) as notices:
        assert notices.watcher.kind == "polling"
        assert kind in notices.watcher.reason
        replace(file)
        assert await notices.next() == {file}


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
    opened = recorded(monkeypatch)
    monkeypatch.setattr(mounts.Mounts, "read", lambda: mounts.Mounts({}, frozenset({str(file.resolve())})))
    async with watching(file) as notices:
        assert str(file.resolve()) in opened[-1]
        write_in_place(file)
        assert await notices.next() == {file}


async def test_a_parent_that_cannot_be_read_is_left_out(file, monkeypatch):
    opened = recorded(monkeypatch)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    async with watching(file) as notices:
        assert opened == [[str(file.parent.resolve())]]
        assert notices.watcher.kind == "events"


async def test_a_folder_that_vanishes_while_its_watch_is_set_is_looked_at_again(file, monkeypatch):
    def vanish(folders, **options):
        monkeypatch.setattr(NOTIFY, RustNotify)
        shutil.rmtree(file.parent)
        return RustNotify(folders, **options)

    monkeypatch.setattr(NOTIFY, vanish)
    async with watching(file) as notices:
        assert notices.watcher.kind == "events"
        file.parent.mkdir()
        file.write_text("back")
        await notices.until(file)


async def test_a_name_that_is_not_utf8_sets_the_watches_again_and_many_of_them_end_the_events(file):
    strange = Path(os.fsdecode(os.fsencode(file.parent) + b"/\xff\xfe"))
    async with watching(file, poll=30.0) as notices:
        os.mkdir(strange)
        await notices.until(file)  # whatever else was told along with it is lost
        await notices.drain()
        assert notices.watcher.kind == "events"
        replace(file)
        await notices.until(file)
        while notices.watcher.kind == "events":
            strange.rmdir()
            strange.mkdir()
            await notices.until(file)


class Panicking:
    """Watchfiles, from the moment on that it panics."""

    close = raising(Panic("poisoned"))
    watch = raising(Panic("at lib.rs"))


async def test_a_panic_in_watchfiles_while_waiting_is_survived_by_polling(file, monkeypatch, caplog):
    async with watching(file, poll=0.5) as notices:
        assert notices.watcher.kind == "events"
        source = notices.watcher._follower.thread._source
        notify = source._notify
        monkeypatch.setattr(source, "_notify", Panicking())
        monkeypatch.setattr(NOTIFY, lambda *_, **__: Panicking())
        await notices.until(file)  # the events told along with it are lost
        await notices.drain()
        assert notices.watcher.kind == "polling"
        assert notices.watcher.reason == "watchfiles broke: Panic: at lib.rs"
        replace(file)
        await notices.until(file)
        notify.close()
    assert len(caplog.records) == 1


async def test_a_panic_in_what_is_to_be_watched_is_told(file):
    calls = iter([[file]] * 3)
    watcher = Watcher(lambda: next(calls, None) or raising(Panic("at lib.rs"))(), debounce=0.0, max_wait=2.0, poll=0.01)
    async with watcher:
        with pytest.raises(RuntimeError, match=r"Panic: at lib\.rs"):
            async for _ in watcher.changes():
                pass


async def test_a_fifo_in_place_of_the_file_does_not_block(file):
    for mode in ("auto", "poll"):
        async with watching(file, poll=0.05, mode=mode) as notices:
            file.unlink()
            os.mkfifo(file)
            await notices.until(file)
            await notices.drain()
            delete_and_recreate(file)
            await notices.until(file)
    os.mkfifo(file.with_name("fifo"))
    assert states._digest(str(file.with_name("fifo"))) == b""


def test_content_is_compared_up_to_the_limit(file, monkeypatch):
    monkeypatch.setattr(states, "DIGEST_LIMIT", 3)
    file.write_text("abc")
    short = states._digest(str(file))
    file.write_text("abd")
    assert short
    assert states._digest(str(file)) not in (short, b"")
    file.write_text("abcd")
    assert states._digest(str(file)) == b""
    assert states._digest(str(file.with_name("missing"))) == b""


def test_content_tells_where_no_time_does(file):
    """As on a network file system: same size, times and inode."""
    status = file.stat()
    resolver = states.PathResolver(digests=True)
    before = resolver._stamp(str(file), status)
    file.write_text("new")
    assert resolver._stamp(str(file), status) != before


# The end.


def held():
    """Threads (watchfiles' own too) and descriptors of this process."""
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


async def until_released(before):
    """Threads of an earlier test may still have been ending when `before` was taken, so fewer are accepted."""
    async with asyncio.timeout(SOON):
        while any(now > then for now, then in zip(held(), before, strict=True)):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("mode", ["auto", "poll"])
async def test_leaving_leaves_no_thread_and_no_descriptor_behind(file, mode):
    before = held()
    for _ in range(5):
        async with watching(file, mode=mode) as notices:
            replace(file)
            if mode == "auto":
                await notices.next()
    await until_released(before)


async def test_rearming_leaves_nothing_behind(file):
    async with watching(file) as notices:
        before = held()
        for _ in range(10):
            shutil.rmtree(file.parent)
            file.parent.mkdir()
            file.write_text("back")
            await notices.until(file)
            await notices.drain()
        await until_released(before)


async def test_it_can_be_cancelled_at_any_point(file):
    before = held()

    async def use():
        async with watching(file) as notices:
            await notices.next()

    for delay in (0, 0, 0.001, 0.005, 0.02, 0.05):
        task = asyncio.create_task(use())
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await until_released(before)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_cancelled_wait_loses_no_notice(file):
    async with Watcher(lambda: [file], debounce=0.0, max_wait=1.0, poll=60.0) as watcher:
        waiting = asyncio.create_task(anext(watcher.changes()))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        replace(file)
        assert await asyncio.wait_for(anext(watcher.changes()), SOON) == {file}


async def test_leaving_ends_the_iteration(file):
    async with Watcher(lambda: [file], debounce=0.0, max_wait=1.0, poll=60.0) as watcher:
        collecting = asyncio.create_task(Notices(watcher).collect())
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
    monkeypatch.setattr("hotconf.watch.watcher.EXIT_TIMEOUT", 0.05)
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


def test_a_closed_loop_ends_the_thread(file):
    async def abandon():
        await Watcher(lambda: [file], debounce=0.0, max_wait=1.0, poll=0.02, mode="poll").__aenter__()

    asyncio.run(abandon())
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "hotconf-watch")
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


# Many watchers.


def inotify_instances():
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that has listed the folder
            count += "inotify" in os.readlink(f"/proc/self/fd/{number}")
    return count


def numbered(tmp_path, count):
    files = [tmp_path / str(number) / "app.toml" for number in range(count)]
    for path in files:
        path.parent.mkdir()
        path.write_text("old")
    return files


async def test_all_watchers_share_one_thread_and_one_instance_of_inotify(tmp_path):
    files = numbered(tmp_path, 40)
    async with contextlib.AsyncExitStack() as stack:
        every = [await stack.enter_async_context(watching(file)) for file in files]
        async with asyncio.timeout(SOON):
            while any(thread.name == "hotconf-look" for thread in threading.enumerate()):
                await asyncio.sleep(0.001)
        assert sum(thread.name == "hotconf-watch" for thread in threading.enumerate()) == 1
        assert inotify_instances() == 1
        for file, notices in zip(files, every, strict=True):
            replace(file)
            assert await notices.next() == {file}
        assert [await notices.drain() for notices in every[::8]] == [0] * 5


async def test_watchers_that_come_and_go_leave_the_others_alone(tmp_path):
    files = numbered(tmp_path, 12)
    async with watching(files[0]) as notices:
        for file in files[1:]:
            async with watching(file) as other:
                replace(files[0])
                assert await notices.next() == {files[0]}
                replace(file)
                assert await other.next() == {file}
            replace(files[0])
            assert await notices.next() == {files[0]}
        await notices.drain()
        assert notices.watcher._follower.thread._opened == notices.watcher._follower.folders
        replace(file)
        assert await notices.drain() == 0


async def test_a_watcher_that_hangs_delays_no_other(tmp_path):
    files = numbered(tmp_path, 2)
    release = threading.Event()
    hangs = threading.Event()

    def ask():
        if hangs.is_set():
            release.wait(SOON)
        return [files[0]]

    before = monotonic()
    async with Watcher(ask, debounce=0.0, max_wait=1.0, poll=60.0) as stuck, watching(files[1]) as notices:
        hangs.set()
        refreshing = asyncio.create_task(stuck.refresh())
        for _ in range(5):
            replace(files[1])
            assert await notices.next() == {files[1]}
        async with watching(files[0]) as newcomer:
            replace(files[0])
            assert await newcomer.next() == {files[0]}
        assert not refreshing.done()
    await asyncio.wait_for(refreshing, SOON)  # the watch has ended, although its look has not
    assert not release.is_set()
    assert monotonic() - before < SOON
    release.set()


async def test_a_watcher_that_fails_ends_no_other(tmp_path):
    files = numbered(tmp_path, 2)
    paths = [files[0]]
    async with (
        watching(files[1]) as notices,
        Watcher(lambda: paths or 1 / 0, debounce=0.0, max_wait=1.0, poll=60.0) as failing,
    ):
        paths.clear()
        await failing.refresh()
        with pytest.raises(ZeroDivisionError):
            await anext(failing.changes())
        replace(files[1])
        assert await notices.next() == {files[1]}


async def test_what_watchfiles_refuses_to_one_it_refuses_to_no_other(tmp_path, monkeypatch, caplog):
    files = numbered(tmp_path, 3)

    def refuse(folders, **options):
        if str(files[1].parent) in folders:
            raise OSError("OS file watch limit reached")
        return RustNotify(folders, **options)

    monkeypatch.setattr(NOTIFY, refuse)
    async with (
        watching(files[0]) as first,
        watching(files[1], poll=0.05) as refused,
        watching(files[2]) as last,
    ):
        assert [notices.watcher.kind for notices in (first, refused, last)] == ["events", "polling", "events"]
        for file, notices in zip(files, (first, refused, last), strict=True):
            replace(file)
            assert await notices.next() == {file}
    assert len(caplog.records) == 1


async def test_names_that_are_not_utf8_end_the_events_of_their_own_watcher_only(tmp_path):
    files = numbered(tmp_path, 2)
    strange = Path(os.fsdecode(os.fsencode(files[0].parent) + b"/\xff\xfe"))
    async with watching(files[0], poll=30.0) as first, watching(files[1], poll=30.0) as second:
        while first.watcher.kind == "events":
            strange.mkdir()
            await first.until(files[0])
            strange.rmdir()
            await first.until(files[0])
        await second.drain()
        assert second.watcher.kind == "events"
        replace(files[1])
        assert await second.next() == {files[1]}
        shutil.rmtree(files[1].parent)
        files[1].parent.mkdir()
        await second.until(files[1])


def test_watchers_of_several_loops_share_the_thread(tmp_path):
    files = numbered(tmp_path, 4)
    here = threading.Barrier(4)
    faults = []

    async def main(file):
        async with watching(file) as notices:
            await asyncio.to_thread(here.wait, SOON)
            assert sum(thread.name == "hotconf-watch" for thread in threading.enumerate()) == 1
            replace(file)
            assert await notices.next() == {file}
            await asyncio.to_thread(here.wait, SOON)

    def run(file):
        try:
            asyncio.run(main(file))
        except BaseException as error:
            faults.append(error)
            here.abort()

    threads = [threading.Thread(target=run, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert faults == []


async def test_a_thread_that_breaks_is_told_to_all_its_watchers_and_another_one_begins(tmp_path, monkeypatch):
    files = numbered(tmp_path, 2)
    async with watching(files[0]) as first, watching(files[1]) as second:
        with monkeypatch.context() as broken:
            broken.setattr(first.watcher._follower, "give_notice", raising(ZeroDivisionError("a fault of the thread")))
            replace(files[0])
            for notices in (first, second):
                await asyncio.wait_for(notices.watcher.refresh(), SOON)
                assert isinstance(notices.watcher._error, ZeroDivisionError)
        async with watching(files[0]) as third:
            replace(files[0])
            assert await third.next() == {files[0]}


def test_a_forked_child_has_a_thread_of_its_own(tmp_path):
    files = numbered(tmp_path, 2)
    code = """if True:
        import asyncio, os, pathlib, sys
        from hotconf.watch import Watcher

        def watcher(name):
            return Watcher(lambda: [pathlib.Path(name)], debounce=0.0, max_wait=1.0, poll=60.0)

        async def use(name):
            async with watcher(name) as watch:
                pathlib.Path(name).write_text("new")
                assert await anext(watch.changes()) == {pathlib.Path(name)}

        async def main():
            async with watcher(sys.argv[1]):
                child = os.fork()
                if child:
                    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
                    return
            os._exit(1)  # the loop of the parent is not left by the child

        def in_child():
            asyncio.events._set_running_loop(None)
            try:
                asyncio.run(use(sys.argv[2]))
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(2)
            os._exit(0)

        os.register_at_fork(after_in_child=in_child)
        asyncio.run(main())
        asyncio.run(use(sys.argv[1]))
    """
    subprocess.run([sys.executable, "-c", code, *files], check=True, cwd=Path(watch.__file__).parents[2], timeout=SOON)


def test_a_forked_child_does_not_wait_at_its_exit_for_a_thread_that_it_has_not(file):
    code = """if True:
        import asyncio, os, pathlib, sys
        from hotconf.watch import Watcher, watcher as module
        module.EXIT_TIMEOUT = 600.0
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
        async with watching(file) as notices:
            replace(file)
            return await notices.next()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == {file}


def test_the_module_alone_pulls_in_no_watchfiles():
    code = "import sys, hotconf.watch; sys.exit('watchfiles' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(watch.__file__).parents[2])
