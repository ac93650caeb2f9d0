"""Untyped settings: any keys, and those whose names say secret masked wherever values are shown."""

from __future__ import annotations

import json

import pytest

from hotconf.conf import HotConf
from hotconf.schema.redact import mask_input, secret_texts
from hotconf.schema.settings import Untyped, untyped
from hotconf.values.secrets import MASK


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


@pytest.mark.parametrize("name", ["password", "DB-PASSWORDS", "clientSecret", "api_key", "credentials", "Set-Cookie"])
def test_a_name_that_says_secret_is_masked_at_any_depth(loaded, name):
    conf = loaded({name: "canary", "a": {"b": [{name: "canary", "port": 1}]}})
    assert conf.snapshot.document == {name: MASK, "a": {"b": [{name: MASK, "port": 1}]}}
    shown = f"{conf.explain(name)} {conf.explain('a')} {conf.explain('a.b.0')} {dict(conf.snapshot.origins)}"
    assert "canary" not in shown


@pytest.mark.parametrize("name", ["key", "passenger", "port", "author", "tok", "monkey", "tokenizer"])
def test_other_names_are_shown(loaded, name):
    assert loaded({name: "shown"}).snapshot.document == {name: "shown"}


@pytest.mark.parametrize("value", ["canary", 5, 1.5, ["canary"], [5], {"canary": "canary"}, {"a": True}])
def test_a_value_at_a_secret_name_is_masked_as_a_whole(loaded, value):
    assert loaded({"token": value}).snapshot.document == {"token": MASK}


@pytest.mark.parametrize("document", [{"token": None}, {"password": True}, {"tokens": 4096}, {"password_length": 8}])
def test_nothing_switches_and_amounts_are_no_secrets(loaded, document):
    assert loaded(document).snapshot.document == document


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
    document = {"model_config": 1, "copy": 2, "__secret_words__x": "canary", "model_fields": {"json": [1]}, "": 4}
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
