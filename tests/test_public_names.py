"""The public names: a short list, complete, documented, and true to where they live."""

import inspect
import subprocess
import sys

import pytest

import hotconf

PUBLIC = [
    *("HotConf", "Options", "Settings", "Section", "Content", "RestartRequired", "Sensitive", "Public"),
    *("Service", "SignalRouter"),
    *("Snapshot", "Change", "Report", "Fault", "Origin", "Source", "Layer", "Subscriber", "Prepared", "Refuse"),
    *("HotconfError", "ConfigError", "NotLoaded"),
]


def test_the_list_is_the_contract():
    assert sorted(hotconf.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_resolves_and_is_documented(name):
    value = getattr(hotconf, name)
    assert inspect.getdoc(value), f"{name} has no docstring"
    assert value.__module__.startswith("hotconf.")
    assert value.__name__ == name


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_found_by_type_checkers(name):
    source = inspect.getsource(hotconf)
    before_runtime = source[: source.index("else:\n")]
    assert f" {name} as {name}" in before_runtime


@pytest.mark.parametrize("name", PUBLIC)
def test_public_methods_are_documented(name):
    value = getattr(hotconf, name)
    for attribute, member in vars(value).items():
        if attribute.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
            continue
        assert inspect.getdoc(member), f"{name}.{attribute} has no docstring"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'HotConfig'"):
        hotconf.HotConfig  # noqa: B018


def test_dir_lists_what_there_is():
    assert set(PUBLIC) <= set(dir(hotconf))


def test_submodules_are_reachable_as_attributes():
    names = "hotconf.sources.File, hotconf.web.Server, hotconf.errors.Draining, hotconf.abc.Candidate"
    script = f"import hotconf; print(*(found.__name__ for found in ({names})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["File", "Server", "Draining", "Candidate"]
