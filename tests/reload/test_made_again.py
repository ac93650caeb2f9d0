"""Values without an equality of their own: compared by what they were made from."""

from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from hotconf import HotConf
from hotconf.sources import Memory
from tests.heart import QUIET


class Client:
    """Equal to itself alone."""

    def __init__(self, url):
        self.url = url


class Part(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    client: Any = "db://one"
    clients: list[Any] = []
    size: int = 1

    @field_validator("client", "clients", mode="after")
    @classmethod
    def connected(cls, value):
        return [Client(url) for url in value] if isinstance(value, list) else Client(value)


class App(BaseModel):
    message: str = "hello"
    part: Part = Part()


class Mixed(App):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    client: Any = None

    @model_validator(mode="after")
    def made_from_another_field(self):
        object.__setattr__(self, "client", Client(self.message))
        return self


VALUES = {"part": {"client": "db://one", "clients": ["a", "b"]}}


def conf_of(model):
    memory = Memory(VALUES)
    conf = HotConf(model, sources=[memory], options=QUIET)
    built = []

    @conf.resource("part")
    @contextmanager
    def pool(candidate):
        built.append(candidate.settings.part.client.url)
        yield built[-1]

    return conf, memory, built


@pytest.mark.parametrize("model", [App, Mixed])
async def test_an_untouched_source_is_unchanged_and_builds_nothing_again(model):
    conf, memory, built = conf_of(model)
    async with conf.running(signals=()):
        before = conf.current
        for _ in range(3):
            memory.set(VALUES)
            assert (await conf.reload()).outcome == "unchanged"
        assert conf.current is before
    assert built == ["db://one"]


async def test_what_another_input_makes_is_another_value():
    conf, memory, built = conf_of(App)
    async with conf.running(signals=()):
        before = conf.current.part
        memory.set({"part": {**VALUES["part"], "client": "db://two"}})
        report = await conf.reload()
        assert (report.outcome, conf.current.part.client.url) == ("applied", "db://two")
        assert "part.client" in report.changed
        assert conf.current.part is not before
    assert built == ["db://one", "db://two"]


async def test_a_change_elsewhere_is_no_change_of_it():
    conf, memory, built = conf_of(App)
    async with conf.running(signals=()):
        client = conf.current.part.client
        memory.set({**VALUES, "message": "new"})
        assert (await conf.reload()).changed == ("message",)
        assert conf.current.part.client is client
    assert built == ["db://one"]


async def test_where_a_validator_may_mix_fields_any_change_of_the_input_counts():
    conf, memory, _ = conf_of(Mixed)
    async with conf.running(signals=()):
        memory.set({**VALUES, "message": "new"})
        report = await conf.reload()
        assert (conf.current.client.url, "client" in report.changed) == ("new", True)
