"""The provider of OpenFeature, with its real API."""

import threading
from typing import Any

import pytest
from openfeature import api
from openfeature.exception import ErrorCode

from hotconf import HotConf, Options, Section
from hotconf.integrations.openfeature import ConfigProvider
from hotconf.sources import Memory


class Checkout(Section):
    express: bool = False


class Flags(Section):
    banner: str = "hello"
    limit: int = 3
    ratio: float = 0.5
    nothing: str | None = None
    checkout: Checkout = Checkout()
    regions: list[str] = ["eu"]
    more: dict[str, Any] = {"any": 1}


class App(Section):
    flags: Flags = Flags()
    message: str = ""


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture
def conf(memory):
    conf = HotConf(App, sources=[memory], options=Options(watch=False))
    with conf.running(signals=()):
        yield conf


@pytest.fixture
def client(conf):
    api.set_provider(ConfigProvider(conf, "flags"))
    yield api.get_client()
    api.clear_providers()


def test_flags_have_the_values_in_force(client, conf, memory):
    assert client.get_string_value("banner", "x") == "hello"
    assert client.get_integer_value("limit", 0) == 3
    assert client.get_float_value("ratio", 0.0) == 0.5
    assert client.get_float_value("limit", 0.0) == 3.0
    assert client.get_boolean_value("checkout.express", True) is False
    assert client.get_object_value("checkout", {}) == {"express": False}
    assert client.get_object_value("regions", []) == ["eu"]
    memory.set({"flags": {"checkout": {"express": True}}})
    conf.reload_blocking(20)
    details = client.get_boolean_details("checkout.express", False)
    assert (details.value, details.flag_metadata) == (True, {"generation": 2})


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("baner", ErrorCode.FLAG_NOT_FOUND),
        ("nothing", ErrorCode.FLAG_NOT_FOUND),
        ("limit", ErrorCode.TYPE_MISMATCH),
        ("checkout", ErrorCode.TYPE_MISMATCH),
    ],
)
def test_what_is_no_such_flag_gives_the_default_and_says_why(client, key, code):
    details = client.get_string_details(key, "default")
    assert (details.value, details.error_code) == ("default", code)


def test_a_bool_is_no_integer(client):
    assert client.get_integer_details("checkout.express", 7).error_code is ErrorCode.TYPE_MISMATCH


def test_a_change_is_an_event_with_the_flags_that_differ(client, conf, memory):
    from openfeature.event import ProviderEvent

    seen, came = [], threading.Event()
    client.add_handler(
        ProviderEvent.PROVIDER_CONFIGURATION_CHANGED,
        lambda details: (seen.append(sorted(details.flags_changed)), came.set()),
    )
    memory.set({"message": "no flag"})
    conf.reload_blocking(20)
    memory.set({"message": "other", "flags": {"limit": 4, "checkout": {"express": True}}})
    conf.reload_blocking(20)
    assert came.wait(20)
    assert seen == [["checkout.express", "limit"]]


def test_a_provider_whose_configuration_is_not_loaded_is_not_ready():
    api.set_provider(ConfigProvider(HotConf(App, options=Options(watch=False))), domain="early")
    try:
        details = api.get_client("early").get_string_details("message", "default")
        assert (details.value, details.error_code) == ("default", ErrorCode.PROVIDER_NOT_READY)
    finally:
        api.clear_providers()
