"""Digests: equal if and only if the settings are equal, secrets included, and of no use without the key."""

import datetime as dt
import enum
import re
import stat
import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel, SecretStr

from hotconf import HotConf, Options, Settings
from hotconf.reload.state import digest_key
from hotconf.schema.diff import differences
from hotconf.schema.digest import digest
from hotconf.sources import Memory

KEY = b"k" * 32


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Point:
    x: Any
    y: Any = 0


class Part(BaseModel):
    value: Any = None
    password: SecretStr = SecretStr("")


class Other(BaseModel):
    value: Any = None


class Whole(BaseModel, extra="allow"):
    one: Any = None
    two: Any = None


# Few values, so that equal pairs are as frequent as unequal ones; and those that Python takes for one another.
scalars = st.sampled_from(
    [
        *(None, True, False, 0, 1, 2, 0.0, -0.0, 1.0, float("nan"), float("inf"), "", "1", "a", "None", b"a", 1 + 0j),
        *(Decimal("1"), Decimal("1.0"), Colour.RED, Colour.BLUE, Path("a"), UUID(int=1), dt.date(2026, 1, 1)),
        *(dt.datetime(2026, 1, 1, 12), dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC), dt.timedelta(1), re.compile("a")),
        *(SecretStr("a"), SecretStr("b")),
    ]
)
keys = st.sampled_from(["a", "b", "1", 1, True])
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(keys, inner, max_size=2)
        | st.dictionaries(st.sampled_from("ab"), inner, max_size=2).map(OrderedDict)
        | st.sets(st.sampled_from([1, 2, "a"]), max_size=2)
        | st.builds(Part, value=inner, password=st.sampled_from(["", "a"]))
        | st.builds(Other, value=inner)
        | st.builds(Point, inner, st.sampled_from([0, 1]))
    ),
    max_leaves=4,
)
wholes = st.builds(Whole, one=values, two=scalars)


@given(wholes, wholes)
@settings(max_examples=1000)
def test_I31_digests_are_equal_if_and_only_if_the_settings_are(one, other):
    assert (digest(one, KEY) == digest(other, KEY)) == (differences(one, other) == ())


@given(wholes)
def test_I31_settings_have_one_digest_and_another_one_under_another_key(whole):
    assert digest(whole, KEY) == digest(whole.model_copy(deep=True), KEY)
    assert digest(whole, KEY) != digest(whole, KEY[:-1] + b"l")


def test_the_parts_of_a_value_cannot_be_moved_unseen():
    pairs = [
        (["ab", "c"], ["a", "bc"]),
        ([["a"], "b"], [["a", "b"]]),
        ({"a": {"b": 1}}, {"a": {}, "b": 1}),
        ("1", 1),
        ([], ()),
    ]
    for one, other in pairs:
        assert digest(one, KEY) != digest(other, KEY)


class Masked(str):
    __slots__ = ()

    def __repr__(self):
        return "***"


class MaskedBytes(bytes):
    __repr__ = Masked.__repr__


class MaskedInt(int):
    __repr__ = Masked.__repr__


class MaskedDecimal(Decimal):
    __repr__ = Masked.__repr__


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


def test_I31_a_representation_that_leaves_something_out_hides_no_difference():
    pairs = [
        (re.compile("a" * 300 + "x"), re.compile("a" * 300 + "y")),
        (re.compile("a" * 300), re.compile("a" * 300, re.IGNORECASE)),
        (re.compile("a"), re.compile(b"a")),
        (Masked("x"), Masked("y")),
        (MaskedBytes(b"x"), MaskedBytes(b"y")),
        (MaskedInt(1), MaskedInt(2)),
        (MaskedDecimal("1.0"), MaskedDecimal("1.00")),
        (Rights(0), Rights.READ),
        (Rights.READ, Rights.READ | Rights.WRITE),
    ]
    for one, other in pairs:
        assert digest(Whole(one=one), KEY) == digest(Whole(one=one), KEY)
        assert digest(Whole(one=one), KEY) != digest(Whole(one=other), KEY)


def test_the_digest_is_the_same_in_every_process():
    script = (
        "from pydantic import BaseModel\nfrom hotconf.schema.digest import digest\n"
        "class Plain: pass\n"
        "class App(BaseModel, arbitrary_types_allowed=True):\n    tags: set[str]\n    plain: Plain\n    run: object\n"
        "print(digest(App(tags={f'tag {n}' for n in range(20)}, plain=Plain(), run=print), b'key'))"
    )
    root = Path(__file__).resolve().parents[2]
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


# The key


class Vault(Settings):
    model_config = {"env_prefix": "DIGEST_"}
    password: SecretStr = SecretStr("a")


def digest_of(key_file=None, **given):
    conf = HotConf(Vault, sources=[Memory(given)], options=Options(watch=False, digest_key_file=key_file))
    conf.load()
    return conf.snapshot.digest


@pytest.fixture(autouse=True)
def _no_key_is_remembered():
    digest_key.cache_clear()
    yield
    digest_key.cache_clear()


def test_the_key_is_made_once_for_its_owner_and_shared(tmp_path, monkeypatch):
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    first = digest_of(password="x")
    file = tmp_path / "hotconf" / "digest.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [entry.name for entry in file.parent.iterdir()] == ["digest.key"]
    digest_key.cache_clear()  # as in another process
    assert digest_of(password="x") == first
    assert digest_of(password="y") != first
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path / 'service'}:/nowhere")
    digest_key.cache_clear()
    assert digest_of(password="x") != first
    assert (tmp_path / "service" / "digest.key").exists()


def test_an_option_names_the_key_that_several_hosts_share(tmp_path):
    (tmp_path / "one").write_text("a key of sixteen bytes or more\n")
    (tmp_path / "two").write_bytes(b"a key of sixteen bytes or more")
    assert digest_of(tmp_path / "one") == digest_of(tmp_path / "two")


def test_a_guess_cannot_be_confirmed_without_the_key(tmp_path):
    found = digest_of(tmp_path / "key", password="hunter2")
    assert digest(Vault(password="hunter2"), b"") != found
    assert digest(Vault(password="hunter2"), (tmp_path / "key").read_bytes().strip()) == found


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("short"), lambda path: path.mkdir()])
def test_a_key_that_cannot_be_used_is_named_once_and_replaced_by_one_of_this_process(tmp_path, caplog, spoil):
    spoil(tmp_path / "key")
    assert digest_of(tmp_path / "key") == digest_of(tmp_path / "key")
    [line] = [record.getMessage() for record in caplog.records if "key of digests" in record.getMessage()]
    assert str(tmp_path / "key") in line
    assert "cannot be compared with those of others" in line


def test_processes_that_make_the_key_at_once_have_the_same(tmp_path):
    script = (
        "import sys; from pathlib import Path; from hotconf.reload.state import digest_key\n"
        "sys.stdin.readline(); print(digest_key(Path(sys.argv[1])).hex())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "key")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert len({process.communicate(timeout=60)[0] for process in processes}) == 1


def test_a_relative_key_file_is_one_below_the_working_directory_of_construction(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    conf = HotConf(Vault, sources=[Memory({})], options=Options(watch=False, digest_key_file="own.key"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    conf.load()
    assert conf.snapshot.digest
    assert (tmp_path / "own.key").exists()
    assert not (tmp_path / "elsewhere" / "own.key").exists()
