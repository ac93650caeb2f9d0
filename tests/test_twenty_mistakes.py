"""One file with twenty different mistakes: one report with twenty faults, each at its own line and column."""

from datetime import date
from typing import Annotated, Literal

import pytest
from pydantic import AnyUrl, Field, StringConstraints, field_validator, model_validator

from hotconf import ConfigError, HotConf, Section
from hotconf.values.report import jsonable
from tests.heart import QUIET


class Replica(Section):
    host: str
    port: int = 5432


class Database(Section):
    url: str
    pool_size: Annotated[int, Field(gt=0)] = 10
    replicas: list[Replica] = []


class Window(Section):
    start: int
    end: int

    @model_validator(mode="after")
    def is_in_order(self):
        if self.start >= self.end:
            raise ValueError("start must come before end")
        return self


class Memory(Section):
    kind: Literal["memory"]


class Disk(Section):
    kind: Literal["disk"]
    path: str


class Shop(Section):
    message: str = "hello"
    port: Annotated[int, Field(le=65535)] = 8080
    debug: bool = False
    level: Literal["info", "warning"] = "info"
    opened: date = date(2000, 1, 1)
    ratio: float = 0.5
    tags: list[str] = []
    code: Annotated[str, StringConstraints(pattern="^[A-Z]+$")] = "A"
    timeout: float = 1.0
    max_retries: int = Field(3, alias="maxRetries")
    endpoint: AnyUrl = AnyUrl("http://localhost")
    matrix: list[list[int]] = []
    pair: tuple[int, int] = (1, 2)
    database: Database
    limits: dict[str, int] = {}
    cache: Annotated[Memory | Disk, Field(discriminator="kind")] = Memory(kind="memory")
    window: Window = Window(start=1, end=2)

    @field_validator("timeout")
    @classmethod
    def is_short(cls, seconds):
        if seconds > 60:
            raise ValueError("a minute is the longest timeout")
        return seconds


MISTAKES = [
    ("message", "input should be a valid string"),
    ("port", "input should be less than or equal to 65535"),
    ("debug", "input should be a valid boolean, unable to interpret input"),
    ("level", "input should be 'info' or 'warning'"),
    ("opened", "input should be a valid date or datetime, input is too short"),
    ("ratio", "input should be a valid number, unable to parse string as a number"),
    ("mesage", "unknown key; did you mean 'message'?"),
    ("tags.1", "input should be a valid string"),
    ("code", "string should match pattern '^[A-Z]+$'"),
    ("timeout", "a minute is the longest timeout"),
    ("max_retries", "input should be a valid integer, got a number with a fractional part"),
    ("endpoint", "input should be a valid URL, relative URL without a base"),
    ("matrix.1.0", "input should be a valid integer, unable to parse string as an integer"),
    ("database.url", "field required: no source sets it"),
    ("database.pool_size", "input should be greater than 0"),
    ("database.replicas.1.port", "input should be a valid integer, unable to parse string as an integer"),
    ("database.replicas.1.hots", "unknown key; did you mean 'host'?"),
    ("limits./buy", "input should be a valid integer, unable to parse string as an integer"),
    ("cache", "input tag 'tape' found using 'kind' does not match any of the expected tags: 'memory', 'disk'"),
    ("window", "start must come before end"),
]
"""In the order of the texts. There, each stands where the mark is."""

TEXTS = {
    "toml": """\
# ä: a column counts characters
^message = 5
^port = 99999
  ^debug = "maybe"
^level = "loud"
^opened = "soon"
^ratio = "half"
^mesage = "typed in a hurry"
tags = ["a", ^7]
^code = "lower"
^timeout = 61
^maxRetries = 1.5
^endpoint = "nowhere"
matrix = [[1, 2], [^"one", 2]]

[^database]
^pool_size = -1
[[database.replicas]]
host = "a"
[[database.replicas]]
host = "ü"
^port = "many"
^"hots" = "b"

[limits]
"/search" = 1
^"/buy" = "none"

[^cache]
kind = "tape"

[window]
^start = 2
end = 1
""",
    "yaml": """\
# ä: a column counts characters
^message: 5
^port: 99999
^debug: maybe
^level: loud
^opened: soon
^ratio: half
^mesage: typed in a hurry
tags: [a, ^7]
^code: lower
^timeout: 61
^maxRetries: 1.5
^endpoint: nowhere
matrix:
  - [1, 2]
  - - ^one
    - 2
^database:
  ^pool_size: -1
  replicas:
    - host: a
    - host: ü
      ^port: many
      ^"hots": b
limits:
  /search: 1
  ^/buy: none
^cache: {kind: tape}
window:
  ^start: 2
  end: 1
""",
    "json": """\
{
  ^"message": 5,
  ^"port": 99999,
  ^"debug": "maybe",
  ^"level": "loud",
  ^"opened": "soon",
  ^"ratio": "half",
  ^"mesage": "typed in a hurry",
  "tags": ["a", ^7],
  ^"code": "lower",
  ^"timeout": 61,
  ^"maxRetries": 1.5,
  ^"endpoint": "nowhere",
  "matrix": [[1, 2], [^"one", 2]],
  ^"database": {
    ^"pool_size": -1,
    "replicas": [
      {"host": "a"},
      {"host": "ü", ^"port": "many", ^"hots": "b"}
    ]
  },
  "limits": {"/search": 1, ^"/buy": "none"},
  ^"cache": {"kind": "tape"},
  "window": {^"start": 2, "end": 1}
}
""",
}


def marked(text):
    """The text without its marks, and the line and column of each mark."""
    places = []
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split("^")
        places += [(number, sum(map(len, parts[:count])) + 1) for count in range(1, len(parts))]
    return text.replace("^", ""), places


@pytest.mark.parametrize("text_format", TEXTS)
def test_twenty_mistakes_are_twenty_faults_at_the_right_places(tmp_path, text_format):
    text, places = marked(TEXTS[text_format])
    path = tmp_path / f"shop.{text_format}"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        HotConf(Shop, files=[path], options=QUIET).load()
    assert len(MISTAKES) == len(places) == 20
    expected = [
        f"{path}:{line}:{column}: {dotted}: {message}"
        for (line, column), (dotted, message) in zip(places, MISTAKES, strict=True)
    ]
    report = refused.value.report
    assert sorted(map(str, report.faults)) == sorted(expected)
    assert all(line in str(refused.value) for line in expected)
    assert all(line in str(report) for line in expected)
    assert [fault["text"] for fault in jsonable(report)["faults"]] == list(map(str, report.faults))
