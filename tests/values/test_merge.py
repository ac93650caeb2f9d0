"""Merging: who wins, what is shared, and where each value came from."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, strategies as st

from hotconf.values.layer import Layer, Origin
from hotconf.values.merge import ABSENT, leaves, lookup, merge
from tests.trees import env, file, keys, scalars, tables, trees


def over(*values):
    return merge([Layer(str(index), value) for index, value in enumerate(values)]).values


@pytest.mark.parametrize(
    ("below", "above", "result"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}),
        ({"a": {"x": 1}}, {"a": 2}, {"a": 2}),
        ({"a": 2}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"a": [1, 2, 3]}, {"a": [4]}, {"a": [4]}),
        ({"a": {"x": 1}}, {"a": []}, {"a": []}),
        ({"a": {"x": 1}}, {"a": None}, {"a": None}),
        ({"a": {"x": 1}}, {"a": {}}, {"a": {"x": 1}}),
        ({"a": 1}, {}, {"a": 1}),
    ],
)
def test_the_table_of_the_module_holds(below, above, result):
    assert over(below, above) == result


@given(tables, tables)
def test_every_leaf_above_stays_and_no_leaf_is_invented(below, above):
    together = over(below, above)
    for path, value in leaves(above):
        # An empty mapping above has nothing to say about the keys below it.
        assert value == {} or lookup(together, path) is value or not path
    for path, value in leaves(together):
        assert any(lookup(layer, path) is value for layer in (above, below)) or value == {}


def of_one_kind(shape):
    """Trees that agree on what is a mapping: `shape` says so for each key."""
    fields = {
        key: of_one_kind(inner) if isinstance(inner, dict) else scalars | st.lists(scalars, max_size=2)
        for key, inner in shape.items()
    }
    return st.fixed_dictionaries({}, optional=fields)


shapes = st.recursive(st.none(), lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8).map(
    lambda shape: shape or {}
)


@given(shapes.flatmap(lambda shape: st.tuples(*[of_one_kind(shape)] * 3)))
def test_merging_is_associative_where_layers_agree_on_what_is_a_mapping(three):
    first, second, third = three
    together = over(first, second, third)
    for regrouped in (over(over(first, second), third), over(first, over(second, third))):
        assert list(leaves(together)) == list(leaves(regrouped)) or dict_repr(together) == dict_repr(regrouped)


def dict_repr(value):
    return {path: repr(item) for path, item in leaves(value)}


def test_a_scalar_between_two_tables_cuts_off_the_weaker_one():
    together = merge([file({"a": {"x": 1}}, "1"), file({"a": 5}, "2"), file({"a": {"y": 2}}, "3")])
    assert together.values == {"a": {"y": 2}}
    assert together.origin(("a", "x")) is None


@given(st.lists(tables, max_size=3))
def test_no_layer_is_changed(values):
    before = copy.deepcopy(values)
    over(*values)
    assert repr(values) == repr(before)


@given(st.lists(tables, min_size=1, max_size=4))
def test_every_leaf_has_the_origin_of_the_layer_that_supplied_it(values):
    layers = [file(value, f"{index}.toml") for index, value in enumerate(values)]
    together = merge(layers)
    for path, value in leaves(together.values):
        if not path:
            continue
        origin = together.origin(path)
        holder = layers[int(origin.source.removesuffix(".toml"))]
        assert value == {} or lookup(holder.values, path) is value
        stronger = layers[layers.index(holder) + 1 :]
        assert not any(lookup(layer.values, path) is not ABSENT for layer in stronger)


def test_the_strongest_layer_comes_first_and_the_shadowed_follow():
    together = merge([file({"a": {"x": 1, "y": 1}}), env({"a": {"x": "2"}})])
    assert [(layer.source, value) for layer, value in together.suppliers(("a", "x"))] == [
        ("environment", "2"),
        ("app.toml", 1),
    ]
    assert str(together.origin(("a", "x"))) == "env APP_A__X"
    assert str(together.origin(("a", "y"))) == "app.toml:3:1"


def test_a_place_that_a_layer_does_not_know_is_that_of_what_holds_it():
    layer = Layer("app.toml", {"a": {"b": [1]}}, {("a",): Origin("file", "app.toml", 3, 1)})
    assert str(merge([layer]).origin(("a", "b", 0))) == "app.toml:3:1"
    assert str(merge([Layer("memory", {"a": 1})]).origin(("a",))) == "memory"


@given(trees)
def test_leaves_are_found_again_by_their_paths(tree):
    for path, value in leaves(tree):
        assert lookup(tree, path) is value


@pytest.mark.parametrize("path", [("x",), ("a", "b"), ("l", 2), ("l", -1), ("l", "0"), ("s", 0)])
def test_what_is_not_there_is_absent(path):
    assert lookup({"a": 1, "l": [1, 2], "s": "text"}, path) is ABSENT
