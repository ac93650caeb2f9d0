"""I11: a canary in every place that a secret can have, through every layer and every failure, found in no output.

Outputs are all that hotconf says by itself: log lines of every level with their extra fields and tracebacks, reports,
faults, errors and what Python prints of them, status, explanations, documents, digests, and the repr of what it hands
out. The settings themselves belong to the program.
"""

import asyncio
import json
import logging
import traceback
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AliasPath,
    BaseModel,
    Field,
    Json,
    Secret,
    SecretBytes,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import PydanticBaseSettingsSource

from hotconf import ConfigError, HotConf, Layer, Options, Refuse, Section, Sensitive, Settings
from hotconf.sources import Dir, File, Memory
from hotconf.values.report import jsonable
from tests.heart import QUIET, cancel, until

CANARY = "Canary-" + "5ecret/" * 12 + "end"
"""Longer than what pydantic quotes of an input, so that a half of it counts as well."""

NUMBER = 7355608_1234
TRACES = ("5ecret", str(NUMBER))


class Plain(Section):
    kind: Literal["plain"] = "plain"
    note: str = ""


class Locked(Section):
    kind: Literal["locked"] = "locked"
    token: SecretStr


class Vault(BaseModel):  # passes over unknown keys
    password: SecretStr = SecretStr("none")
    keys: list[SecretStr] = []
    by_name: dict[str, Annotated[str, Sensitive()]] = {}
    names: Annotated[dict[str, int], Sensitive()] = {}


class App(Settings):
    model_config = {"env_prefix": "CANARY_", "env_nested_delimiter": "__"}

    text: SecretStr = SecretStr("none")
    data: SecretBytes = SecretBytes(b"none")
    number: Secret[int] = Secret(0)
    plain: Annotated[str, Sensitive()] = "none"
    either: SecretStr | int = 1
    member: Annotated[Plain | Locked, Field(discriminator="kind")] = Plain()
    vault: Vault = Vault()
    lifted: SecretStr = Field(SecretStr("none"), validation_alias=AliasPath("deep", "down"))
    json_text: Secret[Json[Any]] | None = None
    port: int = 1


GOOD = {
    "text": CANARY,
    "data": CANARY,
    "number": NUMBER,
    "plain": CANARY,
    "either": CANARY,
    "member": {"kind": "locked", "token": CANARY},
    "vault": {
        "password": CANARY,
        "keys": ["other", CANARY],
        "by_name": {"a": CANARY},
        "names": {CANARY: 1},
        "pasword": CANARY,
    },
    "deep": {"down": CANARY},
    "json_text": json.dumps(CANARY),
}


class Outputs:
    """Everything that was said."""

    def __init__(self, caplog):
        self._caplog = caplog
        self._texts = []

    def add(self, *things):
        self._texts += [text for thing in things for text in (str(thing), repr(thing))]

    def add_error(self, error):
        self.add(error, "".join(traceback.format_exception(error)))

    def add_conf(self, conf):
        self.add(conf, conf.status, json.dumps(jsonable(conf.status)), conf._reloader.running, conf._stack)
        for report in conf.reports:
            self.add(report, json.dumps(jsonable(report)), *report.faults)
        if conf.loaded:
            snapshot = conf.snapshot
            self.add(snapshot, snapshot.digest, json.dumps(snapshot.document), dict(snapshot.origins))
            for path in [*snapshot.origins, "vault", "member"]:
                explanation = conf.explain(path)
                self.add(explanation, json.dumps(jsonable(explanation)), snapshot.origins.explain(path))

    def check(self):
        formatter = logging.Formatter("%(message)s")
        logged = [formatter.format(record) + repr(vars(record)) for record in self._caplog.records]
        for text in [*self._texts, *logged]:
            for trace in TRACES:
                assert trace not in text.lower(), text


@pytest.fixture
def outputs(caplog):
    caplog.set_level(logging.DEBUG)
    return Outputs(caplog)


def load(outputs, model=App, **options):
    """Load, and keep what was said; return the report."""
    conf = HotConf(model, options=QUIET, **options)
    try:
        conf.load()
    except ConfigError as error:
        outputs.add_error(error)
    outputs.add_conf(conf)
    outputs.check()
    return conf.reports[-1]


def written(tmp_path, values):
    path = tmp_path / "app.json"
    path.write_text(json.dumps(values))
    return path


def test_I11_what_is_served_says_nothing(outputs, tmp_path):
    assert load(outputs, files=[written(tmp_path, GOOD)]).outcome == "applied"


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": [CANARY]},
        {"text": {CANARY: 1}},
        {"number": CANARY},
        {"number": {"a": [CANARY]}},
        {"either": [CANARY]},
        {"data": {"x": CANARY}},
        {"member": {"kind": "locked", "token": [CANARY]}},
        {"member": {"kind": "locked", "token": CANARY, "more": 1}},
        {"vault": CANARY},
        {"vault": {"keys": CANARY}},
        {"vault": {"keys": [[CANARY]]}},
        {"vault": {"by_name": [CANARY]}},
        {"vault": {"by_name": {"a": [CANARY]}}},
        {"vault": {"names": {CANARY: "x"}}},
        {"vault": {"names": CANARY}},
        {"deep": {"down": [CANARY]}},
        {"json_text": CANARY},
        {"port": "many"},
    ],
    ids=lambda wrong: str(wrong)[:40].replace(CANARY[:20], "…"),
)
def test_I11_a_value_that_does_not_fit_is_not_quoted(outputs, tmp_path, wrong):
    report = load(outputs, files=[written(tmp_path, {**GOOD, **wrong})])
    assert report.outcome == "rejected"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", f"text = {CANARY}\n"),
        ("a.toml", f'text = "{CANARY}\n'),
        ("a.toml", f'text = "ok" {CANARY}\n'),
        ("a.toml", f"'{CANARY}' = 1\n'{CANARY}' = 2\n"),
        ("a.toml", f"['{CANARY}']\n['{CANARY}']\n"),
        ("a.yaml", f'text: "{CANARY}\n'),
        ("a.yaml", f"text: *{CANARY}\n"),
        ("a.yaml", f"text: !{CANARY} x\n"),
        ("a.yaml", f"text: {CANARY}: x\n"),
        ("a.yaml", f"? {CANARY}\n? {CANARY}\n"),
        ("a.json", f'{{"text": {CANARY}}}'),
        ("a.json", f'{{"{CANARY}": 1, "{CANARY}": 2}}'),
        ("a.env", f"CANARY_TEXT\n{CANARY} {CANARY}\n"),
        ("a.env", f"CANARY_VAULT={{{CANARY}\n"),
        ("a.env", f"CANARY_VAULT__KEYS=[{CANARY}\n"),
    ],
)
def test_I11_a_line_that_cannot_be_parsed_is_not_quoted(outputs, tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    assert load(outputs, files=[path]).outcome == "rejected"


VARIABLES = {
    "CANARY_TEXT": CANARY,
    "CANARY_NUMBER": CANARY,
    "CANARY_VAULT__PASSWORD": CANARY,
    "CANARY_VAULT__KEYS": json.dumps({"a": CANARY}),
    "CANARY_MEMBER": json.dumps({"kind": "locked", "token": [CANARY]}),
}


@pytest.mark.parametrize("kind", ["environment", "dotenv", "class dotenv", "secrets", "arguments", "init", "folder"])
@pytest.mark.parametrize("broken", [False, True])
def test_I11_no_layer_tells(outputs, tmp_path, monkeypatch, kind, broken):
    variables = VARIABLES | ({"CANARY_VAULT": CANARY} if broken else {})
    config, given = {}, {}
    if kind == "environment":
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
    elif kind in ("dotenv", "class dotenv"):
        path = tmp_path / "canary.env"
        path.write_text("".join(f"{name}='{value}'\n" for name, value in variables.items()))
        given, config = ({"files": [path]}, {}) if kind == "dotenv" else ({}, {"env_file": path})
    elif kind == "secrets":
        for name, value in variables.items():
            (tmp_path / name.lower()).write_text(value)
        config = {"secrets_dir": tmp_path}
    elif kind == "arguments":
        config = {"cli_parse_args": ["--number", CANARY, "--vault" if broken else "--text", CANARY]}
    elif kind == "init":
        given = {"init": {"text": CANARY, "number": [CANARY], "vault": CANARY if broken else {}}}
    else:
        written(tmp_path, {"text": CANARY, "number": CANARY, "vault": CANARY if broken else {}})
        given = {"sources": [Dir(tmp_path)]}

    class Configured(App):
        model_config = config

    assert load(outputs, Configured, **given).outcome == "rejected"


class Failing:
    """A source of the program's own."""

    name, required, kind = "vault", True, "vault"

    def __init__(self, error):
        self.error = error

    async def read(self):
        if self.error is not None:
            raise self.error
        return Layer(self.name, GOOD)


ERRORS = [
    ConnectionError(f"vault://root:{CANARY}@host"),
    OSError(111, CANARY),
    TimeoutError(CANARY),
    KeyError(CANARY),
    SystemExit(CANARY),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_I11_what_a_source_raises_is_not_quoted(outputs, error):
    report = load(outputs, sources=[Failing(error)])
    assert type(error).__name__ in str(report)

    class Own(PydanticBaseSettingsSource):
        def get_field_value(self, _field, field_name):
            return None, field_name, False

        def __call__(self):
            raise error

    class Customised(App):
        @classmethod
        def settings_customise_sources(cls, settings_cls, **_others):
            return (Own(settings_cls),)

    assert load(outputs, Customised).outcome == "rejected"


def quoting(how):
    """A class with a rule over everything that quotes what it sees."""

    class Talkative(App):
        @model_validator(mode="before")
        @classmethod
        def look(cls, data):
            if how == "input":
                raise ValueError(f"no: {data}")
            if how == "key error":
                raise KeyError(data["text"])
            return data

        @field_validator("port")
        @classmethod
        def see(cls, port, info):
            if how == "another field":
                raise ValueError(f"no: {info.data['text'].get_secret_value()} {info.data}")
            return port

        @model_validator(mode="after")
        def check(self):
            secret = self.text.get_secret_value()
            if how == "case":
                raise ValueError(f"no: {secret.upper()} {self.number.get_secret_value()}")
            if how == "self":
                raise ValueError(f"no: {self!r}")
            if how == "another model":
                Plain.model_validate({"note": [secret], "nothing": secret})
            if how == "its text":
                try:
                    Plain.model_validate({"note": [secret], "nothing": secret})
                except ValueError as error:
                    raise RuntimeError(str(error)) from error
            return self

    return Talkative


@pytest.mark.parametrize("how", ["input", "key error", "another field", "case", "self", "another model", "its text"])
def test_I11_what_a_validator_quotes_is_masked(outputs, tmp_path, how):
    report = load(outputs, quoting(how), files=[written(tmp_path, {**GOOD, "port": 2})])
    assert report.outcome == "rejected"


def test_I11_a_misspelt_secret_is_one_in_the_words_of_a_validator(outputs, tmp_path):
    report = load(outputs, quoting("input"), files=[written(tmp_path, {"txet": CANARY, "vault": {"pasword": CANARY}})])
    assert report.outcome == "rejected"


def raising(how, change):
    secret = change.new.text.get_secret_value()
    if how == "refuses":
        raise Refuse(f"no: {secret}")
    if how == "raises":
        raise ValueError(secret.upper())
    if how == "quotes":
        Plain.model_validate({"note": [secret]})
    made = change.new.made.get_secret_value()
    raise Refuse(f"no: {made}")


class Made(App):
    made: SecretStr = Field(default_factory=lambda: SecretStr(CANARY[:-3] + "made"))


@pytest.mark.parametrize("how", ["refuses", "raises", "quotes", "made"])
@pytest.mark.parametrize("where", ["prepare", "commit", "rollback", "on_change"])
async def test_I11_what_a_subscriber_raises_is_masked(outputs, tmp_path, how, where):
    class Stepwise:
        def __init__(self, change):
            self.change = change

        def commit(self):
            if where == "commit":
                raising(how, self.change)

        def rollback(self):
            raising(how, self.change)

    memory = Memory({})
    conf = HotConf(Made, sources=[memory], options=QUIET)
    heard = []

    @conf.prepare
    def first(change):
        return Stepwise(change) if heard else None

    @conf.prepare
    def second(change):
        if heard and where in ("prepare", "rollback"):
            raising(how, change)
        heard.append(change)

    @conf.on_change
    def afterwards(change):
        if where == "on_change":
            raising(how, change)

    async with conf.running(signals=()):
        memory.set(GOOD)
        report = await conf.reload()
        assert report.outcome == ("rejected" if where in ("prepare", "rollback") else "applied")
        outputs.add_conf(conf)
        outputs.add(*heard)
    outputs.check()


async def test_I11_a_secret_that_a_default_factory_made_is_masked_at_the_start(outputs):
    conf = HotConf(Made, options=QUIET)

    @conf.prepare
    def refuse(change):
        raise Refuse(f"no: {change.new.made.get_secret_value()}")

    with pytest.raises(ConfigError, match="refuse refuses: no: ") as refused:
        await conf.running(signals=()).__aenter__()
    outputs.add_error(refused.value)
    outputs.add_conf(conf)
    outputs.check()


async def test_I11_the_guard_names_no_key_of_a_secret_mapping(outputs, tmp_path):
    path = written(tmp_path, {"vault": {"names": {CANARY: 1} | {f"{CANARY}{index}": 1 for index in range(12)}}})
    conf = HotConf(App, files=[path], options=QUIET)
    conf.load()
    for values in ({}, {"port": 2}):
        written(tmp_path, values)
        assert (await conf.reload()).stage == "guard"
    outputs.add_conf(conf)
    outputs.check()


async def test_I11_an_unforeseen_error_shows_its_place_and_not_its_text(outputs, monkeypatch):
    conf = HotConf(App, sources=[Memory(GOOD)], options=QUIET)

    def fail(*_arguments):
        raise ZeroDivisionError(CANARY)

    monkeypatch.setattr("hotconf.reload.candidate.compare", fail)
    conf.load()
    report = await conf.reload()
    assert "ZeroDivisionError" in str(report)
    outputs.add_conf(conf)
    outputs.check()


async def test_I11_what_a_source_raises_while_it_is_followed_is_not_quoted(outputs, caplog):
    class Followed(Failing):
        async def changes(self):
            raise ConnectionError(CANARY)
            yield

    conf = HotConf(App, sources=[Followed(None)], options=QUIET)
    async with conf.running(signals=()):
        await until(lambda: "is out of reach" in caplog.text)
        outputs.add_conf(conf)
    outputs.check()


async def test_I11_a_change_of_every_secret_is_told_by_path_alone(outputs, tmp_path):
    path = written(tmp_path, GOOD)
    conf = HotConf(App, files=[File(path)], options=Options(poll=0.1))
    async with conf.running(signals=()):
        written(tmp_path, json.loads(json.dumps(GOOD).replace(CANARY, CANARY + "new")))
        await until(lambda: conf.snapshot.generation == 2)
        task = asyncio.create_task(conf.reload())
        await cancel(task)
        outputs.add_conf(conf)
    assert {"text", "plain", "member.token", "vault.names"} <= set(conf.reports[1].changed)
    outputs.check()
