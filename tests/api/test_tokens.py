"""Tokens in files: which are in force after a change of the file."""

from __future__ import annotations

import logging
import os
import time

import pytest

from hotconf.api import tokens as module
from hotconf.api.tokens import Tokens


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "token"
    file.write_text("first\n")
    return file


def in_force(tokens, *candidates):
    return [each for each in candidates if tokens.accept(each.encode())]


ALL = ("first", "other", "")


def test_a_new_token_is_in_force_at_once_and_the_old_one_is_not(path, caplog):
    caplog.set_level(logging.INFO, "hotconf")
    tokens = Tokens(file=path)
    assert in_force(tokens, *ALL) == ["first"]
    path.write_text("other\n")
    assert in_force(tokens, *ALL) == ["other"]
    assert tokens.first == "other"
    assert f"{path} has changed; tokens in force: 1" in caplog.text
    assert "other" not in caplog.text.replace(str(path), "")


def test_every_one_of_many_changes_within_one_tick_of_the_clock_is_seen(path):
    """Same length, same file, same times: only reading tells."""
    tokens = Tokens(file=path)
    for number in range(200):
        token = f"{number:05}"
        path.write_text(token)
        os.utime(path, ns=(0, 0))
        assert in_force(tokens, token, "first", f"{number - 1:05}") == [token]


def test_a_file_that_rests_is_not_read(path, monkeypatch):
    tokens = Tokens(file=path)
    in_force(tokens, "first")
    time.sleep(module._SETTLED_AFTER + 0.05)
    assert in_force(tokens, "first") == ["first"]
    monkeypatch.setattr(module, "_read", None)
    assert in_force(tokens, *ALL) == ["first"]


def test_a_change_right_after_the_last_read_is_seen_however_late_the_next_request_comes(path):
    tokens = Tokens(file=path)
    in_force(tokens, "first")
    before = path.stat()
    path.write_text("other\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    time.sleep(module._SETTLED_AFTER + 0.05)
    assert in_force(tokens, *ALL) == ["other"]


def test_a_link_that_is_replaced_is_followed(tmp_path):
    """As Kubernetes mounts a secret: `token` is a link into a folder that is replaced as a whole."""
    for name, text in (("one", "first"), ("two", "other")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(text)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "token").symlink_to("..data/token")
    tokens = Tokens(file=tmp_path / "token")
    assert in_force(tokens, *ALL) == ["first"]
    (tmp_path / "..new").symlink_to("two")
    (tmp_path / "..new").replace(tmp_path / "..data")
    assert in_force(tokens, *ALL) == ["other"]
    assert tokens.name == "token"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_text(""), "is empty"),
        (lambda path: path.write_text("\ufeff \n\n"), "is empty"),
        (lambda path: path.unlink(), "cannot be read: No such file"),
        (lambda path: (path.unlink(), path.mkdir()), "is not a regular file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "is not a regular file"),
        (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "is not a regular file"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "is not UTF-8 text"),
        (lambda path: path.write_bytes(b"a\0b"), "no client can send"),
        (lambda path: path.write_text("x" * 70_000), "no client can send"),
    ],
)
def test_a_file_without_a_token_opens_nothing_and_the_last_token_stays(path, caplog, spoil, reason):
    tokens = Tokens(file=path)
    spoil(path)
    for _ in range(3):
        assert in_force(tokens, *ALL, "a\0b", "x" * 70_000) == ["first"]
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert reason in line
    assert line.endswith("; the last token stays in force")
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.write_text("other")
    assert in_force(tokens, *ALL) == ["other"]


def test_several_lines_are_several_tokens_for_a_rotation_without_a_gap(path):
    tokens = Tokens(file=path)
    path.write_bytes(b"\xef\xbb\xbffirst\r\n\r\n  other  \r\n")
    assert in_force(tokens, *ALL) == ["first", "other"]
    path.write_text("other")
    assert in_force(tokens, *ALL) == ["other"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read"), (b"", "is empty"), (b"\xff", "is not UTF-8"), (b"a\x1bb", "no client can send")],
)
def test_a_start_without_a_token_is_an_error(tmp_path, content, reason):
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} .*{reason}.*must hold a token"):
        Tokens(file=path)


def test_a_device_is_refused_and_a_pipe_is_read_once():
    with pytest.raises(ValueError, match="not a regular file"):
        Tokens(file="/dev/zero")
    read, write = os.pipe()
    os.write(write, b"first\n")
    os.close(write)
    tokens = Tokens(file=f"/dev/fd/{read}")
    assert in_force(tokens, *ALL) == ["first"]
    os.close(read)
    assert in_force(tokens, *ALL) == ["first"]


def test_a_text_has_the_name_it_was_given_and_an_empty_one_is_an_error():
    tokens = Tokens("first", name="deploy-key")
    assert (in_force(tokens, *ALL), tokens.name, bool(tokens), tokens.revision) == (["first"], "deploy-key", True, 0)
    with pytest.raises(ValueError, match="not empty"):
        Tokens("")
    assert not Tokens()
    assert in_force(Tokens(), *ALL) == []


def test_a_change_has_a_new_revision(path, monkeypatch):
    tokens = Tokens(file=path)
    assert tokens.revision == 0
    path.write_text("other")
    monkeypatch.setattr(module, "_CHECK_INTERVAL", 0)
    assert tokens.revision == 1
    path.write_text("")
    assert tokens.revision == 1
