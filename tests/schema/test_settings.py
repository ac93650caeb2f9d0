"""Untyped settings: any keys, and those whose names say secret masked wherever values are shown."""

from __future__ import annotations

import json

import pytest

from hotconf.conf import HotConf
from hotconf.schema.redact import MASK, mask_input, secret_texts
from hotconf.schema.settings import SECRET_WORDS, Untyped, untyped

SPELLINGS = {
    "password": ("password", "PASSWORD", "db_password", "passwords", "Pass-Word"),
    "passwd": ("passwd",),
    "passphrase": ("key_passphrase",),
    "secret": ("secret", "clientSecret", "secrets"),
    "token": ("token", "access-token", "TOKENS"),
    "apikey": ("api_key", "apiKey", "API-KEY", "apikey"),
    "privatekey": ("private_key", "privateKey"),
    "credential": ("credentials", "aws_credential"),
}


@pytest.fixture
def loaded(tmp_path):
    """Load a document as untyped settings."""

    def load(document, *secrets):
        path = tmp_path / "any.json"
        path.write_text(json.dumps(document))
        conf = HotConf(untyped(secrets), [path])
        conf.load()
        return conf

    return load


def test_every_word_has_spellings_here():
    assert SPELLINGS.keys() == SECRET_WORDS


@pytest.mark.parametrize("name", [name for names in SPELLINGS.values() for name in names])
def test_a_name_that_says_secret_is_masked_at_any_depth(loaded, name):
    conf = loaded({name: "canary", "a": {"b": [{name: "canary", "port": 1}]}})
    assert conf.snapshot.document == {name: MASK, "a": {"b": [{name: MASK, "port": 1}]}}
    shown = f"{conf.explain(name)} {conf.explain('a')} {conf.explain('a.b.0')} {dict(conf.snapshot.origins)}"
    assert "canary" not in shown


@pytest.mark.parametrize("name", ["key", "pass", "port", "author", "tok", "monkey"])
def test_other_names_are_shown(loaded, name):
    assert loaded({name: "shown"}).snapshot.document == {name: "shown"}


@pytest.mark.parametrize("value", ["canary", 5, ["canary"], {"canary": "canary"}, True])
def test_whatever_lies_at_a_secret_name_is_masked_as_a_whole(loaded, value):
    assert loaded({"token": value}).snapshot.document == {"token": MASK}


def test_null_is_no_secret(loaded):
    assert loaded({"token": None}).snapshot.document == {"token": None}


def test_names_can_be_added_for_one_class_alone(loaded):
    conf = loaded({"door": {"Pin-Code": "canary"}}, "pin_code")
    assert conf.snapshot.document == {"door": {"Pin-Code": MASK}}
    assert loaded({"door": {"Pin-Code": "0000"}}).snapshot.document == {"door": {"Pin-Code": "0000"}}
    assert untyped(()) is Untyped


def test_a_changed_secret_is_named_without_what_lies_below(loaded, tmp_path):
    conf = loaded({"credentials": {"bob": "canary"}, "open": {"a": 1, "token": "canary"}})
    (tmp_path / "any.json").write_text(
        json.dumps({"credentials": {"al": "x", "bob": "y"}, "open": {"a": 2, "token": "y"}})
    )
    assert set(conf.load().changed) == {"credentials", "open.a", "open.token"}


def test_any_key_may_be_used_even_one_of_pydantics(loaded):
    document = {"model_config": 1, "copy": 2, "__secret_words__x": 3, "model_fields": {"json": [1]}, "": 4}
    assert loaded(document).snapshot.document == {**document, "__secret_words__x": MASK}


def test_messages_know_its_secrets():
    values = {"token": "canary-1", "a": {"b": [{"password": "canary-2"}]}, "port": "shown"}
    assert secret_texts(Untyped, values) == {"canary-1", "canary-2"}
    assert mask_input(Untyped, ("a",), values["a"]) == {"b": [{"password": MASK}]}
    assert mask_input(Untyped, (), values)["port"] == "shown"


def test_touching_a_file_changes_nothing(loaded, tmp_path):
    conf = loaded({"a": {"b": [1, {"c": None}]}})
    path = tmp_path / "any.json"
    path.write_text(json.dumps({"a": {"b": [1, {"c": None}]}}, indent=2))
    assert conf.load().outcome == "unchanged"
