"""Patches: written to the overlay through the whole pipeline, taken back by themselves unless they are confirmed."""

import asyncio
import itertools
import os
import tomllib

import pytest

from hotconf import HotConf, Options, Refuse
from hotconf.errors import NoOverlay, NothingToConfirm, NotRunning, OperationRefused, RollbackHeld, Stale, Unconfirmed
from hotconf.reload.edit import OverlayEdit
from hotconf.schema.settings import Untyped
from hotconf.sources import Memory
from hotconf.values.layer import Layer, Origin
from hotconf.values.report import Fault
from tests.heart import App, until


@pytest.fixture
def path(tmp_path):
    return tmp_path / "overlay.toml"


def overlaid(path, **values):
    memory = Memory(values)
    return HotConf(App, sources=[memory], options=Options(watch=False, overlay=path)), memory


def on_disk(path):
    return tomllib.loads(path.read_text()) if path.exists() else None


async def test_a_patch_is_in_force_on_disk_and_above_everything(path):
    conf, _ = overlaid(path, message="below")
    async with conf.running(signals=()):
        report = await conf.patch({"message": "patched", "database": {"pool_size": 3}})
        assert (report.outcome, report.triggers) == ("applied", ("patch",))
        assert report.changed == ("message", "database.pool_size")
        assert (conf.current.message, conf.current.database.pool_size) == ("patched", 3)
        assert on_disk(path) == {"message": "patched", "database": {"pool_size": 3}}
        explained = conf.explain("message")
        assert (explained.origin.kind, explained.shadowed[0].value) == ("overlay", "below")


async def test_it_survives_a_restart_and_null_takes_it_back(path):
    conf, _ = overlaid(path)
    async with conf.running(signals=()):
        await conf.patch({"message": "patched", "port": 1})
    again, _ = overlaid(path)
    async with again.running(signals=()):
        assert again.current.message == "patched"
        await again.patch({"message": None})
        assert (again.current.message, again.current.port) == ("hello", 1)
        assert on_disk(path) == {"port": 1}


async def test_a_patch_that_does_not_validate_changes_nothing(path):
    conf, _ = overlaid(path)
    async with conf.running(signals=()):
        await conf.patch({"port": 1})
        report = await conf.patch({"port": "many"})
        assert (report.outcome, report.stage) == ("rejected", "validate")
        assert str(report.faults[0].origin) == "patch"
        assert (conf.current.port, on_disk(path)) == (1, {"port": 1})
        assert sorted(entry.name for entry in path.parent.iterdir()) == ["overlay.toml"]
        assert (await conf.reload()).outcome == "unchanged"


@pytest.mark.parametrize("values", [5, "port = 1", ["port"], None])
async def test_a_patch_that_is_no_mapping_is_a_mistake_of_the_caller(path, values):
    conf, _ = overlaid(path)
    async with conf.running(signals=()):
        with pytest.raises(TypeError, match=f"a patch is a mapping, .* and no {type(values).__name__}"):
            await conf.patch(values)
        assert len(conf.reports) == 1


@pytest.mark.parametrize("confirm", [None, 60])
async def test_a_fault_names_the_line_of_the_file_or_the_patch_and_no_line_that_was_never_written(path, confirm):
    conf, memory = overlaid(path)
    path.write_text("# by hand\n\nport = 1\n")
    async with conf.running(signals=()):
        path.write_text("# by hand\n\n\nport = 'one'\n")
        report = await conf.patch({"message": 5, "database": {"pool_size": "many"}}, confirm=confirm)
        places = {fault.path: str(fault.origin) for fault in report.faults}
        assert places == {"port": f"{path}:4:1", "message": "patch", "database.pool_size": "patch"}
        memory.set({"port": "two"})
        report = await conf.patch({"port": None}, confirm=confirm)
        assert [fault.origin.source for fault in report.faults] == [memory.name]


async def test_one_that_a_subscriber_refuses_is_not_on_disk(path):
    conf, _ = overlaid(path)

    @conf.prepare("port")
    def never(change):
        if change.new.port == 13:
            raise Refuse("bad luck")

    async with conf.running(signals=()):
        assert (await conf.patch({"port": 13})).outcome == "rejected"
        assert on_disk(path) is None
        assert list(path.parent.iterdir()) == []


async def test_a_disk_that_cannot_be_written_rejects_it(path, monkeypatch):
    conf, _ = overlaid(path)
    async with conf.running(signals=()):

        def full(*_arguments, **_options):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", full)
        monkeypatch.setattr(os, "rename", full)
        report = await conf.patch({"port": 1})
        assert (report.outcome, conf.current.port) == ("rejected", 8080)
        assert "the overlay cannot be written: No space left on device" in str(report.faults[0])
        assert list(path.parent.iterdir()) == []


async def test_a_dry_run_writes_nothing(path):
    conf, _ = overlaid(path)
    async with conf.running(signals=()):
        report = await conf.patch({"port": 1}, dry_run=True)
        assert (report.outcome, report.dry_run, report.changed) == ("applied", True, ("port",))
        assert (conf.current.port, list(path.parent.iterdir())) == (8080, [])


async def test_two_writers_with_one_expectation_exactly_one_wins(path):
    conf, _ = overlaid(path)
    async with conf.running(signals=()):

        def first(snapshot):
            return snapshot.generation == 1

        patches = [conf.patch({"port": number}, expect=first) for number in (1, 2)]
        results = await asyncio.gather(*patches, return_exceptions=True)
        assert [type(result).__name__ for result in results] == ["Report", "Stale"]
        assert conf.current.port == 1
        with pytest.raises(Stale, match="read it again"):
            await conf.patch({"port": 3}, expect=first)
        assert conf.status.consecutive_failures == 0


async def test_without_an_overlay_there_are_no_patches():
    conf = HotConf(App, options=Options(watch=False))
    async with conf.running(signals=()):
        with pytest.raises(NoOverlay, match="Options"):
            await conf.patch({"port": 1})


async def test_an_unconfirmed_patch_is_taken_back_by_itself(path):
    conf, _ = overlaid(path)
    async with conf.running(signals=()):
        assert conf.unconfirmed is None
        assert (await conf.patch({"port": 1}, confirm=0.05)).outcome == "applied"
        assert conf.current.port == 1
        assert on_disk(path) is None
        assert 0 <= conf.unconfirmed <= 0.05
        await until(lambda: conf.current.port == 8080)
        assert conf.unconfirmed is None
        assert conf.reports[-1].triggers == ("unconfirmed",)
        with pytest.raises(NothingToConfirm):
            await conf.confirm()


async def test_it_stays_through_reloads_and_is_permanent_when_confirmed(path):
    conf, memory = overlaid(path)
    async with conf.running(signals=()):
        await conf.patch({"port": 1}, confirm=60)
        memory.set({"message": "other"})
        await conf.reload()
        assert (conf.current.port, conf.current.message) == (1, "other")
        with pytest.raises(Unconfirmed):
            await conf.patch({"port": 2})
        assert (await conf.confirm()).outcome == "unchanged"
        assert on_disk(path) == {"port": 1}
        assert conf.unconfirmed is None
        assert (await conf.patch({"port": 2})).outcome == "applied"


async def test_confirming_takes_in_what_was_edited_by_hand_meanwhile(path):
    conf, _ = overlaid(path)
    async with conf.running(signals=()):
        await conf.patch({"port": 1}, confirm=60)
        path.write_text("message = 'by hand'\n")
        report = await conf.confirm()
        assert (report.outcome, report.changed) == ("applied", ("message",))
        assert (conf.current.port, conf.current.message) == (1, "by hand")
        assert on_disk(path) == {"port": 1, "message": "by hand"}


async def test_confirming_does_not_overwrite_an_edit_by_hand_that_is_broken(path):
    conf, _ = overlaid(path)
    async with conf.running(signals=()):
        await conf.patch({"port": 1}, confirm=60)
        for broken, place in (("message = \n", f"{path}:1"), ("\nmessage = 5\n", f"{path}:2:1")):
            path.write_text(broken)
            report = await conf.confirm()
            assert (report.outcome, path.read_text()) == ("rejected", broken)
            assert str(report.faults[0].origin).startswith(place)
            assert (conf.current.port, conf.unconfirmed is None) == (1, False)
        path.unlink()
        assert (await conf.confirm()).outcome == "unchanged"
        assert on_disk(path) == {"port": 1}


async def test_a_restart_forgets_it(path):
    conf, _ = overlaid(path)
    async with conf.running(signals=()):
        await conf.patch({"port": 1}, confirm=60)
    again, _ = overlaid(path)
    async with again.running(signals=()):
        assert again.current.port == 8080


async def test_it_is_taken_back_although_another_source_is_broken_by_then(path):
    conf, memory = overlaid(path)
    async with conf.running(signals=()):
        await conf.patch({"port": 1}, confirm=0.2)
        memory.set({"port": "broken", "message": []})
        assert (await conf.reload()).outcome == "rejected"
        await until(lambda: conf.current.port == 8080)


async def test_a_rollback_ends_it(path):
    conf, _ = overlaid(path)
    async with conf.running(signals=()):
        await conf.patch({"port": 1}, confirm=60)
        await conf.rollback()
        assert (conf.current.port, conf.unconfirmed) == (8080, None)
        await conf.reload()
        assert conf.current.port == 8080


async def test_what_a_rollback_brings_back_is_not_called_unconfirmed(path):
    conf, _ = overlaid(path)
    async with conf.running(signals=()):
        await conf.patch({"port": 1}, confirm=60)
        assert str(conf.explain("port").origin) == f"{path} (unconfirmed)"
        await conf.confirm()
        assert str(conf.explain("port").origin) == f"{path}:1:1"
        await conf.patch({"port": 2})
        await conf.rollback(2)
        assert (conf.current.port, str(conf.explain("port").origin)) == (1, str(path))
        await conf.reload()
        assert str(conf.explain("port").origin) == str(path)


@pytest.mark.parametrize("confirm", [None, 60])
async def test_a_patch_while_a_rollback_is_held_is_refused_and_says_what_to_do(path, confirm):
    conf, memory = overlaid(path)
    async with conf.running(signals=()):
        memory.set({"message": "bad idea"})
        await conf.reload()
        await conf.rollback()
        with pytest.raises(RollbackHeld, match="generation 3 was rolled back to and is held: change the sources"):
            await conf.patch({"port": 1}, confirm=confirm)
        assert (conf.current.message, conf.current.port, on_disk(path)) == ("hello", 8080, None)
        memory.set({"message": "better"})
        await conf.reload()
        assert (await conf.patch({"port": 1})).outcome == "applied"
        assert (conf.current.message, conf.current.port, conf.status.held) == ("better", 1, None)


async def test_what_needs_confirmation_needs_an_engine(path):
    conf, _ = overlaid(path)
    await asyncio.to_thread(conf.load)
    with pytest.raises(NotRunning):
        await conf.patch({"port": 1}, confirm=60)
    assert (await conf.patch({"port": 1})).outcome == "applied"


async def test_a_broken_overlay_rejects_and_says_where(path):
    path.write_text("port = \n")
    conf, _ = overlaid(path)
    report = await conf.reload()
    assert (report.outcome, report.faults[0].origin.line) == ("rejected", 1)


async def test_a_rollback_over_an_unconfirmed_patch_holds_although_the_patch_is_gone(path):
    conf, memory = overlaid(path, message="one")
    async with conf.running(signals=()):
        memory.set({"message": "bad idea"})
        await conf.reload()
        await conf.patch({"port": 1}, confirm=60)
        await conf.rollback(1)
        report = await conf.reload()
        assert (report.outcome, conf.current.message, conf.current.port) == ("unchanged", "one", 8080)
        assert "is held" in report.note


async def test_taking_a_patch_back_that_is_refused_is_not_tried_without_a_pause(path, monkeypatch):
    monkeypatch.setattr("hotconf.engine.engine.Engine._pause", 0.05)
    conf, _ = overlaid(path)
    refusals = []

    @conf.prepare("port")
    def not_back(change):
        if change.old is not None and change.new.port == 8080 and len(refusals) < 3:
            refusals.append(asyncio.get_running_loop().time())
            raise Refuse("not back")

    async with conf.running(signals=()):
        await conf.patch({"port": 1}, confirm=0.01)
        await until(lambda: conf.current.port == 8080)
    pauses = [later - earlier for earlier, later in itertools.pairwise(refusals)]
    assert [pause >= 0.05 for pause in pauses] == [True, True]


async def test_it_is_taken_back_after_the_engine_was_stopped_and_started(path):
    conf, _ = overlaid(path)
    async with conf.running(signals=()):
        await conf.patch({"port": 1}, confirm=0.2)
    async with conf.running(signals=()):
        assert conf.current.port == 1
        await until(lambda: conf.current.port == 8080)


async def test_an_expectation_that_raises_refuses_the_patch_and_nothing_else(path):
    conf, _ = overlaid(path)
    async with conf.running(signals=()):
        with pytest.raises(OperationRefused, match="what is expected cannot be told: ZeroDivisionError") as refused:
            await conf.patch({"port": 1}, expect=lambda snapshot: 1 / 0)
        assert isinstance(refused.value.__cause__, ZeroDivisionError)
        assert (await conf.patch({"port": 2})).outcome == "applied"


async def test_a_rollback_to_a_patch_that_was_never_confirmed_holds(path):
    conf, _ = overlaid(path)
    async with conf.running(signals=()):
        await conf.patch({"port": 1}, confirm=0.01)
        await until(lambda: conf.current.port == 8080)
        await conf.rollback(2)
        assert "is held" in (await conf.reload()).note
        assert conf.current.port == 1


def test_the_places_of_many_faults_are_looked_up_in_one_pass():
    """A patch of 13 KiB with a thousand wrong values held the event loop for seconds."""

    class Counting(dict):
        passes = 0

        def items(self):
            self.passes += 1
            return super().items()

    origins = Counting({("numbers", str(n)): Origin("overlay", "overlay.toml", n + 1, 1) for n in range(1000)})
    before = Layer("overlay.toml", {"numbers": {"0": 0}}, {("numbers", "0"): Origin("overlay", "overlay.toml", 7, 1)})
    after = Layer("overlay.toml", {"numbers": {str(n): n for n in range(1000)}}, origins)
    faults = [Fault(f"numbers.{n}", "wrong", origins["numbers", str(n)]) for n in range(1000)]
    elsewhere = Fault("message", "wrong", Origin("file", "app.toml", 3, 1))
    blamed = OverlayEdit(before, after).blamed([*faults, elsewhere])
    assert origins.passes == 1
    assert [str(fault.origin) for fault in blamed[:2]] == ["overlay.toml:7:1", "patch"]
    assert {str(fault.origin) for fault in blamed[1:-1]} == {"patch"}
    assert blamed[-1] == elsewhere


@pytest.mark.parametrize("confirm", [None, 60])
async def test_I5_a_patch_does_not_put_an_emptied_source_into_force(path, confirm):
    conf, memory = overlaid(path, message="below", port=1)
    async with conf.running(signals=()):
        memory.set({})
        report = await conf.patch({"port": 2}, confirm=confirm)
        assert (report.outcome, report.stage, on_disk(path)) == ("rejected", "guard", None)
        assert (conf.current.message, conf.current.port) == ("below", 1)
        memory.set({"message": "below"})
        assert (await conf.patch({"port": 2}, confirm=confirm)).outcome == "applied"


async def test_a_patch_may_take_back_all_that_the_overlay_holds(path):
    values = {f"key{number}": number for number in range(20)}
    conf = HotConf(Untyped, sources=[Memory({"port": 1})], options=Options(watch=False, overlay=path))
    async with conf.running(signals=()):
        assert (await conf.patch(values)).outcome == "applied"
        assert (await conf.patch(dict.fromkeys(values))).outcome == "applied"
        assert on_disk(path) == {}
