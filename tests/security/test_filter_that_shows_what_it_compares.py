"""A filter that masks secrets must not say of a client's words which of them is one."""

from __future__ import annotations

import random
import string
import time
from statistics import median

import pytest
from pydantic import Field, SecretStr, field_validator

from hotconf import Section, Settings
from tests.web.sites import site_of

SECRETS = ("hunter2", "letmein-please", "correct horse", "48219", "a?b/c")
MISSES = ("hunter3", "letmein-pleasf", "correct horsf", "48218", "a?b/d")


class Database(Section):
    password: SecretStr = SecretStr(SECRETS[0])
    url: SecretStr = SecretStr("postgres://admin:p%40ss-word@db/app")
    pool_size: int = Field(3, le=50)


class App(Settings):
    message: str = "m"
    tokens: list[SecretStr] = Field([SecretStr(text) for text in SECRETS[1:]], exclude=True)
    db: Database = Database()
    limits: dict[str, int] = {}
    names: list[int] = []

    @field_validator("message")
    @classmethod
    def whole(cls, value: str) -> str:
        if value.startswith("bad"):
            raise ValueError(f"{value!r} is not allowed, nor {value[4:].upper()}")
        return value

    @field_validator("names", mode="before")
    @classmethod
    def parts(cls, value: list[object]) -> list[object]:
        for item in value:
            if isinstance(item, str) and not item.isdecimal():
                raise ValueError(f"no number: {item.split('=')[-1]}")
        return value


SHAPES = {
    "a key of a mapping": lambda word: {"limits": {word: "x"}},
    "within a key": lambda word: {"limits": {f"x{word}y": "x"}},
    "an unknown key": lambda word: {word: 1},
    "an unknown key of a section": lambda word: {"db": {word: 1}},
    "quoted by a validator": lambda word: {"message": f"bad {word}"},
    "quoted in part": lambda word: {"names": [f"of={word}"]},
    "within a word": lambda word: {"message": f"bad x{word}y"},
    "a value of another type": lambda word: {"db": {"pool_size": f"{word}!"}},
    "two at once": lambda word: {"message": f"bad {word} and {word}", "limits": {word: "x"}},
}


async def answer_to(site, patch, *, dry_run=True):
    path = "/config?dry_run=1" if dry_run else "/config"
    return await site.ask(path, method="PATCH", json=patch, headers={"If-Match": "*"})


@pytest.fixture
async def site(tmp_path):
    async with site_of(App, {}, overlay=tmp_path / "overlay.toml") as site:
        yield site


def without(reply, word):
    """The faults, with every form in which a client may know its own word replaced."""
    texts = [(fault["path"], fault["message"]) for fault in reply.json["faults"]]
    return reply.status, str(texts).replace(word, "WORD").replace(word.upper(), "WORD")


@pytest.mark.parametrize("dry_run", [True, False], ids=["dry run", "patch"])
async def test_a_patch_tells_nothing_about_secrets(site, dry_run):
    for shape in SHAPES.values():
        for secret, miss in zip(SECRETS, MISSES, strict=True):
            hit, other = [await answer_to(site, shape(word), dry_run=dry_run) for word in (secret, miss)]
            assert hit.status == 422
            assert without(hit, secret) == without(other, miss)


async def test_a_thousand_words_by_text_status_and_time(tmp_path):
    async with site_of(App, {}, overlay=tmp_path / "overlay.toml") as site:
        random.seed(4)
        words = ["".join(random.choices(string.ascii_lowercase, k=7)) for _ in range(998)]
        words[300:300] = ["hunter2", "hunter2"]
        # Many at once, as one would search a dictionary, and each quoted by a validator.
        reply = await answer_to(site, {"limits": dict.fromkeys(words, "x"), "message": f"bad {' '.join(words)}"})
        assert "hunter2" not in str([f["message"] for f in reply.json["faults"]])
        assert all(fault["path"].partition(".")[2] in (*words, "") for fault in reply.json["faults"])
        taken = {word: [] for word in ("hunter2", "hunter3")}
        for _ in range(20):
            for word, times in taken.items():
                began = time.perf_counter()
                await answer_to(site, {"limits": {word: "x"}})
                times.append(time.perf_counter() - began)
        hit, miss = (median(times) for times in taken.values())
        assert hit < 3 * miss
        assert miss < 3 * hit


async def test_a_secret_that_a_validator_quotes_by_itself_is_masked_as_ever(tmp_path):
    class Telling(App):
        @field_validator("message")
        @classmethod
        def tells(cls, value: str) -> str:
            if value != "m":
                raise ValueError(f"{value} is near to hunter2, letmein-please")
            return value

    async with site_of(Telling, {}, overlay=tmp_path / "overlay.toml") as site:
        for word in ("please", "hunter2", "other"):
            reply = await answer_to(site, {"message": word})
            assert reply.json["faults"][0]["message"] == "********** is near to **********"


async def test_a_message_of_pydantic_itself_is_whole(tmp_path):
    """A password `integer` is no part of it."""

    class Plain(Settings):
        password: SecretStr = SecretStr("integer")
        number: int = 0

    async with site_of(Plain, {}, overlay=tmp_path / "overlay.toml") as site:
        report = await site.change(number="x")
        assert "should be a valid integer" in report.faults[0].message
        reply = await answer_to(site, {"number": "integer"})
        assert "should be a valid integer" in reply.json["faults"][0]["message"]
