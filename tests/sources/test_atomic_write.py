"""A file is replaced as a whole or not at all: by order of calls, by failures at each, and by kill -9 at each."""

import errno
import gc
import itertools
import os
import socket
import stat

import pytest

from hotconf.sources.atomic_write import stage
from tests.faults import failing, killed_at_every_step, recorded

OLD, NEW = b"old content\n", b"new content, and more of it\n"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "state.json"
    path.write_bytes(OLD)
    return path


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def replaced(path, data=NEW, **options):
    stage(path, data, **options).publish()


def test_nothing_changes_until_it_is_published(path):
    staged = stage(path, NEW)
    assert path.read_bytes() == OLD
    staged.publish()
    assert path.read_bytes() == NEW
    assert names(path.parent) == [path.name]


def test_what_is_discarded_leaves_nothing_behind(path):
    staged = stage(path, NEW)
    staged.discard()
    staged.discard()
    assert path.read_bytes() == OLD
    assert names(path.parent) == [path.name]


def test_discarding_what_was_published_takes_nothing_back(path):
    staged = stage(path, NEW)
    staged.publish()
    staged.discard()
    assert path.read_bytes() == NEW


def test_a_file_that_was_not_there_is_made(tmp_path):
    replaced(tmp_path / "new.json")
    assert (tmp_path / "new.json").read_bytes() == NEW


def test_an_empty_file_may_be_written(path):
    replaced(path, b"")
    assert path.read_bytes() == b""


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_the_permissions_are_those_asked_for_whatever_the_umask(path, mode):
    path.chmod(0o777)
    before = os.umask(0o077)
    try:
        replaced(path, mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_by_default_only_the_owner_may_read_it_from_the_first_byte(path, monkeypatch):
    seen = []
    write = os.write

    def looking(descriptor, data):
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", looking)
    replaced(path)
    assert set(seen) == {0o600}


def test_what_a_link_points_to_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "real.json", tmp_path / "link.json"
    real.write_bytes(OLD)
    link.symlink_to(real)
    replaced(link)
    assert link.is_symlink()
    assert real.read_bytes() == NEW
    assert names(real.parent) == ["real.json"]


def test_a_link_to_nothing_yet_gets_its_file(tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to("real.json")
    replaced(link)
    assert (tmp_path / "real.json").read_bytes() == NEW


def test_the_content_is_on_disk_before_the_name_and_the_name_before_the_return(path):
    order = {"write", "fsync", "replace"}
    with recorded() as calls:
        staged = stage(path, NEW)
        assert [call for call in calls if call in order] == ["write", "fsync"]
        staged.publish()
        assert [call for call in calls if call in order] == ["write", "fsync", "replace", "fsync"]


def test_a_write_that_takes_a_part_is_continued(path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    replaced(path)
    assert path.read_bytes() == NEW


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.EDQUOT])
def test_a_failure_at_any_call_is_raised_and_leaves_the_file_whole(path, number):
    failed = []
    for step in itertools.count():
        path.write_bytes(OLD)
        with failing(step, number) as failure:
            try:
                replaced(path)
                assert failure.call in (None, "scandir"), "the failure was not raised"
            except OSError as error:
                assert error.errno == number
        if failure.call is None:
            break
        failed.append(failure.call)
        assert path.read_bytes() in (OLD, NEW)
        assert names(path.parent) == [path.name], f"left behind where {failure.call} failed"
    assert set(failed) >= {"open", "fchmod", "write", "fsync", "close", "replace"}


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_the_error_is_about_the_file_and_not_about_what_stood_in_for_it(path, call):
    with failing(call, errno.ENOSPC), pytest.raises(OSError) as caught:
        replaced(path)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert "staged" not in str(caught.value)


def test_a_file_system_that_cannot_sync_folders_is_no_failure(path):
    with failing("fsync", errno.EINVAL, after=1) as failure:
        replaced(path)
    assert failure.call == "fsync"
    assert path.read_bytes() == NEW


def test_what_is_no_file_is_not_replaced_by_one(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        before = {path: path.stat() for path in tmp_path.iterdir()}
        for path in before:
            with pytest.raises(OSError, match="is not a regular file"):
                stage(path, NEW)
        assert {path: path.stat() for path in tmp_path.iterdir()} == before


def test_a_device_behind_a_link_is_not_replaced(tmp_path):
    """As root, a rename over /dev/null would do away with it for every process of the machine."""
    (tmp_path / "state.json").symlink_to("/dev/null")
    with pytest.raises(OSError, match="is not a regular file") as caught:
        stage(tmp_path / "state.json", NEW)
    assert caught.value.filename == "/dev/null"


def test_a_folder_that_is_gone_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        stage(tmp_path / "gone" / "state.json", NEW)
    assert caught.value.filename == str(tmp_path / "gone" / "state.json")


def test_what_a_crash_left_long_ago_is_swept_away_and_what_another_writes_now_is_not(path):
    abandoned, other, foreign = stage(path, b"abandoned"), stage(path, b"other"), path.with_name(".state.json.mine")
    foreign.touch()
    for old in (abandoned.temporary, foreign):
        os.utime(old, (0, 0))
    replaced(path)
    assert names(path.parent) == sorted([path.name, other.temporary.name, foreign.name])
    other.publish()
    assert path.read_bytes() == b"other"


def test_killed_at_any_call_it_leaves_all_of_the_old_or_all_of_the_new(path):
    seen = []

    def check(step):
        seen.append(path.read_bytes())
        assert seen[-1] in (OLD, NEW), step
        path.write_bytes(OLD)

    steps = killed_at_every_step(lambda: replaced(path), check)
    assert set(steps) >= {"open", "write", "fsync", "replace"}
    assert {OLD, NEW} == set(seen), "the kills missed one side of the rename"


def test_what_another_process_removes_meanwhile_leaves_no_descriptor_behind(path, monkeypatch):
    others = [stage(path, b"other") for _ in range(3)]
    scan = os.scandir

    def vanishing(folder):
        entries = scan(folder)
        next(entries)  # from here on it knows the names of all
        for other in others:
            other.discard()
        return entries

    monkeypatch.setattr(os, "scandir", vanishing)
    stage(path, b"second").publish()
    gc.collect()  # an iterator that was not closed warns when it goes
    assert path.read_bytes() == b"second"
