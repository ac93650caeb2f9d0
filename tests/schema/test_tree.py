"""Trees: what lies below a value of settings, whatever class holds it."""

from __future__ import annotations

import dataclasses

import pytest
from pydantic import BaseModel, ConfigDict, RootModel, SecretStr

from hotconf.schema.tree import child, children, is_list, value_at


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, dict[str, str]]

    size: int = 1


class Tokens(RootModel[dict[str, SecretStr]]):
    pass


@dataclasses.dataclass
class Record:
    size: int
    token: str


VALUES = [
    (Open.model_validate({"self": {"url": "y"}}), {"self": {"url": "y"}, "size": 1}),
    (Open.model_construct(_fields_set=set()), {"size": 1}),
    (Tokens({"a": "b"}), {"a": SecretStr("b")}),
    ({1: "x"}, {"1": "x"}),
    ({"a": 1, "b": 2}, {"a": 1, "b": 2}),
    (["a"], {0: "a"}),
    ((1, 2), {0: 1, 1: 2}),
    (Record(2, "x"), {"size": 2, "token": "x"}),
    ("text", {}),
    (b"bytes", {}),
    ({1, 2}, {}),
    (None, {}),
]


@pytest.mark.parametrize(("value", "below"), VALUES)
def test_what_lies_below_a_value_is_found_by_the_keys_of_paths(value, below):
    assert children(value) == below
    assert {key: child(value, key) for key in below} == below
    assert child(value, "absent") is None


def test_a_path_leads_through_every_kind():
    value = {"a": [Record(1, "x"), Open.model_validate({"b": {"c": "d"}})]}
    assert value_at(value, ("a", 0, "token")) == "x"
    assert value_at(value, ("a", 1, "b", "c")) == "d"
    assert value_at(value, ()) is value
    assert value_at(value, ("a", 2, "b")) is None


@pytest.mark.parametrize(("value", "verdict"), [([], True), ((), True), ("", False), (b"", False), ({}, False)])
def test_text_is_no_list(value, verdict):
    assert is_list(value) is verdict
