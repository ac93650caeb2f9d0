"""Representations: what an Accept header chooses, and what each notation can hold."""

from __future__ import annotations

import json
import tomllib

import pytest
import yaml
from hypothesis import given, strategies as st

import hotconf.api.representations as representations
from hotconf.api.exchange import Problem
from hotconf.api.representations import ALL, JSON, TOML, YAML, accepted, best, written
from hotconf.values.keypath import Key


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        (None, JSON),
        ("", JSON),
        (" , ", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/json", JSON),
        ("APPLICATION/TOML", TOML),
        ("application/toml", TOML),
        ("text/toml", TOML),
        ("application/yaml", YAML),
        ("text/yaml; charset=utf-8", YAML),
        ("application/x-yaml", YAML),
        ("application/json;q=0.5, application/toml", TOML),
        ("application/json;q=0.5, application/toml;q=0.4", JSON),
        ("application/toml;q=0.9, */*;q=0.1", TOML),
        ("*/*;q=0.9, application/json;q=0.1", TOML),
        ("application/json;q=0, */*", TOML),
        ("application/json;q=0, application/toml;q=0, */*", YAML),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", JSON),
        ("nonsense, application/toml", TOML),
        ("application/toml;q=2, application/yaml", YAML),
        ("application/toml;q=x, application/yaml;q=0.1", YAML),
        ("application/toml; level=1; q=0.3, application/yaml;q=0.2", TOML),
    ],
)
def test_the_most_preferred_representation_is_chosen(header, chosen):
    assert best(header) is chosen


@pytest.mark.parametrize("header", ["text/html", "application/xml", "*/*;q=0", "application/json;q=0", "nonsense"])
def test_a_representation_that_is_not_served_is_406_and_names_those_that_are(header):
    with pytest.raises(Problem) as refused:
        best(header)
    assert refused.value.status == 406
    assert all(one.media_type in refused.value.detail for one in ALL)


@given(st.text(max_size=60))
def test_no_header_raises_anything_else(header):
    assert set(accepted(header)) <= set(ALL)


def test_without_the_extra_yaml_is_406_or_the_next_preference_is_served(monkeypatch):
    monkeypatch.setattr(representations, "_has_yaml", lambda: False)
    assert best("application/yaml, application/toml;q=0.5") is TOML
    with pytest.raises(Problem) as refused:
        best("application/yaml")
    assert (refused.value.status, "hotconf[yaml]" in refused.value.detail) == (406, True)


DOCUMENT = {"a": 1, "b": [1.5, "ü", {"c": None}], "d": None, "e": {"f g.h": True, "i": None}}


def test_all_three_hold_the_same_where_nothing_is_null():
    shown = {"a": 1, "b": [1.5, "ü", {}], "e": {"f g.h": True}}
    assert tomllib.loads(written(TOML, DOCUMENT).decode()) == shown
    assert yaml.safe_load(written(YAML, DOCUMENT)) == DOCUMENT
    assert json.loads(written(JSON, DOCUMENT)) == DOCUMENT


@pytest.mark.parametrize("value", [1, "text", None, [1], []])
def test_a_part_that_is_not_a_table_is_served_as_json_only(value):
    assert json.loads(written(JSON, value)) == value
    for notation in (TOML, YAML):
        with pytest.raises(Problem) as refused:
            written(notation, value)
        assert refused.value.status == 406


@pytest.mark.parametrize("value", [{"a": [1, None]}, {"a": "\udcff"}])
def test_values_that_toml_cannot_hold_are_406(value):
    with pytest.raises(Problem) as refused:
        written(TOML, value)
    assert (refused.value.status, "JSON" in refused.value.detail) == (406, True)


def test_a_null_in_a_list_is_named_by_its_path_where_toml_refuses_it():
    with pytest.raises(Problem) as refused:
        written(TOML, {"on": {"push": [1, {"a": [None]}]}})
    assert refused.value.detail.startswith("on.push.1.a.0 is null, and a list in TOML cannot hold a null: accept JSON")


def test_a_key_that_is_no_string_is_itself_in_yaml_and_its_text_elsewhere():
    shown = {Key("on", True): {Key("8080", 8080): "web"}}
    assert written(YAML, shown) == b"on:\n  8080: web\n"
    assert written(TOML, shown) == b'[on]\n8080 = "web"\n'
    assert written(JSON, shown) == b'{"on": {"8080": "web"}}\n'
