"""Secrets without a mark: what names say, which parts of URLs are credentials, and that no output shows either."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import logging
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, strategies as st
from pydantic import (
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    PostgresDsn,
    RootModel,
    SecretStr,
    create_model,
    model_validator,
)
from typing_extensions import TypedDict

from hotconf import ConfigError, HotConf, Options, Public, RestartRequired, Section, Sensitive
from hotconf.errors import Rejected
from hotconf.jsonschema import json_schema
from hotconf.reload.last_good import LastGood
from hotconf.sample import sample
from hotconf.schema.diff import differences
from hotconf.schema.fields import fields_of, masked_by_name
from hotconf.schema.redact import document, mask_input, masked_paths, scrub, secret_texts
from hotconf.sources import Memory
from hotconf.sources.patch import merge_patch
from hotconf.values.report import jsonable
from hotconf.values.secrets import MASK, Secrecy, credential_texts, hides, mask_credentials, secrecy_of
from tests.heart import QUIET

# Names


def words(text):
    return text.split()


SECRET = words("""
    password PASSWORD db_password dbPassword DB-PASSWORD Pass-Word passwd MYSQL_PWD key_passphrase passcode pgpassword
    secret clientSecret CLIENT_SECRET secret2 token access-token authtoken oauth2_token csrfToken X-Auth-Token
    api_key apiKey API-KEY APIKey apikey private_key accessKey AWS_SECRET_ACCESS_KEY encryption_key signing_key
    aws_credential cookie Set-Cookie session_cookie authorization Proxy-Authorization
""")
SECRET_TEXT = words("""
    passwords PASSWORDS secrets tokens stop_tokens apiKeys private_keys credentials cookies password_prod token_github
    password_hash secret_key_base SECRET_KEY_FALLBACKS aws_access_key_id salt password_salt signature db_pass pass
""")
OTHER = words("""
    port host user username author key keys monkey public_key primary_key cache_key tokenizer tokenize passenger bypass
    compass passwordless secretary salted salt_master signature_version pass_through description dsnx connection
    password_file PASSWORD_FILE secret_name secret_arn token_url token_endpoint token_type token_ttl token_expires_at
    token_count max_tokens min_password_length password_min_length tokens_per_second token_bucket password_policy
    password_hashers cookie_name cookie_domain cookie_samesite cookie_max_age secrets_dir secrets_manager total_tokens
    credentials_path authorization_endpoint
""")
CONNECTION = ["dsn", "SENTRY_DSN", "databaseDsn", "connection_string", "connStr", "dsns"]


@pytest.mark.parametrize(
    ("secrecy", "names"),
    [
        (Secrecy.NUMBERS, SECRET),
        (Secrecy.TEXT, SECRET_TEXT),
        (Secrecy.NONE, [*OTHER, "", "_", "0", 0, 7]),
        (Secrecy.CONNECTION, CONNECTION),
    ],
    ids=["secret", "secret text", "other", "connection"],
)
def test_a_name_says_by_its_words_how_much_is_a_secret(secrecy, names):
    assert {name: secrecy_of(name) for name in names} == dict.fromkeys(names, secrecy)


class Kind(enum.StrEnum):
    BEARER = "bearer"


HARMLESS = [True, False, Kind.BEARER, dt.date(2025, 1, 1), dt.datetime.now(dt.UTC), dt.timedelta(1), dt.time(1)]
AMOUNTS = [0, 4096, 1.5, Decimal("1.5")]
TEXTS = ["", "x", b"x", [], [1], {}, {"a": 1}, UUID(int=1), Path("/x"), SecretStr("x"), object()]


def test_what_is_hidden_depends_on_the_value_too():
    for value in [*HARMLESS, *AMOUNTS, *TEXTS]:
        assert not hides(Secrecy.NONE, value)
        assert hides(Secrecy.ALL, value)
    for secrecy in (Secrecy.TEXT, Secrecy.NUMBERS):
        assert not any(hides(secrecy, value) for value in HARMLESS)
        assert all(hides(secrecy, value) for value in TEXTS)
    assert not any(hides(Secrecy.TEXT, value) for value in AMOUNTS)
    assert all(hides(Secrecy.NUMBERS, value) for value in AMOUNTS)
    assert not any(hides(secrecy, None) for secrecy in Secrecy)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("host=db user=app password=hunter2", True),
        ("app:hunter2@tcp(127.0.0.1:3306)/shop", True),
        ("Server=db;Pwd = hunter2", True),
        ("AccountName=a;AccountKey=hunter2", True),
        ("host=db user=app", False),
        ("postgres://app:hunter2@db/shop", False),  # only a part of it
        ("", False),
        (5, False),
        (["hunter2@"], False),
    ],
)
def test_a_connection_string_is_hidden_where_it_has_credentials(text, hidden):
    assert hides(Secrecy.CONNECTION, text) is hidden


# URLs

URLS = [
    ("postgres://app:hunter2@db/shop", "postgres://app:{}@db/shop"),
    ("redis://:hunter2@cache:6379/0", "redis://:{}@cache:6379/0"),
    ("amqp://u:hunter2%40x@h//", "amqp://u:{}@h//"),
    ("https://hunter2@o0.ingest.sentry.io/1", "https://{}@o0.ingest.sentry.io/1"),
    ("mongodb://u:hunter2@h1,h2:27017/db", "mongodb://u:{}@h1,h2:27017/db"),
    ("postgres://u:p@hunter2@h/d", "postgres://u:{}@h/d"),
    ("postgres://u:hunter2/x@h/d", "postgres://u:{}@h/d"),
    ("postgres://u:hunter2?x@h/d", "postgres://u:{}@h/d"),
    ("https://h/p?api_key=hunter2&page=2", "https://h/p?api_key={}&page=2"),
    ("jdbc:postgresql://h/db?user=app&password=hunter2", "jdbc:postgresql://h/db?user=app&password={}"),
    ("see https://a:hunter2@b, or x+y://c:hunter2@d.", "see https://a:{}@b, or x+y://c:{}@d."),
    ("https://a:hunter2@b,https://c:hunter2@d", "https://a:{}@b,https://c:{}@d"),
    ("https://a:hunter2@b/?token=hunter2#x", "https://a:{}@b/?token={}#x"),
]


@pytest.mark.parametrize(("text", "masked"), URLS)
def test_I11_the_credentials_of_urls_are_masked_and_the_rest_is_shown(text, masked):
    assert mask_credentials(text) == masked.replace("{}", MASK)
    assert any("hunter2" in found for found in credential_texts(text))
    assert mask_credentials(mask_credentials(text)) == mask_credentials(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "http://", "://", "a@b", "app:x@host", "http://h/a:b@c", "http://h:8080/path?email=a@b.c"),
        *("http://[::1]:80/a@b", "http://u:@h", "http://h:80,http://h2:80", "https://h/?q=a@b&page=1"),
        *("ssh://git@github.com/x.git", "postgres://app@db/shop", "file:///etc/passwd"),
        *("https://h/?token_type=bearer&max_tokens=5", "see http://host:80 or mail me@example.com"),
    ],
)
def test_a_url_without_credentials_is_shown_as_it_is(text):
    assert mask_credentials(text) == text


@given(st.text("ab:/@?#=&.[]% http", max_size=30))
def test_masking_a_text_never_fails_and_is_done_at_once(text):
    masked = mask_credentials(f"http://{text}")
    assert not [found for found in credential_texts(masked) if found != MASK and MASK not in found]


def test_texts_of_any_size_are_masked_in_one_pass():
    for text in ("a" * 200_000 + "://x=@", "://" * 50_000 + "@=", "http://" + "&a" * 50_000 + "=@", "A" * 200_000):
        assert mask_credentials(text)
        assert secrecy_of(text) is Secrecy.NONE


def test_I11_messages_show_no_credentials_of_urls_that_no_source_holds():
    assert scrub("cannot reach postgres://app:hunter2@db", set()) == f"cannot reach postgres://app:{MASK}@db"


# Fields


class Account(BaseModel):
    user: str = ""
    passwd: str = ""


def field_of(annotation, name="password"):
    return fields_of(create_model("App", **{name: (annotation, ...)}))[name]


@pytest.mark.parametrize(
    "annotation",
    [
        str,
        bytes,
        str | None,
        UUID,
        PostgresDsn,
        Path,
        list[str],
        dict[str, int],
        Account,
        set[str],
        Annotated[str, Field(min_length=1)],
    ],
)
def test_a_field_that_can_hold_nothing_but_texts_is_as_good_as_marked(annotation):
    assert field_of(annotation).shape.secrecy is Secrecy.ALL
    assert field_of(annotation).sensitive
    assert field_of(annotation).masked_by_name
    assert not field_of(annotation, "port").sensitive


@pytest.mark.parametrize(
    "annotation", [int, bool, float, Decimal, None, int | None, dt.date, dt.timedelta, Kind, Literal["a", "b"], type]
)
def test_a_field_that_can_hold_no_text_is_no_secret_by_its_name(annotation):
    assert not field_of(annotation).sensitive


@pytest.mark.parametrize(("name", "secrecy"), [("password", Secrecy.NUMBERS), ("tokens", Secrecy.TEXT)])
@pytest.mark.parametrize("annotation", [Any, str | int, object, list[str] | bool])
def test_where_a_field_can_hold_both_the_value_decides(annotation, name, secrecy):
    assert field_of(annotation, name).shape.secrecy is secrecy


def test_an_alias_says_secret_as_well():
    model = create_model(
        "App",
        plain=(str, Field(alias="DB_PASSWORD")),
        deep=(str, Field(validation_alias=AliasPath("vault", "token"))),
        other=(str, Field(alias="OTHER")),
    )
    assert masked_by_name(model) == ("plain", "deep")


class Both(BaseModel):
    password: str = ""
    secret: SecretStr = SecretStr("")
    marked_token: Annotated[str, Sensitive()] = ""
    token_count: int = 0
    api_key: Annotated[str, Public()] = ""
    accounts: list[Account] = []
    dsn: str = ""


def test_the_fields_that_are_masked_by_name_alone_can_be_listed():
    assert masked_by_name(Both) == ("password", "accounts.passwd")


def test_public_shows_what_a_name_or_a_url_hides():
    class App(BaseModel):
        api_key: Annotated[str, Public()] = "shown"
        database_url: Annotated[str, Public()] = "postgres://app:shown@db"
        headers: Annotated[dict[str, str], Public()] = {"Authorization": "shown", "Cookie": "x://a:shown@b"}
        tokens: Annotated[list[dict[str, str]], Public()] = [{"token": "shown"}]
        credentials: Annotated[Account, Public()] = Account(user="shown", passwd="hunter2")
        either: Annotated[SecretStr, Public()] = SecretStr("hunter2")
        marked: Annotated[str, Public(), Sensitive()] = "hunter2"
        access_token: Annotated[str | None, Public] = "shown"

    settings, raw = App(), App().model_dump(exclude={"either"})
    shown = document(settings)
    assert shown == {
        **raw,
        "credentials": {"user": "shown", "passwd": MASK},
        "either": MASK,
        "marked": MASK,
    }
    assert mask_input(App, (), raw) == {**raw, "credentials": {"user": "shown", "passwd": MASK}, "marked": MASK}
    assert set(masked_paths(App, raw)) == {("credentials", "passwd"), ("marked",)}
    assert "hunter2" not in str(json_schema(App))
    assert str(json_schema(App)).count("shown") > 5


# Everything at once: a class with no mark at all

CANARY = "hunter2"
TRACE = "hunter2"


class Login(NamedTuple):
    user: str
    passwd: str


@dataclasses.dataclass(frozen=True)
class Client:
    name: str
    client_secret: str


class Mail(TypedDict, total=False):
    server: str
    smtp_password: str


class Names(RootModel[dict[str, str]]):
    pass


class Unmarked(BaseModel):
    model_config = ConfigDict(extra="allow")

    password: str = f"{CANARY}-default"
    api_key: str | None = None
    signing_key: bytes = b"none"
    database_url: str = f"postgres://app:{CANARY}-default@db/shop"
    replica: PostgresDsn | None = None
    dsn: str = ""
    hooks: list[str] = []
    weights: dict[str, int] = {}
    headers: dict[str, str] = {"Accept": "*/*", "Authorization": f"Bearer {CANARY}-default"}
    credentials: dict[str, Any] = {}
    vault: dict[str, Any] = {}
    account: Account = Account()
    accounts: list[Account] = []
    by_name: dict[str, Account] = {}
    login: Login = Login("u", "")
    client: Client = Client("c", "")
    mail: Mail = {}
    names: Names = Names({})
    tokens: set[str] = set()
    anything: Any = None
    token_count: int = 5
    max_tokens: int | str = 4096
    use_token: bool = True
    port: Annotated[int, RestartRequired()] = 1


RAW = {
    "password": CANARY,
    "api_key": CANARY,
    "signing_key": CANARY,
    "database_url": f"postgres://app:{CANARY}@db/shop?token={CANARY}",
    "replica": f"postgresql://app:{CANARY}@db/shop",
    "dsn": f"app:{CANARY}@tcp(db)/shop",
    "hooks": ["https://example.com", f"https://user:{CANARY}@example.com"],
    "weights": {f"postgres://app:{CANARY}@one": 11, f"postgres://app:{CANARY}-too@one": 12, "postgres://two": 13},
    "headers": {"Accept": "text/plain", "Authorization": f"Bearer {CANARY}", "X-Api-Key": CANARY},
    "credentials": {"user": "u", "value": CANARY, "number": 5, CANARY: [1]},
    "vault": {"a": [{"db": {"authToken": CANARY, "port": 7}}], "password": CANARY},
    "account": {"user": "u", "passwd": CANARY},
    "accounts": [{"passwd": CANARY}, {"user": "v"}],
    "by_name": {"secret-service": {"user": "w", "passwd": CANARY}},
    "login": ["u", CANARY],
    "client": {"name": "c", "client_secret": CANARY},
    "mail": {"server": "s", "smtp_password": CANARY},
    "names": {"cookie": CANARY, "name": "n"},
    "tokens": [CANARY],
    "anything": [{"private_key": CANARY}, f"x://a:{CANARY}@b"],
    "extra_secret": CANARY,
    f"https://user:{CANARY}@extra": 14,
    "extra": {"deep": [{"PASSWORD": CANARY, "url": f"http://a:{CANARY}@b"}]},
}


def leaks(*things):
    return [text for thing in things for text in (str(thing), repr(thing)) if TRACE in text]


def test_I11_a_document_of_an_unmarked_class_shows_no_secret_and_all_the_rest():
    shown = document(Unmarked(**RAW))
    assert not leaks(shown)
    assert shown["database_url"] == f"postgres://app:{MASK}@db/shop?token={MASK}"
    assert shown["replica"] == f"postgresql://app:{MASK}@db/shop"
    assert shown["hooks"] == ["https://example.com", f"https://user:{MASK}@example.com"]
    one = f"postgres://app:{MASK}@one"
    assert shown["weights"] == {one: 11, f"{one} (2)": 12, "postgres://two": 13}
    assert shown[f"https://user:{MASK}@extra"] == 14
    assert shown["headers"] == {"Accept": "text/plain", "Authorization": MASK, "X-Api-Key": MASK}
    assert shown["credentials"] == MASK
    assert shown["vault"] == {"a": [{"db": {"authToken": MASK, "port": 7}}], "password": MASK}
    assert shown["accounts"] == [{"user": "", "passwd": MASK}, {"user": "v", "passwd": MASK}]
    assert shown["by_name"] == {"secret-service": {"user": "w", "passwd": MASK}}
    assert (shown["login"], shown["client"]) == (["u", MASK], {"name": "c", "client_secret": MASK})
    assert shown["mail"] == {"server": "s", "smtp_password": MASK}
    assert shown["names"] == {"cookie": MASK, "name": "n"}
    assert (shown["token_count"], shown["max_tokens"], shown["use_token"]) == (5, 4096, True)
    assert shown["extra"] == {"deep": [{"PASSWORD": MASK, "url": f"http://a:{MASK}@b"}]}


def test_I11_raw_values_of_an_unmarked_class_show_no_secret():
    settings = Unmarked(**RAW)
    for within in (None, settings):
        shown = mask_input(Unmarked, (), RAW, within=within)
        assert not leaks(shown)
        assert shown["headers"]["Accept"] == "text/plain"
        for key, value in RAW.items():
            assert not leaks(mask_input(Unmarked, (key,), value, within=within))
            as_text = mask_input(Unmarked, (key,), json.dumps(value), within=within)
            assert not leaks(as_text) or key in ("anything", "extra")  # where any text may be


def test_I11_messages_about_an_unmarked_class_are_scrubbed():
    for values in (RAW, Unmarked(**RAW)):
        secrets = secret_texts(Unmarked, values)
        assert not leaks(scrub(f"{RAW} {Unmarked(**RAW)!r} {json.dumps(RAW)}", secrets))
    assert "Accept" in scrub(str(RAW), secret_texts(Unmarked, RAW))


def test_I11_the_sample_and_the_schema_of_an_unmarked_class_show_no_secret():
    assert not leaks(sample(Unmarked).text, json.dumps(json_schema(Unmarked)))
    properties = json_schema(Unmarked)["properties"]
    assert properties["password"]["x-secret"]
    assert "default" not in properties["password"]
    assert properties["headers"]["default"] == {"Accept": "*/*", "Authorization": MASK}
    assert properties["database_url"]["default"] == f"postgres://app:{MASK}@db/shop"


def test_I11_the_last_known_good_of_an_unmarked_class_holds_no_secret(tmp_path):
    good = LastGood(tmp_path / "good.json", Unmarked)
    good.write(RAW, settings=Unmarked(**RAW), generation=1, when=dt.datetime.now(dt.UTC))
    assert good.error is None
    written = (tmp_path / "good.json").read_text()
    assert TRACE not in written
    assert "text/plain" in written


def test_I11_nothing_that_hotconf_says_of_an_unmarked_class_shows_a_secret(caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    source, above = Memory(RAW, name="below"), Memory({"password": f"{CANARY}-above"}, name="above")
    conf = HotConf(Unmarked, sources=[source, above], options=Options(watch=False, audit_log=tmp_path / "audit"))
    said = [conf.load()]
    source.set({**RAW, "password": "other", "port": 2, "headers": {"Cookie": CANARY}})
    said.append(conf.load())
    source.set({**RAW, "token_count": CANARY})
    with pytest.raises(ConfigError) as error:
        conf.load()
    said += [error.value, *conf.reports, conf.status, *(jsonable(report) for report in conf.reports)]
    for path in ["", *RAW, *conf.snapshot.origins]:
        said.append(conf.explain(path) if path in conf.snapshot.origins or path in RAW or not path else "")
        said.append(jsonable(said[-1]))
    said += [conf, conf.snapshot, conf.snapshot.document, dict(conf.snapshot.origins), *map(vars, caplog.records)]
    assert not leaks(*said)


class Talkative(Unmarked):
    @model_validator(mode="before")
    @classmethod
    def quote(cls, data):
        raise ValueError(f"no: {data}")


@pytest.mark.parametrize("wrong", [{key: [[value]]} for key, value in RAW.items()], ids=lambda wrong: next(iter(wrong)))
def test_I11_a_fault_of_an_unmarked_class_quotes_no_secret(wrong):
    for model in (Unmarked, Talkative):
        conf = HotConf(model, sources=[Memory({**RAW, **wrong})], options=QUIET)
        try:
            conf.load()
        except ConfigError as error:
            assert not leaks(error, *error.report.faults)
        assert not leaks(*conf.reports)


# Patches


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"password": CANARY}, "password"),
        ({"api_key": ""}, "api_key"),
        ({"database_url": f"postgres://app:{CANARY}@db"}, "database_url"),
        ({"hooks": ["http://x", f"http://a:{CANARY}@x"]}, "hooks.1"),
        ({"headers": {"Authorization": CANARY}}, "headers.Authorization"),
        ({"weights": {f"x://a:{CANARY}@b": 1}}, f"weights.x://a:{MASK}@b"),
        ({"credentials": {"user": "u"}}, "credentials"),
        ({"vault": {"db": {"password": CANARY}}}, "vault.db.password"),
        ({"by_name": {"a": {"passwd": CANARY}}}, "by_name.a.passwd"),
        ({"extra_token": CANARY}, "extra_token"),
        ({"dsn": f"app:{CANARY}@tcp(db)/x"}, "dsn"),
    ],
)
def test_I11_a_patch_sets_nothing_that_would_be_masked(patch, path):
    with pytest.raises(Rejected) as refused:
        merge_patch(Unmarked, {}, patch)
    assert [fault.path for fault in refused.value.faults] == [path]
    assert "secret" in str(refused.value)
    assert not leaks(refused.value)


@pytest.mark.parametrize(
    "patch",
    [
        {"token_count": 7, "max_tokens": 5, "use_token": False},
        {"database_url": "postgres://app@db"},
        {"headers": {"Accept": "x"}, "by_name": {"secret-service": {"user": "u"}}},
        {"hooks": ["https://example.com/?page=1"], "extra": {"deep": [1]}, "dsn": "host=db"},
    ],
)
def test_a_patch_sets_all_else(patch):
    assert merge_patch(Unmarked, {}, patch) == patch


def test_a_changed_secret_mapping_is_told_as_a_whole():
    old, new = Unmarked(credentials={"a": "x"}), Unmarked(credentials={"b": "y"}, headers={"Cookie": "z"})
    assert set(differences(old, new)) >= {("credentials",), ("headers", "Cookie")}


class Strict(Section):
    password: str = ""
    host: str = ""


def test_a_text_in_the_place_of_a_section_that_holds_secrets_is_hidden_even_where_any_text_may_be():
    for annotation in (Strict, Strict | str, Strict | Any, list[Strict], dict[str, str]):
        model = create_model("App", part=(annotation, ...))
        assert mask_input(model, ("part",), '{"password": "hunter2"}') == MASK


def test_a_key_that_may_be_a_misspelt_secret_is_hidden():
    assert mask_input(Strict, (), {"pasword": "hunter2", "host": "db"}) == {"pasword": MASK, "host": "db"}
