"""Asking a process that is not there, or is something else."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

REMOTE = {
    "reload": [],
    "check": [],
    "watch": [],
    "history": [],
    "rollback": [],
    "set": ["a=1"],
    "confirm": [],
    "diff": ["2"],
}


def ask(verb, word, url, *more):
    where = ["--against", url] if word == "check" else [url]
    return verb(word, *where, *REMOTE[word], *more)


@pytest.mark.parametrize("word", REMOTE)
def test_a_process_that_is_not_there_is_1_with_its_address_and_the_reason(verb, word):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    result = ask(verb, word, f"http://127.0.0.1:{port}")
    assert (result.code, result.out) == (1, "")
    assert result.err == f"Error: cannot reach http://127.0.0.1:{port}: Connection refused\n"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("unix:/no/such.sock", "No such file or directory"),
        ("http://no-such-host.invalid", ""),
        ("http://127.0.0.1:1/prefix", "Connection refused"),
    ],
)
def test_whatever_stands_in_the_way_is_named(verb, url, reason):
    result = verb("reload", url)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"Error: cannot reach {url}: {reason}")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("url", ["http://", "http://[", "http://host:port", "unix:", "ftp://host", "", "http://a b"])
def test_what_is_no_url_is_2_or_not_reached(verb, url):
    result = verb("reload", url)
    assert result.code in (1, 2)
    assert "Traceback" not in result.err
    assert result.err


def test_a_url_without_a_scheme_is_http(verb):
    result = verb("reload", "127.0.0.1:1")
    assert result.err == "Error: cannot reach http://127.0.0.1:1: Connection refused\n"


def test_a_token_file_that_cannot_be_read_is_2(verb, folder):
    missing = verb("reload", "http://127.0.0.1:1", "--token-file", "missing")
    assert missing.code == 2
    assert "missing cannot be read: No such file or directory" in missing.err
    (folder / "empty").touch()
    assert verb("reload", "http://127.0.0.1:1", "--token-file", "empty").code == 2


@pytest.mark.parametrize("word", REMOTE)
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>hello</html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b"null"),
        (404, b"nothing here"),
        (422, b"[]"),
        (500, b'{"detail": 5}'),
        (302, b""),
    ],
)
def test_another_service_is_1_and_no_traceback(verb, stranger, word, status, body):
    answer, url = stranger
    answer.status, answer.body = status, body
    result = ask(verb, word, url)
    assert result.code == 1
    assert result.err.startswith(f"Error: {url}: ")
    assert result.err.count("\n") == 1
