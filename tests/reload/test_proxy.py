"""`conf.proxy()`: what modules that hold settings import."""

import copy
import pickle

import pytest
from pydantic import BaseModel
from pydantic_settings import BaseSettings

from hotconf import ConfigError, HotConf
from hotconf.sources import Memory
from tests.heart import QUIET


class Mutable(BaseSettings):
    message: str = "hello"
    port: int = 80

    @property
    def url(self):
        return f"http://localhost:{self.port}"


@pytest.fixture
def source():
    return Memory({"message": "one"})


@pytest.fixture
def conf(source):
    return HotConf(Mutable, sources=[source], options=QUIET)


def test_it_loads_when_it_is_first_used_and_follows_each_reload(conf, source):
    settings = conf.proxy()
    assert isinstance(settings, Mutable)
    assert not conf.loaded
    assert (settings.message, settings.url) == ("one", "http://localhost:80")
    source.set({"message": "two", "port": 81})
    conf.load()
    assert (settings.message, settings.url) == ("two", "http://localhost:81")
    assert settings.model_dump() == dict(settings) == {"message": "two", "port": 81}


def test_it_stands_for_the_settings_in_all_else(conf):
    settings = conf.proxy()
    settings.message = "set"
    assert conf.current.message == "set"
    assert settings == conf.current == conf.proxy()
    assert repr(settings) == repr(conf.current)
    assert "url" in dir(settings)
    assert type(copy.copy(settings)) is type(pickle.loads(pickle.dumps(settings))) is Mutable
    assert Wrapper(settings=settings).settings.message == "set"
    with pytest.raises(AttributeError, match="prot"):
        settings.prot  # noqa: B018
    del settings.message
    assert not hasattr(settings, "message")


class Wrapper(BaseModel):
    settings: Mutable


def test_a_frozen_class_has_a_hash_and_cannot_be_set():
    class Frozen(BaseSettings, frozen=True):
        message: str = "hello"

    conf = HotConf(Frozen, options=QUIET)
    assert hash(conf.proxy()) == hash(conf.current if conf.loaded else Frozen())
    with pytest.raises(ValueError, match="frozen"):
        conf.proxy().message = "set"


def test_a_configuration_that_is_refused_is_refused_where_it_is_used(conf, source):
    settings = conf.proxy()
    source.set({"port": "x"})
    with pytest.raises(ConfigError, match="valid integer"):
        settings.port  # noqa: B018
    source.set({"port": 1})
    assert settings.port == 1


async def test_within_running_it_follows_too(conf, source):
    settings = conf.proxy()
    async with conf.running(signals=()):
        source.set({"message": "live"})
        await conf.reload()
        assert settings.message == "live"
