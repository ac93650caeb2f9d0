"""A patch names what it takes from the overlay, and nothing else: the guard judges every other source."""

from __future__ import annotations

import pytest

from hotconf import HotConf, Options, Settings


class App(Settings):
    message: str = "default"
    a: int = 0
    b: int = 0
    numbers: dict[str, int] = {}


FULL = 'message = "x"\na = 1\n[numbers]\n' + "".join(f"n{n} = {n}\n" for n in range(12))
SPOILT = {"emptied": "", "cut short": 'message = "x"\na = 1\n', "of nothing but a table": "[numbers]\n"}


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("options", [{}, {"confirm": 60.0}, {"dry_run": True}], ids=str)
async def test_a_patch_brings_no_file_into_force_that_the_guard_refuses(tmp_path, spoilt, options):
    file = tmp_path / "app.toml"
    file.write_text(FULL)
    good = tmp_path / "good.json"
    conf = HotConf(App, files=[file], options=Options(watch=False, overlay=tmp_path / "o.toml", last_good=good))
    async with conf.running(signals=()):
        saved = good.read_text()
        file.write_text(spoilt)
        assert (await conf.reload()).stage == "guard"
        report = await conf.patch({"b": 20}, **options)
        assert (report.outcome, report.stage) == ("rejected", "guard")
        assert (conf.current.a, conf.current.b, len(conf.current.numbers)) == (1, 0, 12)
        assert good.read_text() == saved
        assert (await conf.reload(force=True)).outcome == "applied"
        assert (await conf.patch({"b": 20}, **options)).outcome == "applied"


async def test_a_file_that_is_gone_stays_refused_under_a_patch(tmp_path):
    file = tmp_path / "app.toml"
    file.write_text(FULL)
    conf = HotConf(App, files=[file], options=Options(watch=False, overlay=tmp_path / "o.toml"))
    async with conf.running(signals=()):
        file.unlink()
        assert (await conf.patch({"b": 20})).outcome == "rejected"
        assert conf.current.b == 0


async def test_what_a_patch_takes_from_the_overlay_is_meant(tmp_path):
    (tmp_path / "app.toml").write_text('message = "x"\n')
    overlay = tmp_path / "o.toml"
    conf = HotConf(App, files=[tmp_path / "app.toml"], options=Options(watch=False, overlay=overlay))
    async with conf.running(signals=()):
        await conf.patch({"numbers": {f"n{n}": n for n in range(20)}, "a": 2})
        assert (await conf.patch({"numbers": None})).outcome == "applied"
        assert (await conf.patch({"a": None})).outcome == "applied"
        assert conf.current == App(message="x")


async def test_a_rollback_goes_back_behind_an_emptied_file(tmp_path):
    file = tmp_path / "app.toml"
    file.write_text(FULL)
    conf = HotConf(App, files=[file], options=Options(watch=False))
    async with conf.running(signals=()):
        file.write_text(FULL.replace('"x"', '"y"'))
        await conf.reload()
        file.write_text("")
        assert (await conf.rollback()).outcome == "applied"
        assert conf.current.message == "x"
