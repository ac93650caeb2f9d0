"""Classes as applications have them: each reloads when any of its files changes, and its origins stand where they say.

An origin is verified by spoiling the key that stands there: the value is then no longer what it was.
"""

import contextlib
import dataclasses
import os
import re
from collections import OrderedDict
from pathlib import Path
from typing import Annotated, Any, Dict, Generic, Literal, Mapping, TypeVar, Union  # noqa: UP035

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    computed_field,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    JsonConfigSettingsSource,
    NestedSecretsSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    PyprojectTomlConfigSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
    YamlConfigSettingsSource,
)

from hotconf import ConfigError, HotConf
from hotconf.schema.tree import value_at
from hotconf.values.keypath import parse
from tests.heart import QUIET, until


class Database(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="DB_", env_file="db.env", extra="ignore")
    host: str = "localhost"
    password: SecretStr = SecretStr("")


class Redis(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="REDIS_", env_file=".env", extra="ignore")
    url: str = "redis://localhost"


def web_shop():
    """Sections that are settings of their own, each with a prefix and a file. One is made when the class is defined."""

    class WebShop(BaseSettings):
        model_config = SettingsConfigDict(env_file=".env", extra="ignore")
        debug: bool = False
        database: Database = Field(default_factory=Database)
        redis: Redis = Redis()

    return WebShop


class Service(BaseSettings):
    """A constructor of its own that chooses the file."""

    model_config = SettingsConfigDict(env_prefix="SERVICE_", extra="ignore")
    name: str = "service"
    port: int = 80

    def __init__(self, env: str = "dev", **values: Any) -> None:
        super().__init__(_env_file=f"{env}.env", **values)


class YamlByPath(YamlConfigSettingsSource):
    """A source of the application's own."""

    def __init__(self, settings_cls):
        super().__init__(settings_cls, yaml_file=Path("config") / "base.yaml")


class Bot(BaseSettings):
    token: SecretStr = SecretStr("")
    admins: list[int] = []

    @classmethod
    def settings_customise_sources(cls, settings_cls, init_settings, env_settings, **_others):
        return init_settings, env_settings, YamlByPath(settings_cls)


class Layered(BaseSettings):
    model_config = SettingsConfigDict(toml_file=["defaults.toml", "local.toml"], env_nested_delimiter="__")
    title: str = ""
    limits: Dict[str, int] = {}  # noqa: UP006

    @classmethod
    def settings_customise_sources(cls, settings_cls, init_settings, env_settings, **_others):
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, deep_merge=True)


class Tool(BaseSettings):
    model_config = SettingsConfigDict(pyproject_toml_table_header=("tool", "linter"))
    strict: bool = False
    exclude: list[str] = []

    @classmethod
    def settings_customise_sources(cls, settings_cls, init_settings, **_others):
        return init_settings, PyprojectTomlConfigSettingsSource(settings_cls)


class Smtp(BaseModel):
    user: str = ""
    password: SecretStr = SecretStr("")


class Mailer(BaseSettings):
    model_config = SettingsConfigDict(secrets_dir="secrets", secrets_nested_subdir=True)
    smtp: Smtp = Smtp()

    @classmethod
    def settings_customise_sources(cls, settings_cls, init_settings, env_settings, file_secret_settings, **_others):
        return init_settings, env_settings, NestedSecretsSettingsSource(file_secret_settings)


class Command(BaseSettings):
    model_config = SettingsConfigDict(
        cli_parse_args=["--verbose", "input.txt"], cli_implicit_flags=True, json_file="run.json", cli_kebab_case=True
    )
    source: CliPositionalArg[str]
    verbose: bool = False
    batch_size: int = 10

    @classmethod
    def settings_customise_sources(cls, settings_cls, init_settings, env_settings, **_others):
        return init_settings, env_settings, JsonConfigSettingsSource(settings_cls)


class Aliased(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env", populate_by_name=True, extra="ignore")
    database_url: AnyUrl = Field(AnyUrl("sqlite://"), validation_alias=AliasChoices("DATABASE_URL", "DB_URL"))
    first: str = Field("", validation_alias=AliasPath("HOSTS", 0))
    workers: int = Field(1, alias="WEB_CONCURRENCY")

    @computed_field
    @property
    def is_sqlite(self) -> bool:
        return self.database_url.scheme == "sqlite"


T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    items: list[T] = []
    size: int = 10


@dataclasses.dataclass
class Point:
    x: int = 0
    y: int = 0


class Generics(BaseSettings):
    model_config = SettingsConfigDict(yaml_file="all.yaml", yaml_config_section="app.service")
    page: Page[Point] = Page()
    origin: Point = dataclasses.field(default_factory=Point)
    labels: Mapping[str, str] = {}
    order: OrderedDict[str, int] = OrderedDict()

    @classmethod
    def settings_customise_sources(cls, settings_cls, **_others):
        return (YamlConfigSettingsSource(settings_cls),)


class Local(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LOCAL_", env_file="local.env", extra="ignore")
    kind: Literal["local"] = "local"
    path: str = "/tmp"


class Bucket(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BUCKET_", env_file="bucket.env", extra="ignore")
    kind: Literal["bucket"] = "bucket"
    region: str = "eu"


class Storage(BaseSettings):
    model_config = ConfigDict(toml_file="storage.toml")
    stores: list[Annotated[Union[Local, Bucket], Field(discriminator="kind")]] = []  # noqa: UP007
    main: Local | None = None

    @classmethod
    def settings_customise_sources(cls, settings_cls, **_others):
        return (TomlConfigSettingsSource(settings_cls),)


class Ini(PydanticBaseSettingsSource):
    """Reads a format of its own, and says which file that is."""

    path = Path("app.ini")

    def get_field_value(self, field, field_name):
        raise NotImplementedError

    def __call__(self):
        return dict(line.split("=") for line in self.path.read_text().split())

    def paths(self):
        return [self.path]


class Legacy(BaseSettings):
    name: str = ""

    @classmethod
    def settings_customise_sources(cls, settings_cls, **_others):
        return (Ini(settings_cls),)


class Cache(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CACHE_", env_file=".env", extra="ignore")
    host: str = "localhost"
    password: str | None = None


class Queue(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="QUEUE_", env_file=".env", extra="ignore")
    cache: Cache = Field(default_factory=Cache)
    lengths: dict[str, int] = {}


class Shared(BaseSettings):
    """Settings within settings within settings, and one file for all of them."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")
    queue: Queue = Field(default_factory=Queue)
    cache: Cache = Field(default_factory=Cache)
    debug: bool = False


class ByStage(BaseSettings):
    """The hook chooses the file, and puts one below the other."""

    low: int = 0
    high: int = 0

    @classmethod
    def settings_customise_sources(cls, settings_cls, init_settings, env_settings, **_others):
        files = (Path("conf") / f"{os.environ.get('STAGE', 'base')}.toml", Path("conf") / "defaults.toml")
        return init_settings, env_settings, *(TomlConfigSettingsSource(settings_cls, file) for file in files)


class Mounted(BaseSettings):
    model_config = SettingsConfigDict(secrets_dir=["run/secrets", "more"], extra="ignore")
    db_password: SecretStr = SecretStr("")
    token: str = ""


class Retry(BaseModel):
    max_times: int = 0


class Split(BaseSettings):
    """A delimiter that names have too, and validators that read what the file writes in its own way."""

    model_config = SettingsConfigDict(
        env_file=".env", env_prefix="APP_", env_nested_delimiter="_", env_nested_max_split=1, extra="ignore"
    )
    retry: Retry = Retry()
    hosts: Annotated[list[str], NoDecode] = []

    @field_validator("hosts", mode="before")
    @classmethod
    def comma_separated(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value


class Plain(BaseModel):
    """No settings class at all, with files that HotConf is given."""

    model_config = ConfigDict(extra="forbid")
    port: int = 0
    database: Database = Field(default_factory=Database)


@dataclasses.dataclass
class Case:
    """A class, or what makes it, its files with first and second contents, and the path that each of them decides."""

    make: Any
    files: dict[str, tuple[str, str, str]]
    given: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def model(self):
        return self.make if isinstance(self.make, type) else self.make()


CASES = {
    "nested with prefixes": Case(
        web_shop,
        {
            ".env": ("DEBUG=true\nREDIS_URL=redis://a\n", "DEBUG=true\nREDIS_URL=redis://b\n", "redis.url"),
            "db.env": ("# the database\nDB_HOST=a\nDB_PASSWORD=p\n", "DB_HOST=b\n", "database.host"),
        },
    ),
    "own constructor": Case(
        Service, {"prod.env": ("SERVICE_PORT=1\n", "SERVICE_PORT=2\n", "port")}, {"init": {"env": "prod"}}
    ),
    "own yaml source": Case(
        Bot, {"config/base.yaml": ("token: t\nadmins:\n  - 1\n  - 2\n", "token: t\nadmins: [1, 3]\n", "admins.1")}
    ),
    "two toml files": Case(
        Layered,
        {
            "defaults.toml": (
                'title = "a"\n[limits]\nlow = 1\n',
                'title = "a"\n[limits]\nlow = 2\n',
                "limits.low",
            ),
            "local.toml": ("[limits]\nhigh = 1\n", "[limits]\nhigh = 2\n", "limits.high"),
        },
    ),
    "pyproject": Case(
        Tool,
        {
            "pyproject.toml": (
                '[project]\nname = "x"\n[tool.linter]\nstrict = true\nexclude = ["a"]\n',
                '[tool.linter]\nstrict = true\nexclude = ["b"]\n',
                "exclude.0",
            )
        },
    ),
    "nested secrets": Case(
        Mailer, {"secrets/smtp/user": ("one", "two", "smtp.user"), "secrets/smtp/password": ("p", "q", "smtp.password")}
    ),
    "command line": Case(Command, {"run.json": ('{\n  "batch_size": 1\n}', '{"batch_size": 2}', "batch_size")}),
    "aliases": Case(
        Aliased,
        {
            ".env": (
                'DB_URL=postgres://a\nHOSTS=["h"]\nWEB_CONCURRENCY=2\n',
                'DB_URL=postgres://b\nHOSTS=["h"]\nWEB_CONCURRENCY=2\n',
                "database_url",
            )
        },
    ),
    "generics and dataclasses": Case(
        Generics,
        {
            "all.yaml": (
                """\
other: {page: {size: 9}}
app:
  service:
    page:
      size: 1
      items:
        - x: 1
        - y: 2
    labels: {a: b}
""",
                "app: {service: {page: {size: 2}}}\n",
                "page.size",
            )
        },
    ),
    "unions of settings": Case(
        Storage,
        {
            "storage.toml": (
                '[[stores]]\nkind = "local"\n[[stores]]\nkind = "bucket"\nregion = "us"\n[main]\n',
                '[[stores]]\nkind = "local"\n[[stores]]\nkind = "bucket"\nregion = "eu"\n[main]\n',
                "stores.1.region",
            ),
            "local.env": ("LOCAL_PATH=/a\n", "LOCAL_PATH=/b\n", "stores.0.path"),
        },
    ),
    "format of its own": Case(Legacy, {"app.ini": ("name=one", "name=two", "name")}),
    "one dotenv file for all": Case(
        Shared,
        {
            ".env": (
                'CACHE_HOST=a\nCACHE_PASSWORD=p\nQUEUE_LENGTHS={"a": 1}\nDEBUG=1\nCOMPOSE_FILE=x\n',
                'CACHE_HOST=b\nCACHE_PASSWORD=p\nQUEUE_LENGTHS={"a": 1}\nDEBUG=1\nCOMPOSE_FILE=x\n',
                "queue.cache.host",
            )
        },
    ),
    "files by stage": Case(
        ByStage,
        {
            "conf/base.toml": ("high = 1\n", "high = 2\n", "high"),
            "conf/defaults.toml": ("low = 1\nhigh = 9\n", "low = 2\nhigh = 9\n", "low"),
        },
    ),
    "mounted secrets": Case(
        Mounted, {"run/secrets/db_password": ("p\n", "q\n", "db_password"), "more/token": ("a", "b", "token")}
    ),
    "a delimiter that names have": Case(
        Split,
        {
            ".env": (
                "APP_RETRY_MAX_TIMES=3\nAPP_HOSTS=a,b\n",
                "APP_RETRY_MAX_TIMES=4\nAPP_HOSTS=a,b\n",
                "retry.max_times",
            )
        },
    ),
    "plain model": Case(
        Plain,
        {
            "app.toml": ("port = 1\n", "port = 2\n", "port"),
            "db.env": ("DB_HOST=a\n", "DB_HOST=b\n", "database.host"),
        },
        {"files": ["app.toml"]},
    ),
}


@pytest.fixture(params=CASES, ids=str)
def case(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = CASES[request.param]
    for name, (first, _, _) in found.files.items():
        write(name, first)
    return found


def write(name, text):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)


def at(conf, path):
    return value_at(conf.current, tuple(int(key) if str(key).isdecimal() else key for key in parse(path)))


async def test_it_reloads_on_a_change_of_each_of_its_files(case):
    async with HotConf(case.model, **case.given).running(signals=()) as conf:
        for name, (_, second, path) in case.files.items():
            before = at(conf, path)
            write(name, second)
            await until(lambda path=path, before=before: at(conf, path) != before)
            assert at(conf, path) != before
        assert (await conf.reload()).outcome == "unchanged"


def loaded(case):
    conf = HotConf(case.model, options=QUIET, **case.given)
    conf.load()
    return conf


def test_it_gives_what_the_class_gives(case):
    if "files" not in case.given:
        conf = loaded(case)
        assert conf.current == conf.schema(**case.given.get("init", {}))


def test_each_origin_stands_where_it_says(case):
    conf = loaded(case)
    placed = 0
    for path in conf.snapshot.origins:
        origin = conf.snapshot.origins[path]
        if origin.kind not in ("file", "dotenv", "secrets"):
            continue
        placed += 1
        name = str(origin.source)
        file = next(path for path in map(Path, case.files) if str(path.resolve()).endswith(name.removeprefix("./")))
        text = file.read_text()
        write(file, spoilt(text, origin))
        assert becomes_another(case, conf, path), f"{path} does not come from {origin}"
        write(file, text)
    assert placed or case.make is Legacy


def spoilt(text, origin):
    """The text with the key or the item at a place changed; a secret is its whole text."""
    if origin.line is None:
        return f"{text}x"
    lines = text.split("\n")
    line = lines[origin.line - 1]
    before, after = line[: origin.column - 1], line[origin.column - 1 :]
    word = re.match(r"[-\w.]+", after.lstrip('"'))[0]
    lines[origin.line - 1] = before + after.replace(word, f"{word}7", 1)
    return "\n".join(lines)


def becomes_another(case, conf, path):
    with contextlib.suppress(KeyError, LookupError):
        try:
            return at(loaded(case), path) != at(conf, path)
        except ConfigError:
            return True  # the spoilt key is unknown, or the right one is missed
    return True
