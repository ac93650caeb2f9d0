"""A pytest plugin: what a test suite constructs of settings, HotConf loads as well, and the two are compared.

For the suite of pydantic-settings itself. Load it with `-p tests.sources.shadow`; every construction writes a line of
JSON to the file that SHADOW_OUT names: the test, the class, and `differs`, which is empty where the two agree.
"""

import contextlib
import dataclasses
import functools
import inspect
import io
import json
import os
import sys
import threading
import warnings
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, CliApp

from hotconf import ConfigError, HotConf

OUT = Path(os.environ["SHADOW_OUT"])
CONSTRUCT, RUN = BaseSettings.__init__, CliApp.run
OPTIONS = [name for name in inspect.signature(CONSTRUCT).parameters if name.startswith("_")][1:]

_busy = ContextVar("busy", default=False)
_run = ContextVar("run", default=(None, {}))
_writing = threading.Lock()
_test = "?"


def pytest_runtest_logstart(nodeid, location):
    global _test
    _test = nodeid


def pytest_configure(config):
    OUT.write_text("")
    BaseSettings.__init__ = constructing
    CliApp.run = staticmethod(running)


def pytest_unconfigure(config):
    BaseSettings.__init__ = CONSTRUCT
    CliApp.run = staticmethod(RUN)


@contextlib.contextmanager
def within(variable, value):
    """Note what is going on, for a load in another thread too: what is constructed within it is a part of it."""
    before = variable.set(value)
    try:
        yield
    finally:
        variable.reset(before)


@functools.wraps(CONSTRUCT)
def constructing(__pydantic_self__, *args, **kwargs):
    if _busy.get():
        return CONSTRUCT(__pydantic_self__, *args, **kwargs)
    given = dict(zip(OPTIONS, args, strict=False)) | kwargs
    options = {name: value for name, value in given.items() if name in OPTIONS}
    values = {name: value for name, value in given.items() if name not in OPTIONS}
    if options.pop("_build_sources", None) is not None:  # made by CliApp.run, from what it was given
        options, values = _run.get()
    error = None
    try:
        with within(_busy, True):
            CONSTRUCT(__pydantic_self__, *args, **kwargs)
    except BaseException as caught:
        error = caught
    if options is not None:
        compare(type(__pydantic_self__), __pydantic_self__, error, values, options)
    if error is not None:
        raise error
    return None


def running(model_cls, cli_args=None, cli_settings_source=None, *args, **kwargs):
    names = ("cli_exit_on_error", "cli_show_env_vars")
    options = {f"_{name}": kwargs[name] for name in names if name in kwargs}
    options["_cli_parse_args"] = list(sys.argv[1:]) if cli_args is None else cli_args
    values = {name: value for name, value in kwargs.items() if name not in (*names, "cli_cmd_method_name")}
    plain = cli_settings_source is None and not args and isinstance(options["_cli_parse_args"], (list, tuple))
    with within(_run, (options, values) if plain else (None, {})):
        return RUN(model_cls, cli_args, cli_settings_source, *args, **kwargs)


def compare(cls, real, error, values, options):
    """Load the same class through HotConf, and note where that differs from what pydantic-settings constructed."""
    shadow = refused = None
    quiet = io.StringIO()
    with within(_busy, True), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                conf = HotConf(cls, init=values, settings_options=options)
                conf.load()
                shadow = conf.current
                differs = list(differing(real, shadow, "")) if error is None else ["accepted"]
                if conf.reload_blocking(timeout=60).outcome != "unchanged":
                    differs.append("a second reload is not `unchanged`")
            except BaseException as caught:
                refused = caught
                differs = [] if error is not None else [f"refused: {caught}"]
    if isinstance(error, ValidationError) and isinstance(refused, ConfigError):
        found = len(refused.report.faults)
        differs = [] if found else ["no fault is told"]
    line = {"test": _test, "class": cls.__qualname__, "error": repr(error)[:200] if error else "", "differs": differs}
    with _writing, OUT.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(json.dumps(line, default=repr) + "\n")


def differing(one, other, path):
    """Yield where two values differ, in what they are and hold."""
    if type(one) is not type(other):
        yield f"{path}: {one!r} is not {other!r}"
    elif isinstance(one, BaseModel):
        for part in ("__dict__", "__pydantic_extra__", "__pydantic_private__"):
            yield from differing(getattr(one, part), getattr(other, part), path)
        if one.model_fields_set != other.model_fields_set:
            yield f"{path}: set are {one.model_fields_set} and {other.model_fields_set}"
    elif isinstance(one, Mapping):
        for key in {**one, **other}:
            if key in one and key in other:
                yield from differing(one[key], other[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}: only one has it"
    elif isinstance(one, (list, tuple)):
        if len(one) != len(other):
            yield f"{path}: {one!r} is not {other!r}"
        for index, (inner, outer) in enumerate(zip(one, other, strict=False)):
            yield from differing(inner, outer, f"{path}.{index}")
    elif dataclasses.is_dataclass(one) and not isinstance(one, type):
        yield from differing(vars(one), vars(other), path)
    elif not equal(one, other):
        yield f"{path}: {one!r} is not {other!r}"


def equal(one, other):
    try:
        if one == other or one != one:
            return True
    except Exception:
        return repr(one) == repr(other)
    same_kind = type(one).__eq__ is object.__eq__
    return same_kind and getattr(one, "__dict__", 1) == getattr(other, "__dict__", 2)
