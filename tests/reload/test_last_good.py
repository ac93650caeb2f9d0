"""The last known good: all of the old or all of the new, never a secret, never for other settings, never in the way."""

import datetime as dt
import errno
import itertools
import json
import logging
import os
import resource
import shutil
import stat
import subprocess
import sys
from contextlib import suppress
from enum import Enum
from typing import Annotated, Any

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import AliasChoices, AliasPath, Field, SecretStr

from hotconf import Section, Sensitive
from hotconf.errors import LastGoodUnusable, Rejected
from hotconf.reload.last_good import LastGood, layers_to_start_from
from hotconf.reload.validate import validate
from hotconf.schema.diff import differences
from hotconf.values.layer import Layer
from hotconf.values.merge import merge, origin_in
from tests.faults import failing, killed_at_every_step
from tests.support import ROOT, environment
from tests.trees import env, file

NOW = dt.datetime(2026, 3, 29, 1, 30, tzinfo=dt.UTC)
SECRET = "canary-5c1e"


class Account(Section):
    user: str = ""
    password: SecretStr


class App(Section):
    port: int = 8080
    options: dict[str, Any] = {}
    token: Annotated[str, Sensitive()] | None = "default"
    main: Account | None = None
    others: dict[str, Account] = {}
    accounts: list[Account] = []
    chosen: dict[str, SecretStr] = {}
    url: str | Account = ""
    key: SecretStr = Field(SecretStr("none"), validation_alias=AliasChoices("key", AliasPath("keys", "main")))


@pytest.fixture
def good(tmp_path):
    return LastGood(tmp_path / "good.json", App)


def write(good, generation=1, **values):
    good.write(values, generation=generation, when=NOW)


def names(path):
    return sorted(entry.name for entry in path.iterdir())


def booted(copy, *live, model=App):
    """The settings that a start from the copy has, while only these sources can be read."""
    return validate(model, merge(layers_to_start_from(model, copy, live)))


# Writing and reading


def test_what_was_written_is_read_with_its_generation_and_time(good):
    write(good, generation=7, port=1, options={"a": [1, None, {"b": 2.5}]})
    copy = good.read()
    assert copy.layer.values == {"port": 1, "options": {"a": [1, None, {"b": 2.5}]}}
    assert (copy.generation, copy.written_at, copy.omitted) == (7, NOW, ())
    assert good.error is None


def test_every_value_is_blamed_on_the_copy(good):
    write(good, port=1)
    layer = good.read().layer
    assert {layer.source, str(origin_in(layer, ("port",))), str(origin_in(layer, ()))} == {"last known good"}


def test_only_its_owner_may_read_it(good, tmp_path):
    write(good)
    assert stat.S_IMODE((tmp_path / "good.json").stat().st_mode) == 0o600
    assert names(tmp_path) == ["good.json"]


def test_the_last_one_counts(good):
    for port in (1, 2, 3):
        write(good, generation=port, port=port)
    assert good.read().layer.values == {"port": 3}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("a$ü\n", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("a$.", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), json_values, max_size=4))
@settings(max_examples=50, deadline=None)
def test_the_very_same_values_come_back(tmp_path_factory, values):
    good = LastGood(tmp_path_factory.mktemp("good") / "good.json", App)
    write(good, options=values)
    assert not differences(values, dict(good.read().layer.values)["options"])


def test_it_is_json_that_says_what_it_is(good, tmp_path):
    write(good, port=1)
    document = json.loads((tmp_path / "good.json").read_text())
    assert document["format"] == 2
    assert document["content"]["written_at"] == NOW.isoformat()
    assert document["content"]["values"] == {"port": 1}


def test_an_editor_that_reformats_it_does_no_damage(good, tmp_path):
    write(good, options={"a": 1.1, "b": "ü"})
    path = tmp_path / "good.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4, ensure_ascii=False))
    assert good.read().layer.values == {"options": {"a": 1.1, "b": "ü"}}


# What cannot be used


def nothing(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-20])


def not_text(path):
    path.write_bytes(b"\xff\xfe\0")


def nested(path):
    path.write_text("[" * 5000)


def a_list(path):
    path.write_text("[]")


def of_the_future(path):
    edited(path, format=3)


def without_content(path):
    edited(path, content=None)


def changed_by_hand(path):
    path.write_text(path.read_text().replace("8081", "8082"))


def half_old_half_new(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + data[: len(data) // 2])


def too_large(path):
    path.write_bytes(b" " * 7000)


def a_folder(path):
    path.unlink()
    path.mkdir()


def a_fifo(path):
    path.unlink()
    os.mkfifo(path)


def a_loop(path):
    path.unlink()
    path.symlink_to(path)


def edited(path, **entries):
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


UNUSABLE = {
    nothing: "does not exist",
    empty: "cut off",
    cut_off: "cut off",
    not_text: "cut off",
    nested: "cut off",
    a_list: "not of format 2",
    of_the_future: "not of format 2",
    without_content: "checksum",
    changed_by_hand: "checksum",
    half_old_half_new: "cut off",
    too_large: "larger than 6000 bytes",
    a_folder: "not a regular file",
    a_fifo: "not a regular file",
    a_loop: "cannot be read: Too many levels",
}


@pytest.mark.parametrize("spoil", UNUSABLE)
def test_a_copy_that_cannot_be_used_says_why(tmp_path, spoil):
    good = LastGood(tmp_path / "good.json", App, size_limit=6000)
    write(good, port=8081)
    spoil(tmp_path / "good.json")
    with pytest.raises(LastGoodUnusable) as caught:
        good.read()
    assert UNUSABLE[spoil] in caught.value.reason
    assert str(caught.value) == f"last known good {tmp_path / 'good.json'}: {caught.value.reason}"


def test_every_cut_is_noticed(good, tmp_path):
    write(good, port=8081, options={"a": [1, 2]})
    data = (tmp_path / "good.json").read_bytes()
    for length in range(len(data)):
        (tmp_path / "good.json").write_bytes(data[:length])
        with pytest.raises(LastGoodUnusable):
            good.read()


def test_every_changed_byte_is_noticed_or_changes_nothing(good, tmp_path):
    write(good, port=8081)
    data = (tmp_path / "good.json").read_bytes()
    for index, byte in enumerate(data):
        (tmp_path / "good.json").write_bytes(data[:index] + bytes([byte ^ 1]) + data[index + 1 :])
        with suppress(LastGoodUnusable):
            assert good.read().layer.values == {"port": 8081}


def test_what_was_written_for_another_class_is_foreign(good, tmp_path):
    class App(Section):
        port: str = "8080"

    write(good, port=1)
    with pytest.raises(LastGoodUnusable, match="other settings"):
        LastGood(tmp_path / "good.json", App).read()


def test_content_that_no_writer_of_ours_made_is_damaged_whatever_its_checksum(good, tmp_path, monkeypatch):
    monkeypatch.setattr("hotconf.reload.last_good.checksum", lambda content: "sum")
    write(good)
    content = json.loads((tmp_path / "good.json").read_text())["content"]
    for spoilt in (
        {"omitted": 1},
        {"written_at": "x"},
        {"values": []},
    ):
        edited(tmp_path / "good.json", content={**content, **spoilt})
        with pytest.raises(LastGoodUnusable, match="is damaged"):
            good.read()


# Secrets

FULL = {
    "port": 1,
    "token": SECRET,
    "main": {"user": "u", "password": SECRET},
    "others": {"a": {"user": "v", "password": SECRET}},
    "accounts": [{"user": "w", "password": SECRET}],
    "chosen": {"t": SECRET},
    "url": SECRET,
    "key": SECRET,
}


def test_I11_no_secret_is_written(good, tmp_path):
    write(good, **FULL)
    assert good.error is None
    assert SECRET not in (tmp_path / "good.json").read_text()
    copy = good.read()
    assert copy.layer.values == {"port": 1, "main": {"user": "u"}, "others": {"a": {"user": "v"}}, "chosen": {}}
    assert set(copy.omitted) == {
        ("token",),
        ("main", "password"),
        ("others", "a", "password"),
        ("accounts",),
        ("chosen", "t"),
        ("url",),
        ("key",),
    }


def test_at_boot_secrets_come_from_the_live_sources_and_everything_else_from_the_copy(good):
    write(good, **FULL)
    newer = {**FULL, "port": 99, "token": "new", "main": {"user": "changed", "password": "new"}, "options": {"x": 1}}
    settings = booted(good.read(), env(newer))
    assert (settings.port, settings.token, settings.options) == (1, "new", {})
    assert (settings.main.user, settings.main.password.get_secret_value()) == ("u", "new")
    assert settings.others["a"].password.get_secret_value() == SECRET
    assert settings.accounts[0].user == "w"
    assert settings.key.get_secret_value() == SECRET


def test_nothing_else_of_a_live_source_shines_through(good):
    write(good, main={"user": "u", "password": SECRET})
    live = {"main": {"password": "p"}, "others": {"new": {"user": "n", "password": "q"}}, "token": "t", "port": 5}
    settings = booted(good.read(), file(live))
    assert settings == App(main=Account(user="u", password=SecretStr("p")))


def test_of_live_secrets_the_strongest_source_wins_and_is_blamed(good):
    write(good, token=SECRET)
    layers = layers_to_start_from(App, good.read(), [file({"token": "weak"}), env({"token": "strong"})])
    merged = merge(layers)
    assert merged.values == {"token": "strong"}
    assert str(merged.origin(("token",))) == "env APP_TOKEN"


def test_a_live_secret_is_found_by_any_spelling(good):
    write(good, key=SECRET)
    assert booted(good.read(), Layer("live", {"keys": {"main": "other"}})).key.get_secret_value() == "other"


def test_a_secret_that_no_live_source_has_falls_back_to_its_default(good):
    write(good, token=SECRET, port=1)
    assert booted(good.read()).token == "default"


def test_a_secret_without_default_that_no_live_source_has_fails_the_start_and_is_named(good):
    write(good, main={"user": "u", "password": SECRET}, token=SECRET)
    copy = good.read()
    live = [Layer("environment", {"token": "t"})]
    with pytest.raises(Rejected) as caught:
        booted(copy, *live)
    assert [str(fault) for fault in caught.value.faults] == [
        "last known good: main.password: field required: no source sets it"
    ]
    (missing,) = copy.missing(layers_to_start_from(App, copy, live))
    assert str(missing).startswith("last known good: main.password: is not in the last known good, which holds no sec")


def test_a_secret_that_was_set_to_nothing_stays_so(good):
    write(good, token=None)
    copy = good.read()
    assert copy.omitted == ()
    assert booted(copy, env({"token": "t"})).token is None


# What stands in the way of writing


class Colour(Enum):
    RED = 1


def test_a_value_without_a_text_leaves_the_copy_of_before_and_says_so(good):
    write(good, port=1)
    write(good, generation=2, port=2, options={"a": [object()]})
    assert good.error == "is not written: Unable to serialize unknown type: <class 'object'>"
    assert good.read().layer.values == {"port": 1}


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    good = LastGood(tmp_path / "good.json", App, size_limit=1000)
    endless = []
    endless.append(endless)
    for value in ("x" * 1000, endless, 10**5000):
        write(good, options={"a": value})
        assert good.error == "is not written: the values are too large or nested too deeply"
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_disk_that_fails_at_any_call_stops_nothing(good, tmp_path, number):
    failed = set()
    for step in itertools.count():
        write(good, port=1)
        with failing(step, number) as failure:
            write(good, generation=2, port=2)
        if failure.call is None:
            break
        failed.add(failure.call)
        if failure.call not in ("scandir", "unlink"):
            assert good.error == f"cannot be written: {os.strerror(number)}"
        assert good.read().layer.values in ({"port": 1}, {"port": 2})
        assert names(tmp_path) == ["good.json"]
    assert failed >= {"open", "write", "fsync", "replace"}
    assert good.error is None


def test_a_failure_is_logged_once_and_so_is_its_end(good, caplog):
    with caplog.at_level(logging.INFO, "hotconf"):
        with failing("open", errno.ENOSPC):
            for generation in range(5):
                write(good, generation=generation)
        for generation in range(5):
            write(good, generation=generation)
    assert [record.getMessage() for record in caplog.records] == [
        f"last known good {good.path} cannot be written: No space left on device",
        f"last known good {good.path} can be written again",
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_folder_that_is_gone_or_no_folder_stops_nothing(tmp_path):
    (tmp_path / "file").touch()
    for place, reason in (("gone", "No such file or directory"), ("file", "Not a directory")):
        good = LastGood(tmp_path / place / "good.json", App)
        write(good)
        assert good.error == f"cannot be written: {reason}"


def test_a_file_that_may_not_grow_stops_nothing(good):
    write(good, port=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        write(good, port=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert good.error == "cannot be written: File too large"
    assert good.read().layer.values == {"port": 1}
    write(good, port=3)
    assert good.error is None


FULL_DISK = """
import datetime, sys
from hotconf.reload.last_good import LastGood
from tests.reload.test_last_good import App

def write(port):
    good.write({"port": port, "options": {"padding": "x" * 40_000}}, generation=port, when=datetime.datetime.now())
    print(good.error, good.read().layer.values["port"])

good = LastGood(sys.argv[1] + "/good.json", App)
write(1)
with open(sys.argv[1] + "/filler", "wb", buffering=0) as filler:
    try:
        while filler.write(b"x" * 4096):
            pass
    except OSError:
        pass
write(2)
filler = open(sys.argv[1] + "/filler", "w")
write(3)
"""


def may_mount():
    probe = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/tmp"]
    return shutil.which("unshare") is not None and not subprocess.call(probe, stderr=subprocess.DEVNULL)


def test_a_disk_that_is_really_full_stops_nothing_and_recovers(tmp_path):
    if not may_mount():
        pytest.skip("may not mount a disk to fill")
    words = 'mount -t tmpfs -o size=256k none "$1" && exec "$2" -c "$3" "$1"'
    found = subprocess.run(
        ["unshare", "-m", "sh", "-c", words, "sh", tmp_path, sys.executable, FULL_DISK],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.splitlines() == ["None 1", "cannot be written: No space left on device 1", "None 3"]
    assert found.stderr.count("No space left on device") == 1


def test_killed_at_any_call_the_next_start_finds_all_of_the_old_or_all_of_the_new(good):
    old, new = {"port": 1, "options": {"a": "old" * 100}}, {"port": 2, "options": {"a": "new" * 200}}
    seen = []
    write(good, **old)

    def check(step):
        copy = good.read()
        seen.append((copy.generation, dict(copy.layer.values)))
        assert seen[-1] in [(1, old), (2, new)], step
        write(good, **old)

    steps = killed_at_every_step(lambda: write(good, generation=2, **new), check)
    assert {"open", "write", "fsync", "replace", "close"} <= set(steps)
    assert {generation for generation, _ in seen} == {1, 2}, "the kills missed one side of the rename"


def test_killed_at_any_call_of_the_first_write_there_is_a_copy_or_none(good, tmp_path):
    published = ("open", "fsync", "close", "the end")  # of the folder, after the rename

    def check(step):
        try:
            assert good.read().layer.values == {"port": 1}
            assert step in published
            (tmp_path / "good.json").unlink()
        except LastGoodUnusable as unusable:
            assert unusable.reason == "does not exist"

    killed_at_every_step(lambda: write(good, port=1), check)
