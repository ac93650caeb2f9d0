"""Masking: no secret in anything that is shown, and everything else as it is."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import json
import uuid
from collections import deque
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import (
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    create_model,
    field_serializer,
    model_serializer,
)
from typing_extensions import TypedDict

from hotconf import Change, HotConf, Layer, Options, RestartRequired
from hotconf.schema.redact import (
    document,
    document_at,
    mask_input,
    masked_paths,
    scrub,
    secret_texts,
    traceback_without_message,
    visible_path,
)
from hotconf.schema.settings import Section, Sensitive
from hotconf.schema.shape import shape_of
from hotconf.sources import Memory
from hotconf.values.keypath import render
from hotconf.values.merge import lookup, merge
from hotconf.values.report import jsonable
from hotconf.values.secrets import MASK
from tests.trees import ODD_KEYS, build, origins, tables

HIDDEN = "hunter2-Ünsafe\"'\\\n"


class Leaky(Section):
    """Serializers that unwrap what they should not."""

    password: SecretStr = SecretStr(HIDDEN)

    @field_serializer("password")
    def unwrap(self, value):
        return value.get_secret_value()


class Leakier(Section):
    password: SecretStr = SecretStr(HIDDEN)

    @model_serializer
    def unwrap(self):
        return {"password": self.password.get_secret_value()}


class Credentials(TypedDict):
    user: str
    token: Annotated[str, Sensitive()]


class Login(NamedTuple):
    user: str
    token: Annotated[str, Sensitive()]


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    user: str
    token: Annotated[str, Sensitive()]


class Tokens(RootModel[dict[str, Annotated[str, Sensitive()]]]):
    pass


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, SecretStr]


class Named(BaseModel):
    model_config = ConfigDict(extra="allow")

    password: SecretStr = Field(SecretStr(""), alias="pw")


Marked = Annotated[str, Sensitive()]
LOGIN = {"user": "app", "token": HIDDEN}

CASES = [
    (SecretStr, HIDDEN),
    (SecretStr | None, HIDDEN),
    (SecretStr | int, HIDDEN),
    (SecretBytes, HIDDEN),
    (Secret[str], HIDDEN),
    (Marked, HIDDEN),
    (Marked | None, HIDDEN),
    (Annotated[bytes, Sensitive()], HIDDEN.encode()),
    (list[SecretStr], ["x", HIDDEN]),
    (list[Marked], [HIDDEN]),
    (set[SecretStr], [HIDDEN]),
    (set[Marked], [HIDDEN]),
    (deque[Marked], [HIDDEN]),
    (tuple[str, SecretStr], ["x", HIDDEN]),
    (tuple[str, Marked], ["x", HIDDEN]),
    (tuple[Marked, ...], [HIDDEN]),
    (dict[str, SecretStr], {"a": HIDDEN}),
    (dict[str, Marked], {"a": HIDDEN}),
    (dict[int, list[Marked]], {"1": [HIDDEN]}),
    (dict[SecretStr, int], {HIDDEN: 1}),
    (Annotated[dict[str, str], Sensitive()], {HIDDEN: "x"}),
    (Annotated[dict[str, Any], Sensitive()], {"a": {"b": [HIDDEN]}}),
    (Leaky, {"password": HIDDEN}),
    (Leakier, {"password": HIDDEN}),
    (deque[Leakier], [{"password": HIDDEN}]),
    (list[Leaky | Leakier], [{"password": HIDDEN}]),
    (Annotated[Leaky, Sensitive()], {"password": HIDDEN}),
    (Credentials, LOGIN),
    (list[Credentials], [LOGIN]),
    (Login, ["app", HIDDEN]),
    (Record, LOGIN),
    (list[Record], [LOGIN]),
    (Tokens, {"a": HIDDEN}),
    (list[Tokens], [{"a": HIDDEN}]),
    (RootModel[Marked], HIDDEN),
    (Open, {"a": HIDDEN}),
    (Named, {"password": HIDDEN, "pw": "x"}),
    (Leaky | Marked | dict[str, Marked], HIDDEN),
]


def case(annotation, value):
    model = create_model("App", __base__=Section, field=(annotation, ...), public=(str, "shown"))
    return model, {"field": value, "public": "shown"}


def leaks(text):
    return "hunter2" in text or "nsafe" in text


@pytest.mark.parametrize(("annotation", "value"), CASES)
def test_I11_no_secret_is_in_a_document_its_digest_or_any_part_of_it(annotation, value):
    model, values = case(annotation, value)
    settings = build(model, values)
    whole = document(settings)
    assert not leaks(repr(whole))
    assert whole["public"] == "shown"
    assert json.loads(json.dumps(whole)) == whole
    assert not leaks(repr(document_at(model, settings, ("field",))))
    assert document_at(model, settings, ("field",)) == whole["field"]


@pytest.mark.parametrize(("annotation", "value"), CASES)
def test_I11_no_secret_is_in_a_raw_value_that_is_shown(annotation, value):
    model, values = case(annotation, value)
    assert not leaks(repr(mask_input(model, ("field",), value)))
    assert not leaks(repr(mask_input(model, (), values)))
    assert not leaks(repr(mask_input(model, ("field",), json.dumps(str(value)))))


@pytest.mark.parametrize(("annotation", "value"), CASES)
def test_I11_without_what_is_hidden_raw_values_hold_no_secret(annotation, value):
    model, values = case(annotation, value)
    for raw in (values, {**values, "field": json.dumps(str(value))}):
        kept = copy.deepcopy(raw)
        for *parents, key in masked_paths(model, raw):
            owner = lookup(kept, tuple(parents))
            owner[key] = None
        assert not leaks(repr(kept))
        assert kept["public"] == "shown"


@pytest.mark.parametrize(("annotation", "value"), CASES)
def test_I11_every_secret_is_known_to_those_who_scrub_messages(annotation, value):
    model, values = case(annotation, value)
    secrets = secret_texts(model, values)
    for text in (HIDDEN, repr(HIDDEN), json.dumps(HIDDEN), HIDDEN.strip(), f"got {values}", f"{build(model, values)}"):
        assert not leaks(scrub(text, secrets))


@pytest.mark.parametrize(("annotation", "value"), CASES)
def test_I11_no_secret_is_in_an_explanation_or_its_path(annotation, value):
    model, values = case(annotation, value)
    known = origins(model, values)
    for path in ("", "field", *known):
        explanation = known.explain(path)
        assert not leaks(f"{path} {explanation} {jsonable(explanation)} {known[path]}")


hidden_words = st.text("abcdefghijklmnop0123456789/+=\"'\\ é", min_size=4, max_size=12).map(lambda text: f"S{text}S")
public_types = st.sampled_from([(int, 1), (str, "x"), (list[int], [1]), (dict[str, str], {"k": "v"})])
secret_types = st.sampled_from(
    [
        (SecretStr, lambda text: text),
        (Marked, lambda text: text),
        (list[SecretStr], lambda text: [text]),
        (dict[str, Marked], lambda text: {"k": text}),
        (Record, lambda text: {"user": "u", "token": text}),
        (Credentials | None, lambda text: {"user": "u", "token": text}),
        (Tokens, lambda text: {"k": text}),
    ]
)


@st.composite
def models(draw, depth=2):
    """A class, raw values for it, and the secrets in them."""
    fields, values, secrets = {}, {}, []
    for name in draw(st.sets(st.sampled_from("abcdef"), min_size=1, max_size=4)):
        kind = draw(st.sampled_from(["public", "secret", "section", "list"] if depth else ["public", "secret"]))
        if kind == "public":
            fields[name], values[name] = draw(public_types)
        elif kind == "secret":
            fields[name], wrap = draw(secret_types)
            secrets.append(draw(hidden_words))
            values[name] = wrap(secrets[-1])
        else:
            inner, below, more = draw(models(depth - 1))
            fields[name], values[name] = (inner, below) if kind == "section" else (list[inner], [below])
            secrets += more
    return (
        create_model("Random", __base__=Section, **{name: (kind, ...) for name, kind in fields.items()}),
        values,
        secrets,
    )


@given(models())
def test_I11_no_secret_of_random_settings_is_in_any_rendering(random):
    model, values, secrets = random
    settings, known = build(model, values), origins(model, values)
    renderings = [json.dumps(document(settings), ensure_ascii=False), repr(mask_input(model, (), values))]
    renderings += [str(known.explain(path)) for path in known]
    renderings += [repr(list(masked_paths(model, values)))]
    renderings += [scrub(f"{values} {json.dumps(values)}", secret_texts(model, values))]
    assert not [secret for secret in secrets for text in renderings if secret in text]


class Colour(Enum):
    RED = "red"


class Sorted(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    value: Any


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("text", "text"),
        (1, 1),
        (True, True),
        (None, None),
        (1.5, 1.5),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        (Decimal("1.00"), "1.00"),
        (dt.date(2024, 5, 1), "2024-05-01"),
        (dt.timedelta(seconds=90), "PT1M30S"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("/a/b"), "/a/b"),
        (Colour.RED, "red"),
        ({Colour.RED: 1, 2: 3}, {"red": 1, "2": 3}),
        ({"b", "a"}, ["a", "b"]),
        (("a", [1]), ["a", [1]]),
        (b"text", "text"),
        (b"\xff", "<bytes>"),
        (object(), "<object>"),
        (dict.fromkeys([*ODD_KEYS, "a.b"], 1), dict.fromkeys([*ODD_KEYS, "a.b"], 1)),
    ],
)
def test_values_are_shown_as_json_has_them(value, result):
    assert document(Sorted(value=value)) == {"value": result}
    assert json.dumps(document(Sorted(value=value)))


def test_extra_keys_are_shown_and_hide_no_field():
    class Extra(BaseModel):
        model_config = ConfigDict(extra="allow")

        host: str = Field("real", alias="h")

    assert document(Extra.model_validate({"h": "real", "host": "false", "more": 1})) == {"host": "real", "more": 1}


def test_a_deprecated_field_is_shown_without_a_warning():
    model = create_model("Model", old=(int, Field(1, deprecated="use new")))
    assert document(model()) == {"old": 1}


def test_none_in_the_place_of_a_secret_is_no_secret():
    model = create_model("Model", token=(SecretStr | None, None))
    assert document(model()) == {"token": None}
    assert mask_input(model, ("token",), None) is None
    assert mask_input(model, (), {"token": None}) == {"token": None}


def test_only_the_secret_is_hidden():
    assert document(build(*case(Credentials, LOGIN))) == {"field": {"user": "app", "token": MASK}, "public": "shown"}
    assert document(("u", "t"), shape_of(tuple[str, Marked])) == ["u", MASK]
    model, values = case(list[Record], [LOGIN])
    assert mask_input(model, (), values) == {"field": [{"user": "app", "token": MASK}], "public": "shown"}


def test_what_does_not_fit_a_section_with_secrets_is_hidden_as_a_whole():
    model, _ = case(Leaky, {})
    assert mask_input(model, ("field",), "user:hunter2@host") == MASK
    assert mask_input(model, ("field",), ["hunter2"]) == MASK
    assert mask_input(model, (), {"field": '{"password": "hunter2"}'}) == {"field": MASK}
    assert mask_input(model, ("field",), "") == ""
    listed, _ = case(list[Leaky], [])
    assert mask_input(listed, ("field",), {"password": "hunter2"}) == MASK
    assert "hunter2!" in secret_texts(model, {"field": "hunter2!"})


class Pathed(BaseModel):
    token: SecretStr = Field(SecretStr(""), validation_alias=AliasPath("auth", "token"))
    public: str = ""


def test_I11_a_secret_that_an_alias_path_reaches_is_hidden_where_it_lies():
    values = {"auth": {"token": HIDDEN}, "public": "shown"}
    assert not leaks(repr(mask_input(Pathed, (), values)))
    assert HIDDEN in secret_texts(Pathed, values)


def test_I11_defaults_are_secrets_too():
    assert HIDDEN in secret_texts(Leaky, {})
    nested = create_model("Nested", inner=(Leaky, Leaky(password=SecretStr("another-one"))))
    assert {HIDDEN, "another-one"} <= secret_texts(nested, {})


def test_scrubbing_leaves_no_part_of_a_longer_secret_and_masks_no_mask():
    assert scrub("abcdef abcd", {"abcd", "abcdef"}) == f"{MASK} {MASK}"
    assert scrub("a****b", {"****", "a****b"}) == MASK
    assert scrub("nothing", set()) == "nothing"


def test_a_short_secret_is_only_found_as_a_word():
    assert scrub("pin 12 is not below 120", {"12"}) == f"pin {MASK} is not below 120"


class Section2(Section):
    host: str = ""
    tokens: Annotated[dict[str, str], Sensitive()] = {}
    named: dict[str, int] = {}


class Deep(Section):
    inner: Annotated[Section2, Sensitive()] = Section2()
    outer: Section2 = Section2()


@pytest.mark.parametrize(
    ("path", "result"),
    [
        (("inner", "host"), "inner.host"),
        (("inner", "named", "alice"), "inner.named"),
        (("outer", "tokens", "alice"), "outer.tokens"),
        (("outer", "named", "alice"), "outer.named.alice"),
        (("outer", "named", "x-hunter2-x"), f"outer.named.x-{MASK}-x"),
        (("outer", "host"), "outer.host"),
    ],
)
def test_I11_a_path_shows_no_key_of_a_secret(path, result):
    assert render(visible_path(Deep, path, {"hunter2", "host"})) == result


def test_what_pydantic_quotes_of_a_long_secret_is_masked_too():
    secret = "tok/" * 20
    with pytest.raises(ValueError, match="input_value") as caught:
        create_model("Other", number=(int, 1)).model_validate({"number": secret})
    assert "tok/" not in scrub(str(caught.value), {secret})


def test_a_secret_is_found_whatever_its_case():
    assert scrub("no HUNTER2 here", {"hunter2"}) == f"no {MASK} here"


class Vault(BaseModel):
    password: SecretStr = SecretStr("none")
    host: str = ""


def test_what_lies_beside_a_secret_and_has_no_name_may_be_one():
    model = create_model("App", vault=(Vault, Vault()))
    raw = {"pasword": "hunter2", "host": "db"}
    assert mask_input(model, ("vault",), raw) == {"pasword": MASK, "host": "db"}
    assert "hunter2" in secret_texts(model, {"vault": raw})


class Mixed(BaseModel):
    model_config = ConfigDict(extra="allow")

    vault: Vault = Vault()
    tokens: Annotated[dict[str, Any], Sensitive()] = Field(default_factory=dict)
    sections: dict[str, dict[str, Any]] = Field(default_factory=dict)


@settings(max_examples=40)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("vault", "tokens", "sections", "free"), tables)))
def test_I11_sections_without_secrets_are_passed_over_and_no_secret_is(values):
    """Held against the long way, on which no section counts as one of plain values."""
    raw = {**values, "sections": {"held": {"token": SecretStr("hunter2")}, **values.get("sections", {})}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hotconf.schema.redact.are_scalars", lambda _values: False)
        expected = secret_texts(Mixed, raw)
    assert "hunter2" in expected
    assert secret_texts(Mixed, raw) == expected


@pytest.mark.parametrize("shown_by_python", [repr, str])
def test_I11_the_repr_of_what_is_handed_out_has_no_values(shown_by_python):
    model = create_model("App", token=(Annotated[str, Sensitive()], ...))
    conf = HotConf(model, init={"token": "hunter2"})
    conf.load()
    layer = Layer("memory", {"token": "hunter2"})
    change = Change(None, conf.current, ("token",), 1)
    for thing in (conf, conf.snapshot, conf.status, layer, merge([layer]), change):
        assert "hunter2" not in shown_by_python(thing)


def test_the_trail_of_a_group_leads_to_each_of_its_errors_and_quotes_none():
    secret = "hunter2"

    def fail():
        raise ValueError(secret)

    try:
        try:
            fail()
        except ValueError as error:
            raise ExceptionGroup(secret, [error, TypeError(secret)]) from None
    except ExceptionGroup as group:
        text = traceback_without_message(group)
    assert "in fail" in text
    assert text.endswith("ValueError\nTypeError")
    assert secret not in text


class Plugin(Section):
    kind: str = "plugin"


class Bucket(Plugin):
    """A class that no annotation names."""

    key: SecretStr = SecretStr("")
    pw: Annotated[str, Sensitive()] = ""
    options: Annotated[dict[str, str], Sensitive()] = {}


def chosen(value):
    return Bucket.model_validate(value) if isinstance(value, dict) else value


Chosen = Annotated[Plugin, BeforeValidator(chosen)]


class Plugins(Section):
    one: Chosen = Plugin()
    several: list[Chosen] = []
    named: dict[str, Chosen] = {}
    whole: Annotated[Chosen, RestartRequired()] = Plugin()
    default: Plugin = Bucket(pw=HIDDEN)
    typed: Annotated[Any, BeforeValidator(SecretStr)] = ""


def plugins(text=HIDDEN):
    bucket = {"kind": "s3", "key": text, "pw": text, "options": {text: text}}
    return {"one": bucket, "several": [bucket], "named": {"a": bucket}, "whole": bucket, "typed": text}


async def test_I11_a_secret_of_a_class_that_the_schema_does_not_name_is_known_by_the_values(tmp_path):
    source = Memory(plugins())
    options = Options(last_good=tmp_path / "good.json")
    conf = HotConf(
        Plugins, sources=[Memory({**plugins(), "several": [{}, *plugins()["several"]]}), source], options=options
    )
    async with conf.running(signals=()):
        paths = [*conf.snapshot.origins, *Plugins.model_fields, "one.options", "default.pw"]
        told = "\n".join(str(conf.explain(path)) for path in paths)
        assert "one.kind = 's3'" in told
        assert not leaks(told + (tmp_path / "good.json").read_text())
        source.set(plugins(f"{HIDDEN} again"))
        report = await conf.reload()
        assert [entry.path for entry in report.pending_restart] == ["whole.key", "whole.pw", "whole.options"]
        assert not leaks(repr(jsonable(report)) + (tmp_path / "good.json").read_text())
