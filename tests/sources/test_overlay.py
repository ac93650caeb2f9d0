"""The overlay: read like a file, written whole or not at all, and holding nothing that only somebody wished for."""

import datetime as dt
import errno
import itertools
import os
import stat

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import Field, SecretStr

from hotconf import HotConf, Layer, Section
from hotconf.errors import Rejected, SourceError
from hotconf.schema.diff import differences
from hotconf.sources.overlay import Overlay
from hotconf.values.merge import origin_in
from tests.faults import failing, killed_at_every_step
from tests.heart import QUIET, Database
from tests.trees import keys


class App(Section):
    port: int = Field(8080, alias="listenPort")
    message: str = "hello"
    database: Database = Database()
    hosts: list[str] = []
    password: SecretStr = SecretStr("")


@pytest.fixture
def overlay(tmp_path):
    return Overlay(tmp_path / "overlay.toml", App)


def written(overlay, **values):
    overlay.stage(values).publish()


def names(overlay):
    return sorted(entry.name for entry in overlay.path.parent.iterdir())


def origin(layer, *path):
    return str(origin_in(layer, path))


# Reading


async def test_an_overlay_that_is_absent_is_empty(overlay):
    layer = await overlay.read()
    assert (layer.values, origin(layer)) == ({}, overlay.name)
    assert not overlay.required


async def test_values_have_their_places_and_their_kind(overlay):
    overlay.path.write_text("# by hand\nmessage = 'm'\n[database]\npool_size = 3\n")
    layer = await overlay.read()
    assert layer.values == {"message": "m", "database": {"pool_size": 3}}
    found = origin_in(layer, ("database", "pool_size"))
    assert (found.kind, str(found)) == ("overlay", f"{overlay.name}:4:1")


async def test_unchanged_bytes_are_the_same_layer(overlay):
    written(overlay, message="m")
    assert await overlay.read() is await overlay.read()
    assert overlay.protection in ("lease", "settle")
    assert list(overlay.paths()) == [overlay.path]


async def test_keys_are_canonical_so_that_a_patch_finds_them(tmp_path):
    class Two(Section):
        model_config = {"validate_by_name": True, "validate_by_alias": True}
        port: int = Field(8080, alias="listenPort")

    overlay = Overlay(tmp_path / "overlay.toml", Two)
    overlay.path.write_text("port = 3\n")
    layer = await overlay.read()
    assert layer.values == {"listenPort": 3}
    assert overlay.merged(layer, {"port": None}) == {}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_text("message = \n"), ":1:"),
        (lambda path: path.mkdir(), "is a folder"),
        (os.mkfifo, "is a FIFO"),
        (lambda path: path.symlink_to("nowhere.toml"), "is a link to nothing"),
        (lambda path: path.write_bytes(b"#" * 2000), "is larger than 1000 bytes"),
    ],
)
async def test_I5_a_broken_overlay_rejects_like_any_file(tmp_path, spoil, reason):
    overlay = Overlay(tmp_path / "overlay.toml", App, size_limit=1000)
    spoil(overlay.path)
    with pytest.raises(SourceError) as caught:
        await overlay.read()
    (fault,) = caught.value.faults
    assert fault.origin.kind == "overlay"
    assert str(fault).startswith(overlay.name)
    assert reason in str(fault)


def test_its_name_must_say_toml(tmp_path):
    with pytest.raises(ValueError, match=r"overlay\.yaml' must be a \.toml file"):
        Overlay(tmp_path / "overlay.yaml", App)


async def test_it_is_a_source_like_others(overlay):
    written(overlay, listenPort=1)
    conf = HotConf(App, sources=[overlay], options=QUIET)
    async with conf.running(signals=()):
        assert conf.current.port == 1
        assert str(conf.explain("port").origin) == f"{overlay.name}:1:1"
        written(overlay, listenPort="many")
        report = await conf.reload()
        assert str(report.faults[0]).startswith(f"{overlay.name}:1:1: port: ")


# Writing


async def test_what_is_staged_is_in_force_when_it_is_published_and_not_before(overlay):
    written(overlay, message="old")
    staged = overlay.stage({"message": "new"})
    assert (await overlay.read()).values == {"message": "old"}
    staged.publish()
    assert (await overlay.read()).values == {"message": "new"}


async def test_a_staged_overlay_says_what_it_will_read_as_with_its_places(overlay):
    staged = overlay.stage({"message": "m", "database": {"pool_size": 3}})
    promised = staged.layer
    staged.publish()
    read = await overlay.read()
    assert (promised.source, promised.values, promised.revision) == (read.source, read.values, read.revision)
    for path in [(), ("message",), ("database",), ("database", "pool_size")]:
        assert origin_in(promised, path) == origin_in(read, path)


def test_what_is_discarded_leaves_nothing_behind(overlay):
    written(overlay, message="old")
    before = names(overlay)
    overlay.stage({"message": "new"}).discard()
    assert names(overlay) == before
    assert overlay.path.read_text() == 'message = "old"\n'


def test_the_previous_overlay_is_kept(overlay):
    for message in ("one", "two", "three"):
        written(overlay, message=message)
    assert overlay.path.with_name("overlay.toml.previous").read_text() == 'message = "two"\n'
    assert names(overlay) == ["overlay.toml", "overlay.toml.previous"]


def test_a_new_overlay_is_for_its_owner_and_an_old_one_stays_as_it_is(overlay):
    written(overlay, message="one")
    assert stat.S_IMODE(overlay.path.stat().st_mode) == 0o600
    overlay.path.chmod(0o644)
    written(overlay, message="two")
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in overlay.path.parent.iterdir()} == {0o644}


def test_an_overlay_behind_a_link_is_written_where_it_is(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "real.toml").touch()
    overlay = Overlay(tmp_path / "overlay.toml", App)
    overlay.path.symlink_to("state/real.toml")
    written(overlay, message="m")
    assert overlay.path.is_symlink()
    assert (tmp_path / "state" / "real.toml").read_text() == 'message = "m"\n'


@pytest.mark.parametrize(
    ("values", "path", "reason"),
    [
        ({"message": None}, "message", "no null"),
        ({"hosts": ["a", None]}, "hosts.1", "no null"),
        ({"database": {"url": 10**40}}, "database.url", "cannot hold this value"),
        ({"message": "\ud800"}, "message", "cannot hold this value"),
        ({"message": object()}, "message", "cannot hold this value"),
        ({"database": {"\udfff": 1}}, "database.\udfff", "cannot hold this key"),
        ({"$__toml_private": 1}, "$__toml_private", "cannot hold this key"),
    ],
)
def test_what_toml_cannot_hold_is_refused_at_its_place(overlay, values, path, reason):
    with pytest.raises(Rejected) as caught:
        overlay.stage({**values, "port": 1})
    (fault,) = caught.value.faults
    assert fault.path == path
    assert reason in fault.message
    assert names(overlay) == []


def test_a_patch_is_refused_for_what_could_not_be_written(overlay):
    for patch in ({"hosts": [None]}, {"password": "p"}, {"prot": 1}):
        with pytest.raises(Rejected):
            overlay.patched(Layer("overlay", {}), patch)
    patched = overlay.patched(Layer("overlay", {"message": "m"}), {"port": 2})
    assert patched.values == {"message": "m", "listenPort": 2}


def test_nothing_is_written_that_would_not_be_read(tmp_path):
    overlay = Overlay(tmp_path / "overlay.toml", App, size_limit=100)
    with pytest.raises(Rejected, match="larger than 100 bytes"):
        overlay.stage({"message": "m" * 100})
    deep = {}
    for _ in range(100):
        deep = {"a": deep}
    with pytest.raises(Rejected, match="nested too deeply"):
        Overlay(tmp_path / "overlay.toml", App).stage(deep)


json_values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys | st.text(max_size=3), inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(keys | st.text(max_size=3), json_values, max_size=4))
@settings(max_examples=50, deadline=None)
async def test_what_json_can_say_is_read_back_as_it_was_written(tmp_path_factory, values):
    overlay = Overlay(tmp_path_factory.mktemp("overlay") / "overlay.toml", App)
    overlay.stage(values).publish()
    assert not differences(values, dict((await overlay.read()).values))


async def test_dates_that_somebody_wrote_by_hand_survive_a_patch(overlay):
    overlay.path.write_text("hosts = [2020-01-01, 2020-01-01T12:00:00+02:00, 12:30:00, 2020-01-01T00:00:00]\n")
    held = await overlay.read()
    written(overlay, **overlay.merged(held, {"message": "m"}))
    assert (await overlay.read()).values == {"message": "m", **held.values}
    assert held.values["hosts"][0] == dt.date(2020, 1, 1)


# Failures


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_fails_at_any_call_leaves_the_overlay_whole(overlay, number):
    failed = set()
    for step in itertools.count():
        overlay.path.write_text("message = 'old'\n")
        with failing(step, number) as failure:
            try:
                written(overlay, message="new")
                assert failure.call in (None, "scandir", "unlink"), "nobody heard of it"
            except OSError as error:
                assert error.errno == number
        if failure.call is None:
            break
        failed.add(failure.call)
        assert overlay.path.read_text() in ("message = 'old'\n", 'message = "new"\n')
        assert set(names(overlay)) <= {"overlay.toml", "overlay.toml.previous"}, failure.call
    assert failed >= {"open", "write", "fsync", "replace"}


async def test_killed_at_any_call_the_next_start_finds_the_old_or_the_new(overlay):
    overlay.path.write_text("message = 'old'\n")
    seen = []

    def check(step):
        seen.append(overlay.path.read_text())
        assert seen[-1] in ("message = 'old'\n", 'message = "new"\n'), step
        overlay.path.write_text("message = 'old'\n")

    killed_at_every_step(lambda: written(overlay, message="new"), check)
    assert len(set(seen)) == 2


# A patch that is in no file


async def test_a_patch_that_waits_is_in_no_file(overlay):
    written(overlay, message="old", listenPort=1)
    patch = {"message": "new", "port": None, "database": {"pool_size": 3}}
    assert overlay.patched(await overlay.read(), patch).values == {"message": "new", "database": {"pool_size": 3}}
    assert (await overlay.read()).values == {"message": "old", "listenPort": 1}


async def test_what_is_not_confirmed_says_so_and_the_rest_keeps_its_place(overlay):
    overlay.path.write_text("message = 'old'\n[database]\nurl = 'u'\npool_size = 1\n")
    layer = overlay.patched(await overlay.read(), {"database": {"pool_size": 3}, "hosts": ["a"]})
    assert origin(layer, "message") == f"{overlay.name}:1:1"
    assert origin(layer, "database", "url") == f"{overlay.name}:3:1"
    for path in [("database", "pool_size"), ("hosts",), ("hosts", 0)]:
        assert origin(layer, *path) == f"{overlay.name} (unconfirmed)"
        assert origin_in(layer, path).kind == "overlay"
        assert origin(overlay.confirmed(layer), *path) == overlay.name
    assert ("database", "nothing") not in layer.origins
    assert set(layer.origins) == {("message",), ("database", "url"), ("database", "pool_size"), ("hosts", 0)}
    assert len(layer.origins) == 4


async def test_equal_revisions_are_equal_values(overlay):
    written(overlay, message="m")
    one, again, two = [overlay.patched(await overlay.read(), {"port": port}).revision for port in (1, 1, 2)]
    assert one == again != two


async def test_I11_a_secret_written_by_hand_under_an_unconfirmed_patch_is_a_fault(overlay):
    overlay.path.write_text("password = 'canary-91'\n")
    with pytest.raises(Rejected) as caught:
        overlay.patched(await overlay.read(), {"port": 1})
    assert "canary" not in str(caught.value)
