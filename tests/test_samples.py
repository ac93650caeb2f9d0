"""Every sample configuration: the valid ones are equal, an invalid one is refused with its faults and their places."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, model_validator

from hotconf import ConfigError, HotConf, Section

SAMPLES = Path(__file__).parents[1] / "sample_configs"


class Server(Section):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    timeout: Annotated[float, Field(strict=True)] = 2.5


class Database(Section):
    url: str
    pool_size: Annotated[int, Field(gt=0)] = 10
    replicas: list[str] = []

    @model_validator(mode="after")
    def a_connection_for_each(self):
        if len(self.replicas) > self.pool_size:
            raise ValueError("pool_size must be at least one for each of replicas")
        return self


class Limits(Section):
    requests: dict[str, int] = {}


class Shop(Section):
    message: str = "Open"
    server: Server = Server()
    database: Database
    limits: Limits = Limits()


FAULTS = {
    "unclosed_array.toml": ["7:1: missing comma between array elements"],
    "duplicate_key.toml": ["2:1: duplicate key"],
    "unknown_key.toml": [
        "1:1: mesage: unknown key; did you mean 'message'?",
        "5:1: database.pol_size: unknown key; did you mean 'pool_size'?",
    ],
    "wrong_type.toml": ["4:1: server.port: ", "5:1: server.timeout: ", "9:21: database.replicas.1: "],
    "missing_field.toml": ["3:2: database.url: field required"],
    "out_of_bounds.toml": ["2:1: server.port: ", "6:1: database.pool_size: "],
    "rule_over_two_fields.toml": ["3:1: database: pool_size must be at least one for each of replicas"],
    "tab.yaml": ["3:1: "],
    "duplicate_key.yaml": ["4:3: duplicate key"],
    "alias_bomb.yaml": [""],
    "python_tag.yaml": ["1:10: "],
    "wrong_type.yaml": ["2:3: server.port: ", "7:7: database.replicas.1: "],
    "trailing_comma.json": ["3:"],
    "duplicate_key.json": ["4:3: duplicate key"],
    "not_a_mapping.json": ["1:1: the top level must be a mapping, not a list"],
    "wrong_type.json": ["2:14: server.port: ", "5:26: database.replicas.1: "],
    "empty.json": ["1:1: "],
}


@pytest.mark.parametrize("name", ["shop.toml", "shop.yaml", "shop.json"])
def test_the_same_shop_in_every_format(name):
    conf = HotConf(Shop, files=[SAMPLES / "valid" / name])
    conf.load()
    assert conf.snapshot.document == {
        "message": "Open all day",
        "server": {"host": "127.0.0.1", "port": 8080, "timeout": 2.5},
        "database": {"url": "postgres://db/shop", "pool_size": 10, "replicas": ["a.db", "b.db"]},
        "limits": {"requests": {"/search": 50, "/buy": 5}},
    }


@pytest.mark.parametrize("path", sorted((SAMPLES / "valid").iterdir()), ids=lambda path: path.name)
def test_every_valid_sample_loads(path):
    assert HotConf(Shop, files=[path]).load().outcome == "applied"


def test_every_invalid_sample_has_its_faults_written_down():
    assert {path.name for path in (SAMPLES / "invalid").iterdir()} == set(FAULTS)


@pytest.mark.parametrize("name", FAULTS)
def test_an_invalid_sample_says_where(name):
    path = SAMPLES / "invalid" / name
    with pytest.raises(ConfigError) as refused:
        HotConf(Shop, files=[path]).load()
    texts = [str(fault) for fault in refused.value.report.faults]
    assert len(texts) == len(FAULTS[name]), texts
    for text, expected in zip(sorted(texts), sorted(FAULTS[name]), strict=True):
        assert text.startswith(f"{path}:{expected}"), text
