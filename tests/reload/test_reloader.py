"""The reload: from the sources to the swap, what makes it stop, and what it leaves as it was."""

import asyncio
import itertools

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from hotconf import HotConf, Layer, Refuse, Section, Settings
from hotconf.reload.request import ReloadRequest
from hotconf.sources import File, Memory
from hotconf.values.report import jsonable
from tests.heart import QUIET, App, Gate, memory_conf, raising


class Strict(Settings):
    port: int = 1
    database: dict[str, int] = {}

    @field_validator("port")
    @classmethod
    def positive(cls, port):
        if port < 0:
            raise ValueError("port must be positive")
        if port > 65535:
            raise RuntimeError("a validator that breaks")
        return port


class Bench:
    """One way to make a reload fail, and to mend it."""

    def __init__(self, tmp_path):
        self.file = tmp_path / "app.toml"
        self.mend()
        self.conf = HotConf(Strict, files=[self.file], options=QUIET)

    def mend(self, port=1):
        self.file.write_text(f"port = {port}\n")

    def missing(self):
        self.file.unlink()

    def malformed(self):
        self.file.write_text("port = \n")

    def half_written(self):
        self.file.write_text('port = 5\nname = "ab')

    def wrong_type(self):
        self.file.write_text('port = "many"\n')

    def unknown_key(self):
        self.file.write_text("prot = 5\n")

    def odd_section(self):
        self.file.write_text('port = 5\ndatabase = "none"\n')

    def validator_refuses(self):
        self.mend(-1)

    def validator_breaks(self):
        self.mend(70000)

    def prepare_refuses(self):
        self.mend(6)

        def refuse(change):
            if change.new.port == 6:
                raise Refuse("not six")

        self.conf.prepare(refuse)


STATIONS = [
    "missing",
    "malformed",
    "half_written",
    "wrong_type",
    "unknown_key",
    "odd_section",
    "validator_refuses",
    "validator_breaks",
    "prepare_refuses",
]


@pytest.mark.parametrize("fault", STATIONS)
async def test_I1_whatever_fails_the_last_good_one_stays_in_force_and_mending_recovers(tmp_path, fault):
    bench = Bench(tmp_path)
    conf, heard = bench.conf, []
    conf.on_change(lambda change: heard.append(change.new.port))
    async with conf.running(signals=()):
        for number in range(1, 11):
            before = conf.snapshot
            getattr(bench, fault)()
            report = await conf.reload()
            assert report.outcome == "rejected", report
            assert report.faults
            assert report.generation == number
            assert conf.snapshot is before
            assert conf.current is before.settings
            assert (conf.status.consecutive_failures, conf.status.degraded) == (1, ("the last reload was rejected",))
            bench.mend(100 + number)
            assert (await conf.reload()).outcome == "applied"
            assert conf.current.port == 100 + number
            assert (conf.status.consecutive_failures, conf.status.degraded) == (0, ())
    assert heard == [100 + number for number in range(1, 11)]


async def test_I1_an_unforeseen_error_rejects_too(monkeypatch):
    conf, memory = memory_conf()
    async with conf.running(signals=()):
        monkeypatch.setattr("hotconf.sources.construct.merge", raising(ZeroDivisionError()))
        memory.set({"port": 1})
        report = await conf.reload()
        assert report.outcome == "rejected"
        assert "ZeroDivisionError" in str(report)
        monkeypatch.undo()
        assert (await conf.reload()).outcome == "applied"


async def test_failures_in_a_row_are_all_counted():
    conf, memory = memory_conf()
    async with conf.running(signals=()):
        memory.set({"port": "many"})
        for _ in range(130):
            await conf.reload()
        assert conf.status.consecutive_failures == 130
        assert len(conf.reports) == 100


# I6: equal values


async def test_I6_equal_values_call_nobody_and_make_no_generation(tmp_path):
    file = tmp_path / "app.toml"
    same = [
        'message = "a"\nport = 1\n[database]\nurl = "u"\n',
        '# a comment\nport = 1\n\nmessage = "a"\n[database]\nurl = "u"\n',
        "database.url = \"u\"\nport = 0x1\nmessage = 'a'\n",
        'message = "a"\nport = 1\n[database]\nurl = "u"\npool_size = 10\n',  # the default, said aloud
    ]
    file.write_text(same[0])
    conf, called = HotConf(App, files=[file], options=QUIET), []
    async with conf.running(signals=()):
        conf.prepare(called.append)
        conf.on_change(called.append)
        before = conf.snapshot
        for text in itertools.islice(itertools.cycle(same), 12):
            file.write_text(text)
            report = await conf.reload()
            assert (report.outcome, report.generation, report.changed) == ("unchanged", 1, ())
            assert conf.snapshot is before
        file.touch()
        assert (await conf.reload()).outcome == "unchanged"
    assert called == []


async def test_I6_there_and_back_are_two_changes():
    conf, memory = memory_conf(port=1)
    async with conf.running(signals=()):
        first = conf.current
        for generation, port in enumerate([2, 1, 2, 1], 2):
            memory.set({"port": port})
            report = await conf.reload()
            assert (report.outcome, report.generation, report.changed) == ("applied", generation, ("port",))
        assert conf.current == first
        assert conf.current is not first
        assert conf.current.database is first.database


async def test_I6_the_type_of_a_value_counts():
    class Loose(BaseModel):
        value: object = None

    memory = Memory({"value": 1})
    conf = HotConf(Loose, sources=[memory], options=QUIET)
    async with conf.running(signals=()):
        for value in (True, 1.0, float("nan")):
            memory.set({"value": value})
            assert (await conf.reload()).outcome == "applied"
        assert (await conf.reload()).outcome == "unchanged"


async def test_I6_a_default_factory_is_asked_once_while_no_source_sets_the_field():
    numbers = itertools.count(1)

    class Stamped(Section):
        token: int = Field(default_factory=lambda: next(numbers))
        port: int = 0

    memory = Memory()
    conf = HotConf(Stamped, sources=[memory], options=QUIET)
    async with conf.running(signals=()):
        assert (await conf.reload()).outcome == "unchanged"
        memory.set({"port": 1})
        assert (await conf.reload()).changed == ("port",)
        assert conf.current.token == 1
        memory.set({"token": 50})
        assert (await conf.reload()).changed == ("token", "port")


async def test_I6_starting_after_a_load_keeps_the_generation_while_values_are_equal():
    conf, memory = memory_conf()
    conf.load()
    before = conf.snapshot
    async with conf.running(signals=()):
        assert conf.snapshot is before
        assert conf.reports[-1].outcome == "unchanged"
    memory.set({"port": 5})
    async with conf.running(signals=()):
        assert conf.snapshot.generation == 2


async def test_I12_an_unchanged_part_is_the_same_object():
    conf, memory = memory_conf()
    async with conf.running(signals=()):
        database = conf.current.database
        memory.set({"port": 1})
        await conf.reload()
        assert conf.current.database is database
        memory.set({"database": {"url": "db://two"}})
        await conf.reload()
        assert conf.current.database is not database


async def test_a_validator_that_takes_its_input_apart_does_so_afresh_each_time(tmp_path):
    """Unchanged files reuse what was parsed: nothing may have been taken out of it."""

    class Pool(Section):
        host: str = "default"

        @model_validator(mode="before")
        @classmethod
        def legacy(cls, values):
            server = values.pop("server", None)
            return {"host": server} if server else values

    class Legacy(Settings):
        pool: Pool = Pool()
        pools: list[Pool] = []
        port: int = 0

    file = tmp_path / "app.toml"
    file.write_text('[pool]\nserver = "a"\n[[pools]]\nserver = "b"\n')
    memory = Memory()
    conf = HotConf(Legacy, files=[file], sources=[memory], options=QUIET)
    async with conf.running(signals=()):
        for port in (1, 2):
            memory.set({"port": port})
            assert (await conf.reload()).changed == ("port",)
            assert (conf.current.pool.host, conf.current.pools[0].host) == ("a", "b")
            assert str(conf.explain("port").origin) == "memory"


# First generations


class Anything(BaseModel):
    model_config = ConfigDict(extra="allow")


@pytest.mark.parametrize("values", [{}, {"any": {"thing": 1}}])
async def test_a_class_without_declared_fields_can_be_loaded(values):
    memory = Memory(values)
    conf = HotConf(Anything, sources=[memory], options=QUIET)
    assert conf.load().outcome == "applied"
    assert conf.current.model_dump() == values
    async with conf.running(signals=()):
        memory.set({"other": 2})
        report = await conf.reload()
        assert report.outcome == "applied"
        assert conf.current.other == 2


def test_a_first_report_names_every_part():
    conf, _ = memory_conf()
    report = conf.load()
    assert (report.id, report.outcome, report.generation) == (1, "applied", 1)
    assert report.changed == ("message", "port", "database")
    assert report.triggers == ("load",)


# Reports and origins


async def test_each_reload_has_one_report_with_an_id_of_its_own(caplog):
    caplog.set_level("INFO", "hotconf")
    conf, memory = memory_conf()
    async with conf.running(signals=()):
        await conf.reload(trigger="first")
        memory.set({"port": "many"})
        await conf.reload(trigger="second")
    assert [report.id for report in conf.reports] == [1, 2, 3]
    assert [report.triggers for report in conf.reports] == [("start",), ("first",), ("second",)]
    logged = [record for record in caplog.records if hasattr(record, "hotconf")]
    assert [record.hotconf for record in logged] == [jsonable(report) for report in conf.reports]
    assert [record.levelname for record in logged] == ["INFO", "INFO", "WARNING"]
    assert [record.getMessage() for record in logged] == [str(report) for report in conf.reports]


async def test_origins_follow_a_value_that_moved_without_changing(tmp_path):
    file = tmp_path / "app.toml"
    file.write_text("port = 1\n")
    memory = Memory()
    conf = HotConf(App, files=[file], sources=[memory], options=QUIET)
    async with conf.running(signals=()):
        assert str(conf.explain("port").origin) == f"{file}:1:1"
        file.write_text("# a comment\nport = 1\n")
        assert (await conf.reload()).outcome == "unchanged"
        assert str(conf.explain("port").origin) == f"{file}:2:1"
        memory.set({"port": 1})
        assert (await conf.reload()).outcome == "unchanged"
        explanation = conf.explain("port")
        assert str(explanation.origin) == "memory"
        assert [str(entry.origin) for entry in explanation.shadowed] == [f"{file}:2:1"]


async def test_a_rejected_reload_leaves_the_origins_alone(tmp_path):
    file = tmp_path / "app.toml"
    file.write_text("port = 1\n")
    conf = HotConf(App, files=[file], options=QUIET)
    async with conf.running(signals=()):
        file.write_text("\n\nport = 'many'\n")
        await conf.reload()
        assert str(conf.explain("port").origin) == f"{file}:1:1"
        assert conf.explain("port").value == 1


async def test_I11_faults_and_logs_quote_no_secret(tmp_path, caplog):
    class Vault(Settings):
        password: SecretStr
        port: int = 0

    file = tmp_path / "app.toml"
    file.write_text('password = "hunter2-hunter2"\nport = 1\n')
    caplog.set_level("DEBUG", "hotconf")
    conf = HotConf(Vault, files=[file], options=QUIET)
    async with conf.running(signals=()):
        file.write_text('password = "hunter2-hunter2"\nport = "hunter2-hunter2"\n')
        report = await conf.reload()
        assert report.outcome == "rejected"
    shown = f"{caplog.text} {jsonable(report)} {jsonable(conf.status)} {conf.explain('password')}"
    assert "hunter2" not in shown


# Cancellation of the trip itself


async def test_a_cancelled_reload_publishes_nothing_and_reports_nothing():
    gate = Gate(port=1)
    conf = HotConf(App, sources=[gate], options=QUIET)
    conf.load()
    gate.shut()
    gate.values = {"port": 2}
    trip = asyncio.create_task(conf._reloader.reload(ReloadRequest(("test",))))
    await gate.entered.wait()
    trip.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trip
    assert conf.current.port == 1
    assert len(conf.reports) == 1


async def test_reading_is_one_at_a_time_per_source():
    class Single(Gate):
        at_work = 0

        async def read(self):
            self.at_work += 1
            assert self.at_work == 1
            await asyncio.sleep(0)
            self.at_work -= 1
            return Layer(self.name, {})

    conf = HotConf(App, sources=[Single()], options=QUIET)
    async with conf.running(signals=()):
        reports = await asyncio.gather(*(conf.reload() for _ in range(20)))
    assert {report.outcome for report in reports} == {"unchanged"}


async def test_an_unchanged_file_is_not_parsed_again_while_another_changes(tmp_path, monkeypatch):
    from hotconf import formats

    parsed, parse = [], formats.parse
    monkeypatch.setattr(formats, "parse", lambda kind, data: parsed.append(data) or parse(kind, data))
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text("port = 1\n")
    second.write_text('message = "x"\n')
    conf = HotConf(App, files=[File(first), second], options=QUIET)
    async with conf.running(signals=()):
        assert len(parsed) == 2
        first.touch()
        second.write_text('message = "y"\n')
        await conf.reload()
    assert parsed[2:] == [b'message = "y"\n']
