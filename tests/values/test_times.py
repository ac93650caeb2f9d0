"""Times: a number of seconds that no timer can have is refused by name, wherever it is given."""

import math

import pytest
from aiohttp import web

from hotconf import HotConf, Options, Section, Service
from hotconf.reload.request import Patch
from hotconf.values.times import check_seconds, parse_duration
from hotconf.web import Server, config_app
from hotconf.web.server.limits import Limits

NO_TIMES = [math.nan, math.inf, -math.inf, -1.0]


class App(Section):
    message: str = "hello"


def limited(name):
    return lambda value: Limits(**{name: value})


GIVEN = {
    "grace_period": lambda value: Service(grace_period=value),
    "shutdown_delay": lambda value: Service(shutdown_delay=value),
    "closing_period": lambda value: Service(closing_period=value),
    "interval": lambda value: Service().every(value, print),
    "jitter": lambda value: Service().every(1.0, print, jitter=value),
    "heartbeat": lambda value: config_app(HotConf(App), heartbeat=value),
    "idle_linger": lambda value: Server(web.Application(), idle_linger=value),
    "close_timeout": lambda value: Server(web.Application(), close_timeout=value),
    "confirm": lambda value: Patch({}, confirm=value),
    **{name: limited(name) for name in ("handshake_timeout", "header_timeout", "body_timeout", "idle_timeout")},
}
TIMES = [name for name, field in Options.model_fields.items() if "float" in str(field.annotation).lower()]


@pytest.mark.parametrize("value", NO_TIMES)
@pytest.mark.parametrize("name", GIVEN)
def test_what_is_no_time_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}.* finite|finite {name}"):
        GIVEN[name](value)


@pytest.mark.parametrize("value", NO_TIMES)
@pytest.mark.parametrize("name", TIMES)
def test_options_refuse_it_by_name(name, value):
    with pytest.raises(ValueError, match=f"(?s)1 validation error for Options\n{name}"):
        Options(**{name: value})


def test_options_with_numbers_that_are_not_whole_are_all_tried():
    assert set(TIMES) == {
        "debounce", "max_wait", "poll", "settle", "guard", "prepare_timeout", "retire_after", "lease_warning",
        "read_timeout",
    }  # fmt: skip


def test_a_heartbeat_that_would_keep_the_loop_busy_is_refused():
    with pytest.raises(ValueError, match=r"heartbeat must be a finite number of seconds, not below 0\.1"):
        config_app(HotConf(App), heartbeat=0.0)


def test_the_least_is_allowed():
    assert check_seconds("wait", 3.0, least=3.0) == 3.0
    assert Limits(header_timeout=None, idle_timeout=0.0).idle_timeout == 0.0


@pytest.mark.parametrize(("text", "wanted"), [("30", 30.0), ("30s", 30.0), ("2m", 120.0), ("0.5", 0.5), ("1.5m", 90.0)])
def test_a_duration_is_a_number_with_an_optional_unit(text, wanted):
    assert parse_duration(text) == wanted


@pytest.mark.parametrize("text", ["", "s", "-1", "nan", "inf", "1e3", "1 s", "2h", "٣", "30ss", "1_000", "9" * 16])
def test_any_other_text_is_no_duration(text):
    with pytest.raises(ValueError, match="must be a time such as 30, 30s or 2m"):
        parse_duration(text)
