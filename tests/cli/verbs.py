"""What the tests of the verbs share: a module with a settings class, and what a verb that ran in this process said."""

from __future__ import annotations

from dataclasses import dataclass

APP = '''
from typing import Annotated

from pydantic import Field, SecretStr

from hotconf import HotConf, RestartRequired, Section, Settings


class Database(Section):
    """Where the data lives."""

    url: str
    pool_size: Annotated[int, Field(ge=1, le=100, description="Connections.")] = 10
    password: SecretStr = SecretStr("canary-default")


class App(Settings):
    """The shop."""

    model_config = {"env_prefix": "SHOP_", "env_nested_delimiter": "__"}

    message: str = "hello"
    port: Annotated[int, RestartRequired()] = 8080
    database: Database


conf = HotConf(App, files=["app.toml"])


def function(): ...
'''

GOOD = 'message = "hi"\n\n[database]\nurl = "postgres://db"\npassword = "canary-in-file"\n'
BAD = 'message = 5\n\n[database]\nurl = "postgres://db"\npool_sise = 4\npassword = 7\n'


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def lines(self):
        return self.out.splitlines()
