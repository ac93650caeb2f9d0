"""The tests that every source must pass. This module imports pytest.

Derive a class whose name begins with Test, and define how to make the source and how to change what it reads:

    class TestTable(SourceConformance):
        @pytest.fixture(autouse=True)
        def store(self, tmp_path):
            self.path = tmp_path / "settings.db"

        def make(self, *, required): return Table(self.path, required=required)
        def write(self, values): ...
        def corrupt(self): ...
        def remove(self): ...

No plugin for asyncio is needed: each test runs event loops of its own, since a source must work in several.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, ConfigDict

from hotconf.abc import Hinting, Source, WatchedFiles
from hotconf.conf import HotConf
from hotconf.errors import SourceUnreachable
from hotconf.schema.settings import Options
from hotconf.values.layer import Layer, Origin
from hotconf.values.merge import leaves, merge, origin_in

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE = 10.0
"""Seconds after which a step that should take milliseconds has failed."""

_LOOK = 0.005
"""Seconds between two looks at what has to change by itself."""

_CUTS = 20
"""Steps of the event loop: a read is cancelled after none of them, after one, and so on."""


class Anything(BaseModel):
    """Settings that accept everything that a source holds."""

    model_config = ConfigDict(frozen=True, extra="allow")


class SourceConformance:
    """What hotconf expects of a source, with a test for each expectation.

    Attributes:
        first: The values that the source is given to hold at first. A source that cannot hold such values, numbers for
            example, replaces `first` and `second`. Each must have keys that the other lacks.
        second: The values that follow.
    """

    first: Mapping[str, Any] = {"name": "one", "port": 1, "tags": ["a", "b"], "database": {"url": "db://one"}}
    second: Mapping[str, Any] = {"name": "two", "tags": [], "database": {"url": "db://two", "size": 5}}

    def make(self, *, required: bool) -> Any:
        """Return a new source that reads the store of this test. Called before and after `write`.

        Args:
            required: The `required` of the source.
        """
        raise NotImplementedError

    def write(self, values: Mapping[str, Any]) -> None:
        """Make the store hold exactly these values."""
        raise NotImplementedError

    def corrupt(self) -> None:
        """Make the store hold malformed content. Tests of that are skipped where this method is not overridden."""
        pytest.skip("this source cannot hold anything malformed")

    def remove(self) -> None:
        """Remove the store. Tests of that are skipped where this method is not overridden."""
        pytest.skip("what this source reads cannot be absent")

    def cut(self) -> None:
        """Put the store out of reach. Tests of that are skipped where this method is not overridden."""
        pytest.skip("what this source reads cannot be out of reach")

    def mend(self) -> None:
        """Undo `cut`."""

    @pytest.mark.parametrize("required", [True, False])
    def test_it_is_a_source(self, required: bool) -> None:  # noqa: FBT001 - pytest calls it by name
        """It has a name for operators and says whether it may be absent."""
        source = self.make(required=required)
        assert isinstance(source, Source), "it needs name, required, and read()"
        assert isinstance(source.name, str)
        assert source.name, "its name is empty"
        assert source.required is required

    def test_it_returns_what_it_holds(self) -> None:
        """A read returns layers of mappings that hold exactly what is there."""
        assert _values(self._read(self.first)) == self.first

    def test_an_edit_is_read(self) -> None:
        """A read returns the values that were written last, and no earlier ones."""
        source = self._written(self.first)
        _read(source)
        self.write(self.second)
        assert _values(_read(source)) == self.second

    def test_the_same_content_is_the_same(self) -> None:
        """Reading again, and writing the same again, gives equal values and equal revisions."""
        source = self._written(self.first)
        once, again = _read(source), _read(source)
        assert _values(once) == _values(again)
        assert _revisions(once) == _revisions(again), "the revision changed although the content did not"
        self.write(self.first)
        assert _values(_read(source)) == _values(once)

    def test_equal_revisions_mean_equal_values(self) -> None:
        """A revision that is not empty changes with the content."""
        source = self._written(self.first)
        before = _read(source)
        self.write(self.second)
        after = _read(source)
        if "" in {*_revisions(before), *_revisions(after)}:
            pytest.skip("this source has no revisions")
        assert _revisions(before) != _revisions(after)

    def test_a_layer_stays_what_it_was(self) -> None:
        """A layer belongs to the reload that read it: later edits and reads do not change it."""
        source = self._written(self.first)
        layers = _read(source)
        before = copy.deepcopy([layer.values for layer in layers])
        self.write(self.second)
        _read(source)
        assert [layer.values for layer in layers] == before

    def test_every_value_has_an_origin(self) -> None:
        """Each value has an origin that exists: a file, and a line that the file has."""
        for layer in self._read(self.first):
            for path, _ in leaves(layer.values):
                _check_origin(origin_in(layer, path))

    @pytest.mark.parametrize("required", [True, False])
    def test_what_cannot_be_understood_raises(self, required: bool) -> None:  # noqa: FBT001
        """Malformed content is an error and is never read as empty, also if the source is optional."""
        source = self._written(self.first, required=required)
        _read(source)
        self.corrupt()
        _check_raises(source)

    def test_a_required_one_that_is_absent_raises(self) -> None:
        """The absence of a required source is an error, at the first read and later."""
        source = self._written(self.first)
        _read(source)
        self.remove()
        _check_raises(source)
        _check_raises(self.make(required=True))

    def test_an_optional_one_that_is_absent_is_empty(self) -> None:
        """An optional source that is absent holds nothing."""
        source = self._written(self.first, required=False)
        _read(source)
        self.remove()
        assert _values(_read(source)) == {}
        assert _values(_read(self.make(required=False))) == {}

    def test_it_recovers(self) -> None:
        """After a failure the next well-formed content is read."""
        source = self._written(self.first)
        self.corrupt()
        _check_raises(source)
        self.write(self.second)
        assert _values(_read(source)) == self.second

    def test_it_can_be_cancelled_at_any_point(self) -> None:
        """A read that is cancelled ends as cancelled, and the next read works."""
        source = self._written(self.first)
        asyncio.run(_cancel_everywhere(source))
        assert _values(_read(source)) == self.first

    def test_it_works_in_several_event_loops(self) -> None:
        """A program loads in one event loop and is live in another one; both read the same source."""
        conf = self._conf(self.first)
        conf.load()
        with conf.running(signals=()):
            assert conf.reload_blocking(PATIENCE).outcome == "unchanged"
        self.write(self.second)
        conf.load()
        assert _document(conf) == self.second

    def test_many_reloads_at_once_end_with_the_last_content(self) -> None:
        """After many reloads while the content changes, the values that were written last are in force."""
        conf = self._conf(self.first)

        async def storm() -> None:
            async with conf.running(signals=()):
                for values in (self.second, self.first, self.second):
                    self.write(values)
                    await asyncio.gather(*(conf.reload() for _ in range(5)))
                    assert _document(conf) == values

        asyncio.run(storm())

    def test_a_failure_leaves_the_running_values_in_force(self) -> None:
        """A reload that cannot read the source is rejected, and its faults name the source or the place."""
        conf = self._conf(self.first)
        with conf.running(signals=()):
            self.corrupt()
            report = conf.reload_blocking(PATIENCE)
            assert (report.outcome, report.stage) == ("rejected", "read"), "malformed content was taken for values"
            assert all(fault.origin is not None for fault in report.faults), "a fault has no origin"
            assert _document(conf) == self.first

    def test_a_change_is_noticed(self) -> None:
        """A source that has files to watch, or reports changes, causes a reload at every change of its content."""
        source = self._written(self.first)
        conf = HotConf(Anything, sources=[source])
        if not isinstance(source, (Hinting, WatchedFiles)):
            pytest.skip("this source neither reports changes nor has files to watch")

        async def watch() -> None:
            changed = asyncio.Event()
            conf.on_change(lambda _change: changed.set())
            async with conf.running(signals=()), asyncio.timeout(PATIENCE):
                for values in (self.second, self.first):
                    await asyncio.to_thread(self.write, values)
                    while _document(conf) != values:
                        await changed.wait()
                        changed.clear()

        asyncio.run(watch())

    def test_what_is_out_of_reach_is_an_outage(self) -> None:
        """A read of a store out of reach says so, and neither that it is absent nor that it is malformed."""
        source = self._written(self.first)
        _read(source)
        self.cut()
        with pytest.raises((OSError, TimeoutError, SourceUnreachable)):
            asyncio.run(_layers(source))
        self.mend()
        assert _values(_read(source)) == self.first

    def test_an_outage_ends_by_itself(self) -> None:
        """What changed while the store was out of reach is in force when it is back. Nothing is needed but time."""
        source = self._written(self.first)
        conf = HotConf(Anything, sources=[source], options=Options(watch=False))
        if not isinstance(source, Hinting):
            pytest.skip("this source reports no changes")

        async def survive() -> None:
            async with conf.running(signals=()), asyncio.timeout(2 * PATIENCE):
                await asyncio.to_thread(self.cut)
                report = await conf.reload()
                keeps = getattr(source, "outage", "reject") == "keep"
                assert report.outcome == ("unchanged" if keeps else "rejected")
                assert _document(conf) == self.first
                await asyncio.to_thread(self.mend)
                await asyncio.to_thread(self.write, self.second)
                while _document(conf) != self.second or conf.status.sources[0]["state"] != "fresh":  # noqa: ASYNC110 - no event
                    await asyncio.sleep(_LOOK)

        asyncio.run(survive())

    def _written(self, values: Mapping[str, Any], *, required: bool = True) -> Any:
        self.write(values)
        return self.make(required=required)

    def _read(self, values: Mapping[str, Any]) -> Sequence[Layer]:
        return _read(self._written(values))

    def _conf(self, values: Mapping[str, Any]) -> HotConf[Anything]:
        return HotConf(Anything, sources=[self._written(values)], options=Options(watch=False))


async def _layers(source: Any) -> Sequence[Layer]:
    async with asyncio.timeout(PATIENCE):
        read = await source.read()
        return list(read) if isinstance(read, (list, tuple)) else [read]


def _read(source: Any) -> Sequence[Layer]:
    layers = asyncio.run(_layers(source))
    for layer in layers:
        assert isinstance(layer, Layer), f"a read returned {type(layer).__name__} where a Layer is needed"
        assert isinstance(layer.values, Mapping), "a layer's values are no mapping"
    return layers


def _values(layers: Sequence[Layer]) -> Mapping[str, Any]:
    return merge(list(layers)).values


def _revisions(layers: Sequence[Layer]) -> list[str]:
    return [layer.revision for layer in layers]


def _document(conf: HotConf[Anything]) -> Mapping[str, Any]:
    return conf.current.model_dump()


def _check_raises(source: Any) -> None:
    try:
        layers = asyncio.run(_layers(source))
    except Exception:  # noqa: BLE001 - any error is right, but no exit and no cancellation
        return
    pytest.fail(f"a read of an absent or malformed store returned {_values(layers)!r} instead of raising")


def _check_origin(origin: Origin) -> None:
    assert isinstance(origin, Origin)
    assert origin.source, "an origin names no source"
    if origin.line is None or origin.kind == "remote":
        return
    text = Path(origin.source).read_text(encoding="utf-8").splitlines()
    assert 1 <= origin.line <= len(text), f"{origin.source} has no line {origin.line}"
    assert 1 <= (origin.column or 1) <= len(text[origin.line - 1]) + 1, f"no column {origin.column} in that line"


async def _cancel_everywhere(source: Any) -> None:
    for steps in range(_CUTS):
        reading = asyncio.create_task(_layers(source))
        for _ in range(steps):
            await asyncio.sleep(0)
        if reading.cancel():
            await asyncio.wait([reading])
            assert reading.cancelled(), f"cancelled after {steps} steps, the read went on"
