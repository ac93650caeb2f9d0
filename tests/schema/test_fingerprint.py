"""Fingerprints: equal in every process, and different where the same values would mean something else."""

import subprocess
import sys
from enum import Enum
from typing import Annotated, Literal, Optional, Union

import pytest
from annotated_types import Gt
from pydantic import AfterValidator, AliasChoices, AliasPath, Field, SecretStr, create_model

from hotconf import Section, Sensitive
from hotconf.schema.fingerprint import fingerprint
from tests.support import ROOT, environment


def made(annotation, default=..., name="field", **others):
    return create_model("App", __base__=Section, **{name: (annotation, default)}, **others)


class Inner(Section):
    size: int = 1


class Twin(Section):
    size: str = "1"


class Colour(Enum):
    RED = 1


SAME = [
    (made(int), made(int, 5)),
    (made(int), made(Annotated[int, Gt(3)])),
    (made(Optional[int]), made(int | None)),  # noqa: UP045 - as others write it
    (made(Union[int, str]), made(str | int)),  # noqa: UP007
    (made(list[int]), made(list[Annotated[int, Gt(3)]])),
    (made(int, Field(1, description="one")), made(int, Field(2, title="two"))),
    (made(Annotated[str, AfterValidator(str.strip)]), made(Annotated[str, AfterValidator(lambda text: text)])),
]
DIFFERENT = [
    made(int),
    made(str),
    made(int, name="other"),
    made(int | None),
    made(list[int]),
    made(list[str]),
    made(dict[str, int]),
    made(int, Field(alias="alias")),
    made(int, Field(validation_alias=AliasChoices("alias", "field"))),
    made(int, Field(validation_alias=AliasPath("alias", 0))),
    made(SecretStr),
    made(Annotated[str, Sensitive()]),
    made(list[Annotated[str, Sensitive()]]),
    made(Literal["a"]),
    made(Literal["a", "b"]),
    made(Literal[1]),
    made(Colour),
    made(Inner),
    made(Twin),
    made(list[Inner]),
    made(int, more=(int, 1)),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_takes_the_same_values_has_the_same(one, other):
    assert fingerprint(one) == fingerprint(other)


def test_what_takes_others_has_another():
    assert len({fingerprint(model) for model in DIFFERENT}) == len(DIFFERENT)


def test_a_change_far_below_is_a_change():
    def nested(inner):
        return made(dict[str, list[made(inner, name="deep")]])

    assert fingerprint(nested(int)) != fingerprint(nested(str))


def test_a_class_that_contains_itself_has_one():
    class Node(Section):
        children: list["Node"] = []

    assert len(fingerprint(Node)) == 32


SCRIPT = """
import typing, enum
from pydantic import AfterValidator
from hotconf import Section
from hotconf.schema.fingerprint import fingerprint

class Colour(enum.Enum):
    RED = 1
    BLUE = 2

class Inner(Section):
    tags: frozenset[typing.Literal["a", "b"]] = frozenset()

class App(Section):
    one: typing.Annotated[str, frozenset({"a", "b", "c"}), AfterValidator(lambda text: text)] = ""
    two: list[typing.Annotated[str, frozenset({"a", "b", "c"}), object()]] = []
    three: dict[Colour, Inner | None] = {}
    four: typing.Callable[[int], str] | None = None

print(fingerprint(App))
"""


def test_it_is_the_same_in_every_process():
    seen = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=environment(PYTHONHASHSEED=seed),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1
