"""Merge patches over the overlay: RFC 7396, what is left of nulls, spellings, and what must never be written."""

from typing import Annotated

import pytest
from hypothesis import given, strategies as st
from pydantic import AliasChoices, AliasPath, BaseModel, Field, SecretStr, create_model

from hotconf import Section, Sensitive
from hotconf.errors import Rejected
from hotconf.sources.patch import merge_patch
from tests.trees import keys


class Anything(BaseModel):
    """A class that has nothing to say."""

    model_config = {"extra": "allow"}


# The table of RFC 7396, appendix A, each below a key since an overlay is an object. Its last column is what differs:
# there is no null to hold, and no empty object where a patch only took something away.
RFC = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"doc": ["a", "b"]}, {"doc": ["c", "d"]}, {"doc": ["c", "d"]}),
    ({"doc": {"a": "b"}}, {"doc": ["c"]}, {"doc": ["c"]}),
    ({"doc": {"a": "foo"}}, {"doc": None}, {}),  # the RFC: null
    ({"doc": {"a": "foo"}}, {"doc": "bar"}, {"doc": "bar"}),
    ({}, {"a": 1}, {"a": 1}),  # the RFC: from {"e": null}
    ({"doc": [1, 2]}, {"doc": {"a": "b", "c": None}}, {"doc": {"a": "b"}}),
    ({}, {"a": {"bb": {"ccc": None}}}, {}),  # the RFC: {"a": {"bb": {}}}
]


@pytest.mark.parametrize(("before", "patch", "after"), RFC)
def test_the_examples_of_the_rfc(before, patch, after):
    assert merge_patch(Anything, before, patch) == after


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        ({"a": {"b": 1}}, {"a": {"b": None}}, {}),
        ({"a": {"b": {"c": 1}, "d": 2}}, {"a": {"b": {"c": None}}}, {"a": {"d": 2}}),
        ({"a": 1}, {"a": {"b": None}}, {}),
        ({"a": {}}, {"b": 1}, {"a": {}, "b": 1}),
        ({"a": {}}, {"a": {}}, {"a": {}}),
        ({}, {"a": {}}, {"a": {}}),
        ({"a": 1}, {"a": {}}, {"a": {}}),
        ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": 1}}),
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"b": None}, {"a": 1}),
    ],
)
def test_an_empty_object_is_there_only_where_a_patch_says_so(before, patch, after):
    assert merge_patch(Anything, before, patch) == after


values = st.recursive(
    st.booleans() | st.integers() | st.text("abü\n", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, min_size=1, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(keys, values, max_size=4)
patches = st.dictionaries(
    keys,
    st.recursive(values | st.none(), lambda inner: st.dictionaries(keys, inner, min_size=1, max_size=3), max_leaves=8),
    max_size=4,
)


def by_the_rfc(target, patch):
    """The pseudocode of RFC 7396, section 2, word for word."""
    if isinstance(patch, dict):
        if not isinstance(target, dict):
            target = {}
        target = dict(target)
        for name, value in patch.items():
            if value is None:
                target.pop(name, None)
            else:
                target[name] = by_the_rfc(target.get(name), value)
        return target
    return patch


def without_empty(value):
    if not isinstance(value, dict):
        return value
    inner = {key: without_empty(item) for key, item in value.items()}
    return {key: item for key, item in inner.items() if item != {}}


@given(documents, patches)
def test_empty_objects_apart_it_does_what_the_rfc_does(before, patch):
    assert merge_patch(Anything, before, patch) == without_empty(by_the_rfc(before, patch))


@given(documents, patches)
def test_the_same_patch_twice_is_the_same_as_once(before, patch):
    once = merge_patch(Anything, before, patch)
    assert merge_patch(Anything, once, patch) == once


@given(documents)
def test_a_document_may_be_set_as_a_whole_and_taken_back_as_a_whole(document):
    assert merge_patch(Anything, {}, document) == document
    assert merge_patch(Anything, document, dict.fromkeys(document)) == {}


def test_neither_the_values_nor_the_patch_are_changed():
    before, patch = {"a": {"b": 1}, "l": [{"c": 1}]}, {"a": {"b": None, "d": [{"e": 2}]}}
    result = merge_patch(Anything, before, patch)
    result["a"]["d"][0]["e"] = 3
    assert (before, patch) == ({"a": {"b": 1}, "l": [{"c": 1}]}, {"a": {"b": None, "d": [{"e": 2}]}})


def test_a_tuple_of_the_program_is_a_list():
    assert merge_patch(Anything, {}, {"a": (1, (2,))}) == {"a": [1, [2]]}


# Spellings


class Pool(Section):
    size: int = Field(1, alias="poolSize")


class Tank(Section):
    size: int = Field(1, alias="tankSize")
    depth: int = Field(1, alias="tankDepth")


class Spelt(Section):
    basin: Pool | Tank = Pool()
    port: int = Field(1, validation_alias=AliasChoices("listenPort", "bind"))
    pool: Pool = Pool()
    pools: list[Pool] = []
    named: dict[str, Pool] = {}
    deep: int = Field(1, validation_alias=AliasPath("nested", "deep"))
    first: int = Field(1, validation_alias=AliasPath("items", 0))


@pytest.mark.parametrize(
    ("patch", "after"),
    [
        ({"port": 2}, {"listenPort": 2}),
        ({"listenPort": 2}, {"listenPort": 2}),
        ({"bind": 2}, {"listenPort": 2}),
        ({"pool": {"size": 2}}, {"pool": {"poolSize": 2}}),
        ({"pools": [{"size": 2}, {"poolSize": 3}]}, {"pools": [{"poolSize": 2}, {"poolSize": 3}]}),
        ({"named": {"size": {"size": 2}}}, {"named": {"size": {"poolSize": 2}}}),
        ({"basin": {"size": 2}}, {"basin": {"size": 2}}),  # of which of the two nobody can tell
        ({"basin": {"tankSize": 2, "depth": 3}}, {"basin": {"tankSize": 2, "tankDepth": 3}}),
        ({"deep": 2}, {"nested": {"deep": 2}}),
        ({"nested": {"deep": 2}}, {"nested": {"deep": 2}}),
    ],
)
def test_a_field_may_be_named_as_documents_show_it_and_has_one_place_in_the_overlay(patch, after):
    assert merge_patch(Spelt, {}, patch) == after


def test_a_value_is_taken_back_by_any_name_of_its_field():
    assert merge_patch(Spelt, {"listenPort": 2, "nested": {"deep": 3}}, {"port": None, "deep": None}) == {}


def refusals(model, patch, before=None):
    with pytest.raises(Rejected) as caught:
        merge_patch(model, before or {}, patch)
    return {fault.path: fault.message for fault in caught.value.faults}


@pytest.mark.parametrize(
    ("patch", "path", "reason"),
    [
        ({"port": 1, "bind": 2}, "bind", "twice"),
        ({"nested": 1, "deep": 2}, "deep", "twice"),
        ({"first": 2}, "first", "inside a list"),
        ({"prot": 2}, "prot", "unknown key; did you mean 'port'?"),
        ({"pool": {"sise": 2}}, "pool.sise", "unknown key; did you mean 'size'?"),
        ({"pools": [{"nothing": 2}]}, "pools.0.nothing", "unknown key"),
        ({1: 2}, "1", "must be a string"),
        ({"named": {None: {}}}, "named.None", "must be a string"),
    ],
)
def test_what_has_no_place_in_the_overlay_is_refused(patch, path, reason):
    assert reason in refusals(Spelt, patch)[path]


def test_an_unknown_key_that_somebody_wrote_by_hand_can_be_taken_back():
    assert merge_patch(Spelt, {"prot": 2}, {"prot": None}) == {}
    assert merge_patch(Safe, {"nmae": "n", "account": {"pasword": CANARY}}, {"nmae": None, "account": None}) == {}


def test_nesting_without_end_is_refused():
    patch = {}
    for _ in range(100_000):
        patch = {"a": patch}
    try:
        assert refusals(Anything, patch) == {"": "nested too deeply"}
    finally:
        while patch:  # or its deallocation would recurse as deep
            patch = patch.pop("a")


# Secrets


class Account(Section):
    user: str = ""
    password: SecretStr = SecretStr("")


class Safe(Section):
    name: str = ""
    token: Annotated[str, Sensitive()] = ""
    account: Account = Account()
    accounts: list[Account] = []
    by_name: dict[str, Account] = {}
    chosen: dict[str, SecretStr] = {}
    key: SecretStr = Field(SecretStr(""), validation_alias=AliasPath("keys", "main"))
    login: Account | str = ""


CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"token": CANARY}, "token"),
        ({"token": {"inner": CANARY}}, "token"),
        ({"token": [CANARY]}, "token"),
        ({"account": {"password": CANARY}}, "account.password"),
        ({"account": f'{{"password": "{CANARY}"}}'}, "account"),
        ({"accounts": [{"user": "u"}, {"password": CANARY}]}, "accounts.1.password"),
        ({"by_name": {"a": {"password": CANARY}}}, "by_name.a.password"),
        ({"chosen": {"a": CANARY}}, "chosen.a"),
        ({"key": CANARY}, "key"),
        ({"keys": {"main": CANARY}}, "keys"),
        ({"login": CANARY}, "login"),
        ({"account": {"pasword": CANARY}}, "account.pasword"),
        ({"token": None}, "token"),
        ({"account": {"password": None}}, "account.password"),
    ],
)
def test_I11_a_secret_is_neither_set_nor_taken_back_and_never_quoted(patch, path):
    found = refusals(Safe, patch)
    assert set(found) == {path}
    assert ("unknown key" if "pasword" in path else "secret") in found[path]
    assert CANARY not in str(found)


def test_what_lies_beside_a_secret_may_be_patched():
    patch = {"name": "n", "account": {"user": "u"}, "accounts": [{"user": "v"}], "by_name": {"a": {"user": "w"}}}
    assert merge_patch(Safe, {}, patch) == patch
    assert merge_patch(Safe, patch, {"account": None, "by_name": {"a": None}}) == {
        "name": "n",
        "accounts": [{"user": "v"}],
    }


def test_I11_a_secret_that_somebody_wrote_into_the_overlay_by_hand_is_not_written_again():
    found = refusals(Safe, {"name": "n"}, before={"account": {"password": CANARY}})
    assert "move it" in found["account.password"]
    assert CANARY not in str(found)


def test_every_reason_is_given_at_once():
    assert set(refusals(Safe, {"token": "t", "nmae": 1, "account": {"password": "p"}})) == {
        "token",
        "nmae",
        "account.password",
    }


def test_the_error_is_the_lines_of_its_faults():
    with pytest.raises(Rejected) as caught:
        merge_patch(Safe, {}, {"token": "t", "nmae": 1})
    assert str(caught.value) == "\n".join(str(fault) for fault in caught.value.faults)


def test_a_patch_of_many_unknown_keys_is_refused_without_comparing_them_all(monkeypatch):
    compared = []
    monkeypatch.setattr("difflib.get_close_matches", lambda _, known, n: compared.extend(known) or [])
    many = create_model("Many", **{f"field_number_{index}": (int, 0) for index in range(100)})
    assert len(refusals(many, {f"field_numbr_{index}": 1 for index in range(1000)})) == 1000
    assert 0 < len(compared) <= 1000
