"""HotConf: precedence, the ways to load, what it refuses by name, and what it shows."""

import asyncio
import copy
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pydantic import BaseModel, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from hotconf import ConfigError, HotConf, Layer, NotLoaded, Options, Section, Settings
from hotconf.errors import ReentrantReload, SchemaError, SignalsUnavailable
from hotconf.sources import File, Memory
from hotconf.values.report import jsonable
from tests.heart import QUIET, App, Database, Gate, memory_conf, until
from tests.support import environment

# Precedence


class Custom(PydanticBaseSettingsSource):
    """The user's own source."""

    values = {}

    def get_field_value(self, field, field_name):
        raise NotImplementedError

    def __call__(self):
        return self.values


class Ranked(BaseSettings):
    """One field for each pair of neighbours in the order of precedence."""

    model_config = {"env_prefix": "RANKED_", "extra": "forbid"}

    value: str = "default"

    @classmethod
    def settings_customise_sources(
        cls, settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
    ):
        return init_settings, env_settings, dotenv_settings, file_secret_settings, Custom(settings_cls)


PRECEDENCE = ["init", "env", "dotenv", "secrets", "custom", "later source", "source", "later file", "file", "default"]


class Places:
    """Sets one field in any of the places that it may come from."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.secrets = folder / "secrets"
        self.secrets.mkdir()
        self.dotenv = folder / ".env"
        for name in ("a.toml", "b.toml"):
            (folder / name).write_text("")
        self.sources = [Memory(name="source"), Memory(name="later source")]
        self.init = {}
        monkeypatch.setattr(Custom, "values", {})
        monkeypatch.setitem(Ranked.model_config, "env_file", str(self.dotenv))
        monkeypatch.setitem(Ranked.model_config, "secrets_dir", str(self.secrets))

    def put(self, place):
        if place in ("file", "later file"):
            (self.folder / {"file": "a.toml", "later file": "b.toml"}[place]).write_text(f'value = "{place}"\n')
        elif place in ("source", "later source"):
            self.sources[place == "later source"].set({"value": place})
        elif place == "env":
            self.monkeypatch.setenv("RANKED_VALUE", place)
        elif place == "dotenv":
            self.dotenv.write_text(f"RANKED_VALUE={place}\n")
        elif place == "secrets":
            (self.secrets / "ranked_value").write_text(place)
        elif place == "custom":
            Custom.values = {"value": place}
        elif place == "init":
            self.init = {"value": place}

    def conf(self):
        files = [self.folder / "a.toml", self.folder / "b.toml"]
        return HotConf(Ranked, files=files, sources=self.sources, init=self.init, options=QUIET)


@pytest.mark.parametrize("rank", range(len(PRECEDENCE)))
def test_a_place_stands_above_all_that_follow_it(tmp_path, monkeypatch, rank):
    places = Places(tmp_path, monkeypatch)
    for place in PRECEDENCE[rank:]:
        places.put(place)
    conf = places.conf()
    conf.load()
    assert conf.current.value == PRECEDENCE[rank]


def test_an_explanation_names_every_place_in_order(tmp_path, monkeypatch):
    places = Places(tmp_path, monkeypatch)
    for place in PRECEDENCE:
        places.put(place)
    conf = places.conf()
    conf.load()
    explanation = conf.explain("value")
    assert [explanation.value, *(entry.value for entry in explanation.shadowed)] == PRECEDENCE[:-1]
    assert [str(explanation.origin), *(str(entry.origin) for entry in explanation.shadowed)] == [
        "init",
        "env RANKED_VALUE",
        f"{places.dotenv}:1:1",
        f"{places.secrets}/ranked_value",
        "Custom",
        "later source",
        "source",
        f"{tmp_path}/b.toml:1:1",
        f"{tmp_path}/a.toml:1:1",
    ]


def test_sections_are_merged_key_by_key_across_all_of_them(tmp_path, monkeypatch):
    file = tmp_path / "app.toml"
    file.write_text('[database]\nurl = "from the file"\n')
    monkeypatch.setenv("HEART_DATABASE__POOL_SIZE", "7")
    conf = HotConf(App, files=[file], options=QUIET)
    conf.load()
    assert conf.current.database == Database(url="from the file", pool_size=7)


def test_the_class_may_put_its_own_sources_in_another_order(monkeypatch):
    class Reversed(Ranked):
        @classmethod
        def settings_customise_sources(cls, settings_cls, init_settings, env_settings, **others):
            return Custom(settings_cls), env_settings

    monkeypatch.setattr(Custom, "values", {"value": "custom"})
    monkeypatch.setenv("RANKED_VALUE", "env")
    conf = HotConf(Reversed, options=QUIET)
    conf.load()
    assert conf.current.value == "custom"


def test_default_objects_that_may_be_changed_in_part_stay_the_weakest(tmp_path):
    class Partial(Settings):
        model_config = {"nested_model_default_partial_update": True, "env_prefix": "HEART_"}
        database: Database = Database(url="default", pool_size=1)

    file = tmp_path / "app.toml"
    file.write_text("[database]\npool_size = 2\n")
    conf = HotConf(Partial, files=[file], options=QUIET)
    conf.load()
    assert conf.current.database == Database(url="default", pool_size=2)
    assert str(conf.explain("database.url").origin) == "default"


def test_a_plain_model_reads_no_environment(monkeypatch):
    class Plain(BaseModel):
        home: str = "none"
        path: str = "none"

    conf = HotConf(Plain, options=QUIET)
    conf.load()
    assert conf.current == Plain()


def test_what_was_given_is_copied():
    values = {"database": {"pool_size": 1}, "message": "a"}
    conf = HotConf(App, init=values, options=QUIET)
    conf.load()
    values["database"]["pool_size"] = 2
    values["message"] = "b"
    assert conf.load().outcome == "unchanged"


@pytest.mark.parametrize("parameter", ["files", "sources"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_lone_path_is_one_file_and_no_list_of_letters(tmp_path, parameter, kind):
    file = tmp_path / "app.toml"
    file.write_text("port = 5\n")
    conf = HotConf(App, **{parameter: kind(file)}, options=QUIET)
    conf.load()
    assert conf.current.port == 5


def test_the_size_limit_of_the_options_holds_for_files(tmp_path):
    file = tmp_path / "app.toml"
    file.write_text("port = 5\n" + "#" * 100)
    conf = HotConf(App, files=[file], options=Options(watch=False, size_limit=50))
    with pytest.raises(ConfigError, match="larger than 50 bytes"):
        conf.load()
    HotConf(App, sources=[File(file)], options=Options(watch=False, size_limit=50)).load()


# Classes that cannot be used


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (dict, "not a pydantic model class"),
        (App(), "not a pydantic model class"),
    ],
)
def test_a_class_that_cannot_be_used_is_refused_by_name_at_construction(model, reason):
    with pytest.raises(SchemaError, match=reason):
        HotConf(model)


def test_a_class_with_a_type_that_is_not_there_is_refused_by_name():
    class Dangling(BaseModel):
        inner: "NotYetDefined"  # noqa: F821 - the point

    with pytest.raises(SchemaError, match="Dangling"):
        HotConf(Dangling)


def test_a_validator_that_returns_another_object_is_refused_by_name():
    class Swapping(BaseSettings):
        port: int = 0

        @model_validator(mode="wrap")
        @classmethod
        def swap(cls, values, handler):
            handler(values)
            return cls.model_construct(port=1)

    with pytest.raises((SchemaError, ConfigError), match="Swapping"):
        HotConf(Swapping, options=QUIET).load()


@pytest.mark.parametrize("source", [None, 1, b"app.toml", object(), Memory])
def test_what_is_neither_a_path_nor_a_source_is_refused_at_construction(source):
    with pytest.raises(TypeError, match="is neither a path nor a Source"):
        HotConf(App, sources=[source])


def test_constructing_reads_nothing(tmp_path):
    HotConf(App, files=[tmp_path / "missing.toml"], sources=[Gate()], options=QUIET)


# Loading


def test_load_says_what_it_did():
    conf, memory = memory_conf()
    assert conf.load().outcome == "applied"
    assert conf.load().outcome == "unchanged"
    memory.set({"port": 1})
    report = conf.load()
    assert (report.outcome, report.changed, report.generation) == ("applied", ("port",), 2)


def test_load_raises_with_every_fault_at_once():
    conf, _ = memory_conf(port="many", mesage="x", database={"pool_size": "some"})
    with pytest.raises(ConfigError) as caught:
        conf.load()
    assert {fault.path for fault in caught.value.report.faults} == {"port", "mesage", "database.pool_size"}
    assert not conf.loaded


def test_a_later_load_that_fails_leaves_what_was_loaded():
    conf, memory = memory_conf()
    conf.load()
    memory.set({"port": "many"})
    with pytest.raises(ConfigError):
        conf.load()
    assert conf.current.port == 8080


async def test_load_inside_a_running_loop():
    conf, _ = memory_conf()
    assert conf.load().outcome == "applied"


def test_load_in_a_thread_that_is_not_the_main_one():
    conf, _ = memory_conf()
    thread = threading.Thread(target=conf.load)
    thread.start()
    thread.join()
    assert conf.loaded


def test_loads_from_many_threads_take_turns():
    conf, _ = memory_conf()
    threads = [threading.Thread(target=conf.load) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.id for report in conf.reports] == list(range(1, 11))
    assert [report.outcome for report in conf.reports] == ["applied", *["unchanged"] * 9]


def test_load_asks_no_subscriber():
    conf, memory = memory_conf()
    called = []
    conf.prepare(called.append)
    conf.on_change(called.append)
    conf.load()
    memory.set({"port": 1})
    conf.load()
    assert called == []


async def test_load_while_running_goes_through_the_engine():
    conf, memory = memory_conf()
    asked = []
    async with conf.running(signals=()):
        conf.prepare(lambda change: asked.append(change.generation))
        memory.set({"port": 1})
        assert (await asyncio.to_thread(conf.load)).outcome == "applied"
        assert asked == [2]
        memory.set({"port": "many"})
        with pytest.raises(ConfigError):
            await asyncio.to_thread(conf.load)


async def test_a_reload_before_anything_loads():
    conf, _ = memory_conf()
    report = await conf.reload()
    assert (report.outcome, report.triggers) == ("applied", ("call",))
    assert conf.loaded


async def test_a_load_that_hangs_can_be_given_up_and_blocks_no_later_end():
    class Stuck(Gate):
        async def read(self):
            await asyncio.to_thread(go.wait)
            return Layer(self.name, {})

    go = threading.Event()
    conf = HotConf(App, sources=[Stuck()], options=QUIET)
    with pytest.raises(TimeoutError):
        conf.reload_blocking(timeout=0.01)
    waiting = asyncio.create_task(conf.reload())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not conf.loaded
    go.set()
    await until(lambda: conf.loaded)


def test_a_source_that_loads_what_it_belongs_to_is_told_instead_of_waiting_for_itself():
    errors = []

    class Recursive(Gate):
        async def read(self):
            for ask in (conf.load, conf.reload_blocking):
                with pytest.raises(ReentrantReload) as caught:
                    ask()
                errors.append(caught.value)
            return Layer(self.name, {})

    conf = HotConf(App, sources=[Recursive()], options=QUIET)
    conf.load()
    assert len(errors) == 2


async def test_entering_while_a_load_is_under_way_waits_for_its_turn():
    at_work, worst = [], []

    class Slow(Gate):
        async def read(self):
            at_work.append(1)
            worst.append(len(at_work))
            await asyncio.sleep(0.02)
            at_work.pop()
            return Layer(self.name, {})

    conf = HotConf(App, sources=[Slow()], options=QUIET)
    loading = [asyncio.create_task(conf.reload()) for _ in range(3)]
    await until(lambda: at_work)
    async with conf.running(signals=()):
        await asyncio.gather(*loading)
    assert set(worst) == {1}


# Signals


async def test_a_hangup_reloads_and_the_handler_from_before_comes_back():
    previous = signal.getsignal(signal.SIGHUP)
    conf, memory = memory_conf()
    async with conf.running(signals=("SIGHUP",)):
        memory.set({"port": 1})
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: conf.current.port == 1)
        assert conf.reports[-1].triggers == ("SIGHUP",)
    assert signal.getsignal(signal.SIGHUP) == previous


def test_a_hangup_reaches_an_engine_in_a_thread():
    conf, memory = memory_conf()
    with conf.running():
        memory.set({"port": 1})
        os.kill(os.getpid(), signal.SIGHUP)
        asyncio.run(until(lambda: conf.current.port == 1))


def test_no_signals_means_none():
    previous = signal.getsignal(signal.SIGHUP)
    conf, _ = memory_conf()
    with conf.running(signals=()):
        assert signal.getsignal(signal.SIGHUP) == previous


@pytest.mark.parametrize("signals", [("TERM",), ("HUP", "INT"), "HUP"])
def test_other_signals_belong_to_a_service(signals):
    conf, _ = memory_conf()
    with pytest.raises(ValueError, match="SIGHUP only"):
        conf.running(signals=signals)


def in_a_thread(function):
    """Run a function in a thread; return what it returns or raises."""
    outcome = []

    def run():
        try:
            outcome.append(function())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    return outcome[0]


def test_off_the_main_thread_the_default_says_that_no_signal_is_routed(caplog):
    conf, _ = memory_conf()

    def run():
        with conf.running():
            return conf.status.state

    assert in_a_thread(run) == "ready"
    assert any("SIGHUP is not routed" in entry.getMessage() for entry in caplog.records)


def test_signals_asked_for_off_the_main_thread_fail_and_leave_it_usable():
    conf, _ = memory_conf()

    def run():
        with conf.running(signals=("HUP",)):
            pytest.fail("entered")

    assert isinstance(in_a_thread(run), SignalsUnavailable)
    assert conf.status.state == "new"
    with conf.running(signals=()):
        assert conf.status.state == "ready"


# Showing


async def test_the_status_tells_how_things_stand():
    conf, memory = memory_conf()
    assert conf.status.state == "new"
    async with conf.running(signals=()):
        with conf.pin():
            status = conf.status
        assert (status.state, status.generation, status.leased) == ("ready", 1, {1: 1})
        assert status.loaded_at is conf.snapshot.loaded_at
        assert status.digest == conf.snapshot.digest
        assert status.last_reload is conf.reports[-1]
        assert status.uptime >= 0
        json.dumps(jsonable(status))
        assert jsonable(status)["leased"] == {"1": 1}
        digest = status.digest
        memory.set({"port": 1})
        await conf.reload()
        assert conf.status.digest != digest
    assert conf.status.state == "stopped"


def test_an_explanation_of_what_is_not_there_is_a_key_error():
    conf, _ = memory_conf()
    with pytest.raises(NotLoaded):
        conf.explain("port")
    conf.load()
    with pytest.raises(KeyError):
        conf.explain("prot")
    assert str(conf.explain("port")) == "port = 8080  from default"


# The command line of the class


class Commanded(Settings):
    model_config = {"cli_parse_args": True, "env_prefix": "HEART_"}

    level: int = 0
    inner: Section = Section()


def test_arguments_stand_above_the_environment(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program", "--level", "2"])
    monkeypatch.setenv("HEART_LEVEL", "1")
    conf = HotConf(Commanded, options=QUIET)
    conf.load()
    assert conf.current.level == 2
    assert str(conf.explain("level").origin) == "--level"


def test_arguments_that_are_wrong_are_a_fault(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["program", "--levle", "2"])
    with pytest.raises(ConfigError, match="command line: is not what the settings accept"):
        HotConf(Commanded, options=QUIET).load()
    assert "--levle" in capsys.readouterr().err


def test_a_wish_for_help_is_fulfilled(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["program", "--help"])
    with pytest.raises(SystemExit) as caught:
        HotConf(Commanded, options=QUIET).load()
    assert not caught.value.code
    assert "--level" in capsys.readouterr().out


async def test_the_audit_log_has_a_line_for_each_reload(tmp_path):
    log = tmp_path / "audit.jsonl"
    conf, memory = memory_conf(options=Options(watch=False, audit_log=log))
    async with conf.running(signals=()):
        memory.set({"port": 1})
        await conf.reload()
        memory.set({"port": "many"})
        await conf.reload()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["outcome"] for line in lines] == ["applied", "applied", "rejected"]


async def test_an_audit_log_that_cannot_be_written_degrades_and_stops_nothing(tmp_path):
    conf, memory = memory_conf(options=Options(watch=False, audit_log=tmp_path))
    async with conf.running(signals=()):
        memory.set({"port": 1})
        assert (await conf.reload()).outcome == "applied"
        assert any("audit log" in reason for reason in conf.status.degraded)


# Amending


class Seen:
    """An observer that keeps reports."""

    def __init__(self):
        self.reports = []

    def reload_began(self, triggers):
        pass

    def reload_ended(self, report):
        self.reports.append(report)


def test_files_are_added_above_the_others_and_below_init(tmp_path):
    files = {"below": "value = 'below'\n", "above": "value = 'above'\n"}
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text)
    for init, expected in ((None, "above"), ({"value": "init"}, "init")):
        conf = HotConf(Ranked, [tmp_path / "below.toml"], [Memory({"value": "memory"})], init=init)
        conf.amend(str(tmp_path / "above.toml"))
        conf.load()
        assert conf.current.value == expected
        assert [state["name"] for state in conf.status.sources][2] == str(tmp_path / "above.toml")


def test_options_are_replaced_by_name_and_whoever_registered_before_stays(tmp_path):
    options = Options(poll=9.0, audit_log=tmp_path / "first")
    conf, seen, heard = memory_conf(options=options)[0], Seen(), []
    conf.observe(seen)
    conf.prepare(lambda change: heard.append(change.paths))
    conf.amend(watch=False, audit_log=tmp_path / "second", history=1)
    assert (conf.options.watch, conf.options.history, conf.options.poll) == (False, 1, 9.0)
    with conf.running(signals=()):
        assert conf.status.watching["kind"] == "none"
    assert len(seen.reports) == len(heard) == 1
    assert not (tmp_path / "first").exists()
    assert len((tmp_path / "second").read_text().splitlines()) == 1


def test_amending_is_for_before_the_first_load(tmp_path):
    conf = memory_conf()[0]
    with pytest.raises(ValueError, match="history"):
        conf.amend(history=0)
    conf.load()
    with pytest.raises(RuntimeError, match="only before the first load"):
        conf.amend(watch=False)


@pytest.mark.parametrize("option", ["overlay", "last_good", "audit_log"])
def test_a_file_that_is_read_cannot_be_one_that_is_written(option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("app.toml", "conf.d/../app.toml", tmp_path / "app.toml"):
        with pytest.raises(ValueError, match=f"{option}: .*app.toml is a source already: .* name another file"):
            HotConf(Ranked, files=[".env", "app.toml"], options=Options(**{option: path}))


def test_a_dotenv_file_counts_and_so_does_the_file_of_another_option():
    with pytest.raises(ValueError, match=r"audit_log: \.env is a source already"):
        HotConf(Ranked, files=[".env"], options=Options(audit_log=".env"))
    with pytest.raises(ValueError, match="audit_log: same is last_good already"):
        HotConf(App, options=Options(last_good="same", audit_log="./same"))


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.deepcopy, copy.copy])
def test_what_belongs_to_its_process_is_neither_pickled_nor_copied_and_says_what_can_be(duplicate):
    conf, _ = memory_conf(message="hello")
    with pytest.raises(TypeError, match="a HotConf cannot be pickled or copied"):
        duplicate(conf)
    conf.load()
    for one in (conf, conf.snapshot):
        with pytest.raises(TypeError, match=r"cannot be pickled or copied: take .* settings"):
            duplicate(one)
    assert pickle.loads(pickle.dumps(conf.snapshot.settings)) == conf.current


async def test_leaving_what_was_never_entered_does_nothing():
    conf, _ = memory_conf()
    conf.running().__exit__(None, None, None)
    await conf.running().__aexit__(None, None, None)
    conf.stop()
    assert conf.status.state == "new"


def test_a_load_that_refuses_raises_and_writes_nothing(tmp_path):
    """A program that prints the error would tell it twice."""
    code = """if True:
        from hotconf import HotConf, Settings

        class App(Settings):
            port: int = 0

        try:
            HotConf(App, init={"port": "x"}).load()
        except Exception as error:
            print(error)
    """
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "port" in done.stdout
    assert done.stderr == ""


def test_a_dotenv_line_without_a_value_means_one_thing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "z.env").write_text("MESSAGE\nPORT=1\n")

    class Named(BaseSettings):
        model_config = {"env_file": "z.env", "extra": "ignore"}
        message: str = "default"
        port: int = 0

    class Given(BaseSettings):
        message: str = "default"
        port: int = 0

    for conf in (HotConf(Named), HotConf(Given, files=["z.env"])):
        conf.load()
        assert (conf.current.message, conf.current.port) == ("default", 1)
