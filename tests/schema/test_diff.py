"""Comparison: what counts as changed, what is shared, and that nothing is written to but the candidate."""

from __future__ import annotations

import array
import copy
import dataclasses
import datetime as dt
import itertools
import uuid
from collections import OrderedDict, deque
from decimal import Decimal
from enum import Enum, IntEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    RootModel,
    Secret,
    SecretStr,
    computed_field,
    create_model,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict

from hotconf.reload.validate import validate
from hotconf.schema.diff import compare, differences
from hotconf.schema.settings import Section, Sensitive
from hotconf.values import keypath
from hotconf.values.layer import Layer
from hotconf.values.merge import merge
from tests.trees import keys, scalars, tables, trees


class Anything(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    value: Any


def changed(old, new):
    return [keypath.render(path) for path in compare(Anything(value=old), Anything(value=new))]


class Colour(Enum):
    RED = 1
    BLUE = 2


class Level(IntEnum):
    LOW = 1


class Text(str):
    __slots__ = ()


class Raising:
    def __eq__(self, other):
        raise RuntimeError("no")

    __hash__ = None


class Array:
    """An array as numpy has it: its == is an array, which has no truth."""

    def __init__(self, *items):
        self.items = items
        self.shape = (len(items),)

    def __eq__(self, other):
        verdicts = [a == b for a, b in itertools.zip_longest(self.items, other.items, fillvalue=self.items[0])]
        return ArrayOfVerdicts(verdicts)

    __hash__ = None


class ArrayOfVerdicts:
    def __init__(self, verdicts):
        self.verdicts = verdicts
        self.shape = (len(verdicts),)

    def __bool__(self):
        raise ValueError("the truth value of an array is ambiguous")

    def all(self):
        return all(self.verdicts)


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    size: Any = 1
    inner: Any = None
    seen: Any = dataclasses.field(default=0, compare=False)


NAN = float("nan")
NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
EARLY_AFTERNOON = NOON.astimezone(dt.timezone(dt.timedelta(hours=2)))

EQUAL = [
    (1, 1),
    (10**60, 10**60),
    ([1, "a", None, True, 2.5], [1, "a", None, True, 2.5]),
    ([10**40, "\ud800"], [10**40, "\ud800"]),
    (NAN, float("nan")),
    (Decimal("NaN"), Decimal("NaN")),
    (Decimal("sNaN"), Decimal("sNaN")),
    (complex(NAN, 0), complex(NAN, 0)),
    ([NAN, {"a": NAN}], [float("nan"), {"a": float("nan")}]),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({1: "x"}, {1: "x"}),
    ({1, 2}, {2, 1}),
    (frozenset({(1, "a")}), frozenset({(1, "a")})),
    ({NAN, 1}, {1, float("nan")}),
    (frozenset({(NAN, 1), (1, NAN)}), frozenset({(1, float("nan")), (float("nan"), 1)})),
    ({NAN, float("nan")}, {float("nan"), float("nan")}),
    (deque([1]), deque([1])),
    (NOON, NOON.replace()),
    (Path("/a"), Path("/a")),
    (Colour.RED, Colour.RED),
    (b"x", b"x"),
    (SecretStr("x"), SecretStr("x")),
    (Array(1, 2), Array(1, 2)),
    (Record(1), Record(1)),
    (Record(1, seen=1), Record(1, seen=2)),
    (Pair(1, 2), Pair(1, 2)),
    ({"self": 1, "model_config": 2, "__init__": 3}, {"self": 1, "model_config": 2, "__init__": 3}),
]

DIFFERENT = [
    (1, True, "value"),
    (1, 1.0, "value"),
    (0, False, "value"),
    (0.0, -0.0, "value"),
    ([0.0], [-0.0], "value.0"),
    ({"a": 1}, {"a": True}, "value.a"),
    ([1, 2], [1, 2.0], "value.1"),
    (Decimal("1.0"), Decimal("1.00"), "value"),
    (NOON, EARLY_AFTERNOON, "value"),
    (NOON, NOON.replace(tzinfo=None), "value"),
    (10**60, 10**60 + 1, "value"),
    ({1}, {True}, "value"),
    ({(1, 2)}, {(True, 2)}, "value"),
    ({0.0}, {-0.0}, "value"),
    ({NAN}, {1.0}, "value"),
    ({NAN, 1}, {float("nan"), True}, "value"),
    ({NAN, float("nan")}, {float("nan"), 1.0}, "value"),
    ({NAN, 1.0}, {float("nan")}, "value"),
    ({Decimal("1.0")}, {Decimal("1.00")}, "value"),
    ({1: "x"}, {True: "x"}, "value.true"),
    ({"a.b": 1}, {"a.b": 2}, 'value."a.b"'),
    ({"__init__": 1}, {"__init__": 2}, "value.__init__"),
    ("1", 1, "value"),
    (b"x", "x", "value"),
    ([1], [1, 2], "value.1"),
    ({"a": 1, "b": 2}, {"a": 1, "c": 2}, ["value.c", "value.b"]),
    ([b"a"], [bytearray(b"a")], "value.0"),
    ([array.array("b", b"a")], [bytearray(b"a")], "value.0"),
    ([Level.LOW], [1], "value.0"),
    ([1], [Level.LOW], "value.0"),
    ([Text("a")], ["a"], "value.0"),
    ((1,), [1], "value"),
    ({}, [], "value"),
    (None, {}, "value"),
    (SecretStr("x"), SecretStr("y"), "value"),
    (Secret(1), Secret(True), "value"),
    (Colour.RED, Colour.BLUE, "value"),
    (Array(1, 2), Array(1, 3), "value"),
    (Array(1), Array(1, 1), "value"),
    (Raising(), Raising(), "value"),
    (Record(1), Record(True), "value.size"),
    (Record(1, {"a": [1]}), Record(1, {"a": [2]}), "value.inner.a.0"),
    (Pair(1, 2), Pair(1, 3), "value.1"),
    (deque([1]), deque([2]), "value"),
]


@pytest.mark.parametrize(("old", "new"), EQUAL)
def test_I6_equal_values_are_no_change(old, new):
    assert changed(old, new) == []


@pytest.mark.parametrize(("old", "new", "path"), DIFFERENT)
def test_I6_values_that_differ_in_type_or_form_are_a_change(old, new, path):
    assert changed(old, new) == ([path] if isinstance(path, str) else path)


def test_keys_of_any_type_have_a_path_that_subscribers_can_name():
    assert changed({1: "x", Colour.RED: 1}, {1: "y"}) == ["value.1", "value.1"]
    assert compare(Anything(value={8080: "x"}), Anything(value={8080: "y"})) == (("value", "8080"),)


@given(tables)
def test_I6_a_tree_equals_its_copy(tree):
    old, new = Anything(value=tree), Anything(value=copy.deepcopy(tree))
    assert compare(old, new) == ()
    assert differences(old, new) == ()


class Node(Section):
    number: int = 0
    text: str = ""
    ratio: float = 0.0
    tags: tuple[str, ...] = ()
    extra: dict[str, Any] = {}
    children: list[Node] = []
    named: dict[str, Node] = {}


def nodes(depth=2):
    own = {
        "number": st.integers(),
        "text": st.text(max_size=3),
        "ratio": st.floats(),
        "tags": st.lists(st.text(max_size=2), max_size=3),
        "extra": st.dictionaries(keys, trees, max_size=2),
    }
    if depth:
        own["children"] = st.lists(nodes(depth - 1), max_size=2)
        own["named"] = st.dictionaries(keys, nodes(depth - 1), max_size=2)
    return st.fixed_dictionaries({}, optional=own)


def leaf_paths(value, path=()):
    """Every place below a node that can be changed by itself, with how to get there."""
    for name in ("number", "text"):
        yield (*path, name)
    for index in range(len(value["tags"])):
        yield (*path, "tags", index)
    for index, child in enumerate(value["children"]):
        yield from leaf_paths(child, (*path, "children", index))
    for key, child in value["named"].items():
        yield from leaf_paths(child, (*path, "named", key))


def put(tree, path):
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = tree[path[-1]] + (1 if path[-1] == "number" else "!")


@given(nodes(), st.data())
def test_changing_some_leaves_reports_exactly_those(values, data):
    listed = as_lists(Node.model_validate(values).model_dump())
    chosen = data.draw(st.sets(st.sampled_from(list(leaf_paths(listed)))))
    other = copy.deepcopy(listed)
    for path in chosen:
        put(other, path)
    old, new = Node.model_validate(listed), Node.model_validate(other)
    before, after = old.model_dump(), new.model_dump()
    assert sorted(map(str, compare(old, new))) == sorted(map(str, chosen))
    assert repr(old.model_dump()) == repr(before)
    assert repr(new.model_dump()) == repr(after)


def as_lists(value):
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}
    return [as_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


@given(nodes(), st.data())
def test_I12_what_is_not_above_a_change_is_the_same_object(values, data):
    listed = as_lists(Node.model_validate(values).model_dump())
    path = data.draw(st.sampled_from(list(leaf_paths(listed))))
    other = copy.deepcopy(listed)
    put(other, path)
    old, new = Node.model_validate(listed), Node.model_validate(other)
    compare(old, new)
    for length in range(len(path)):
        before, after = at(old, path[:length]), at(new, path[:length])
        assert before is not after
        for key in set(below(before)) & set(below(after)) - {path[length]}:
            assert at(old, (*path[:length], key)) is at(new, (*path[:length], key))


def at(value, path):
    for key in path:
        value = getattr(value, key) if isinstance(value, BaseModel) else value[key]
    return value


def below(value):
    if isinstance(value, BaseModel):
        return type(value).model_fields
    return value if isinstance(value, dict) else range(len(value))


class Database(Section):
    url: str = "x"
    options: dict[str, Any] = {}


class App(Section):
    message: str = ""
    database: Database = Database()
    spare: Database | None = None
    pair: tuple[Database, Database] | None = None
    record: Record | None = None


def test_I12_an_unchanged_section_is_the_same_object():
    old = App(database=Database(url="y"), pair=(Database(), Database(url="z")))
    new = App(message="new", database=Database(url="y"), pair=(Database(url="!"), Database(url="z")))
    assert compare(old, new) == (("message",), ("pair", 0, "url"))
    assert new.database is old.database
    assert new.pair[1] is old.pair[1]
    assert type(new.pair) is tuple


def test_I12_an_unchanged_part_of_a_dataclass_is_the_same_object():
    old, new = App(record=Record(1, {"a": 1})), App(record=Record(2, {"a": 1}))
    assert compare(old, new) == (("record", "size"),)
    assert new.record == Record(2, {"a": 1})
    assert new.record.inner is old.record.inner


def test_an_absent_section_and_one_of_another_class_change_as_a_whole():
    assert compare(App(), App(spare=Database())) == (("spare",),)
    assert compare(App(spare=Database()), App()) == (("spare",),)
    assert differences([Database()], [Record()]) == ((0,),)
    assert compare(App(), Anything(value=1)) == ((),)


class Own(Section):
    """What a class derives from its fields must stay with them."""

    inner: Database = Database()
    name: str = ""
    _derived: str = PrivateAttr("")

    def model_post_init(self, _context):
        self._derived = f"{self.name}!"

    @computed_field
    @cached_property
    def shout(self) -> str:
        return self.name.upper()


class Cached(Section):
    inner: Database = Database()

    @cached_property
    def url(self):
        return self.inner.url


class Holder(Section):
    own: Own = Own()
    cached: Cached = Cached()
    number: int = 0


def test_I12_sharing_begins_below_a_model_with_state_of_its_own():
    old, new = (Holder(own={"inner": {"url": "y"}}, cached={"inner": {"url": "y"}}, number=n) for n in (1, 2))
    assert compare(old, new) == (("number",),)
    assert new.own is not old.own
    assert new.cached is not old.cached
    assert new.own.inner is old.own.inner
    assert new.cached.inner is old.cached.inner


def test_private_attributes_and_cached_properties_stay_with_the_values_they_were_made_of():
    old, new = Holder(own={"name": "a"}), Holder(own={"name": "b"})
    assert old.own.shout == "A"
    assert compare(old, new) == (("own", "name"),)
    assert (new.own._derived, new.own.shout) == ("b!", "B")


def test_private_attributes_are_left_out_of_equality():
    old, new = Own(name="a"), Own(name="a")
    new._derived = "something else"
    assert compare(old, new) == ()


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    known: int = 0


def test_extra_keys_are_compared_and_shared_like_fields():
    old = Open.model_validate({"self": {"x": 1}, "model_config": 1, "a.b": 1, "gone": 1})
    new = Open.model_validate({"self": {"x": 1}, "model_config": 2, "a.b": 1, "come": 1})
    assert set(compare(old, new)) == {("model_config",), ("gone",), ("come",)}
    assert new.__pydantic_extra__["self"] is old.__pydantic_extra__["self"]
    assert compare(Open(known=1, x=1), Open(known=1, x=1)) == ()


class Rooted(BaseModel):
    labels: RootModel[dict[str, int]]


def test_a_root_model_has_no_key_of_its_own():
    assert compare(Rooted(labels={"a": 1, "b": 1}), Rooted(labels={"a": 1, "b": 2})) == (("labels", "b"),)


class Hidden(BaseModel):
    tokens: Annotated[dict[str, str], Sensitive()] = {}
    plain: dict[str, SecretStr] = {}


def test_I11_keys_of_a_secret_are_in_no_path():
    assert compare(Hidden(tokens={"alice": "1"}), Hidden(tokens={"bob": "1"})) == (("tokens",),)
    assert compare(Hidden(plain={"a": "1"}), Hidden(plain={"a": "2"})) == (("plain", "a"),)


PRESET = App(message="preset", database=Database(url="preset", options={"a": {"b": 1}}), spare=Database(url="s"))


class Choosing(Section):
    app: App = PRESET
    other: int = 0

    @field_validator("app", mode="before")
    @classmethod
    def choose(cls, value):
        return PRESET if value == "preset" else value


@pytest.mark.parametrize("values", [{}, {"app": "preset"}, {"app": PRESET}])
def test_a_constant_of_the_program_is_never_written_to(values):
    parts = (PRESET.database, PRESET.database.options, PRESET.database.options["a"], PRESET.spare)
    old = Choosing(
        app={"message": "old", "database": {"url": "old", "options": {"a": {"b": 1}}}, "spare": {"url": "s"}}
    )
    new = Choosing(**values)
    assert compare(old, new) == (("app", "message"), ("app", "database", "url"))
    now = (PRESET.database, PRESET.database.options, PRESET.database.options["a"], PRESET.spare)
    assert all(part is before for part, before in zip(now, parts, strict=True))
    assert (new.app.message, new.app.database.url) == ("preset", "preset")
    assert new.app.spare is old.app.spare
    assert new.app.database.options is old.app.database.options


def test_differences_changes_neither_side():
    old, new = App(database=Database(url="y"), message="a"), App(database=Database(url="y"), message="b")
    section = new.database
    assert differences(old, new) == (("message",),)
    assert new.database is section


class Factory(BaseModel):
    prefix: str = "p"
    identity: str = Field(default_factory=lambda: uuid.uuid4().hex)
    name: str = Field(default_factory=lambda data: f"{data['prefix']}-{uuid.uuid4().hex}")
    late: int = 0


def test_I6_the_value_of_a_default_factory_is_kept_while_nothing_sets_it():
    old = Factory()
    assert compare(old, Factory()) == ()
    new = Factory(late=1)
    assert compare(old, new) == (("late",),)
    assert (new.identity, new.name) == (old.identity, old.name)


def test_a_default_that_is_made_from_other_fields_is_made_again_when_they_change():
    old, new = Factory(prefix="p"), Factory(prefix="q")
    assert compare(old, new) == (("prefix",), ("name",))
    assert new.name.startswith("q-")
    assert new.identity == old.identity


def test_a_value_that_a_source_sets_or_no_longer_sets_is_a_change():
    assert ("identity",) in compare(Factory(), Factory(identity="x"))
    assert ("identity",) in compare(Factory(identity="x"), Factory())


class Typed(TypedDict):
    a: int


class Records(BaseModel):
    typed: Typed = {"a": 1}
    ordered: OrderedDict[str, int] = OrderedDict()


def test_typed_and_ordered_dictionaries_are_compared_by_key():
    old, new = Records(typed={"a": 1}, ordered={"x": 1, "y": 1}), Records(typed={"a": 2}, ordered={"x": 1, "y": 2})
    assert compare(old, new) == (("typed", "a"), ("ordered", "y"))
    assert type(new.ordered) is OrderedDict


def test_a_model_that_lacks_a_field_differs_there():
    assert compare(Database.model_construct(url="x"), Database(url="x")) == ()
    bare = Database(url="x")
    del bare.__dict__["options"]
    assert compare(Database(url="x"), bare) == (("options",),)


def test_deprecated_fields_are_compared_without_a_warning():
    deprecated = create_model("Deprecated", old=(int, Field(1, deprecated="use new")))
    assert compare(deprecated(old=1), deprecated(old=2)) == (("old",),)


def test_the_defaults_of_a_class_stay_what_they_are():
    default = App.model_fields["database"].default
    options = default.options
    compare(App(database=Database(url="!", options={"x": [1]})), App())
    assert App.model_fields["database"].default is default
    assert default.options is options


class Wrapped(BaseModel):
    value: Annotated[Any, PlainValidator(lambda value: value)]

    @model_validator(mode="after")
    def keep(self):
        return self


def test_a_foreign_object_equals_itself():
    thing = Raising()
    assert compare(Wrapped(value=thing), Wrapped(value=thing)) == ()


class Uncopied:
    """What a class may say of its copies is no business of ours."""

    def __copy__(self):
        raise RuntimeError("no copies")

    def __reduce_ex__(self, _protocol):
        raise RuntimeError("no copies")

    def __getstate__(self):
        raise RuntimeError("no copies")


class UncopiedModel(Uncopied, Anything):
    other: Any = None
    _seen: int = PrivateAttr(0)

    __hash__ = None


@dataclasses.dataclass
class UncopiedRecord(Uncopied):
    value: Any
    other: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class UncopiedSlots(Uncopied):
    value: Any
    other: Any = None
    seen: Any = dataclasses.field(default=0, compare=False)


class UncopiedDict(Uncopied, dict):
    pass


@pytest.mark.parametrize("kind", [UncopiedModel, UncopiedRecord, UncopiedSlots])
def test_I12_parts_are_shared_whatever_a_class_says_of_its_copies(kind):
    kept = Database(url="y")
    old, new = kind(value=1, other=kept), kind(value=2, other=Database(url="y"))
    whole = Anything(value=new)
    assert compare(Anything(value=old), whole) == (("value", "value"),)
    assert (type(whole.value), whole.value.value, whole.value.other is kept) == (kind, 2, True)
    assert new.other is not kept


def test_private_attributes_stay_with_a_copied_model():
    old, new = UncopiedModel(value=1, other=Database()), UncopiedModel(value=2, other=Database())
    new._seen = 3
    whole = Anything(value=new)
    compare(Anything(value=old), whole)
    assert whole.value is not new
    assert whole.value._seen == 3


def test_a_mapping_of_a_class_of_its_own_is_not_copied():
    new = UncopiedDict(a=1, b=Database())
    whole = Anything(value=new)
    assert compare(Anything(value=UncopiedDict(a=2, b=Database())), whole) == (("value", "a"),)
    assert whole.value is new


@dataclasses.dataclass
class Dimensions:
    width: int
    base: Any


class Size(Dimensions, Enum):
    SMALL = 1, [1]
    LARGE = 2, [1]


def test_an_enum_that_is_a_dataclass_too_is_never_copied():
    whole = Anything(value=Size.LARGE)
    assert compare(Anything(value=Size.SMALL), whole) == (("value",),)
    assert whole.value is Size.LARGE


flat = st.lists(scalars, max_size=4) | st.dictionaries(keys, scalars, max_size=4)


@given(flat, flat)
def test_I6_sections_of_scalars_are_equal_where_they_are_written_alike(old, new):
    assert not differences(old, copy.deepcopy(old))
    if type(old) is type(new):
        written = [repr(sorted(each.items()) if isinstance(each, dict) else each) for each in (old, new)]
        assert (not differences(old, new)) is (written[0] == written[1])


class Part(BaseModel):
    host: str
    port: int | float | str | bool | None = 1
    ratio: float = 0.5


class Parts(BaseModel):
    parts: dict[str, Part]


parts = st.dictionaries(
    keys, st.fixed_dictionaries({"host": st.text(max_size=2)}, optional={"port": scalars, "ratio": st.floats()})
)


@settings(max_examples=30)  # such trees are large
@given(parts, parts, parts)
def test_models_compare_as_field_by_field(common, old, new):
    before, after = (validate(Parts, merge([Layer("app.toml", {"parts": common | own})])) for own in (old, new))
    expected = set(field_by_field(before.parts, after.parts))
    assert set(compare(before, after)) == expected


def field_by_field(old, new):
    """The long way: the path of every part that came or went, and of every field that is written differently."""
    for name in old.keys() ^ new.keys():
        yield ("parts", name)
    for name, field in itertools.product(old.keys() & new.keys(), Part.model_fields):
        own, item = getattr(old[name], field), getattr(new[name], field)
        if repr(own) != repr(item):
            yield ("parts", name, field)


def test_models_with_different_attributes_are_not_the_same():
    """Only a class's own construction sees to it that two of its models have the same attributes."""
    Two = create_model("Two", a=(int, 1), b=(int, 1))
    one, other = Two.model_construct(), Two.model_construct()
    del one.__dict__["a"], other.__dict__["b"]
    assert set(differences(one, other)) == {("a",), ("b",)}
