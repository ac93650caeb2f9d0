"""A framework that is not installed is named by the error, with the extra that brings it."""

import subprocess
import sys

import pytest

NEEDS = {
    "celery": "celery",
    "django": "django",
    "fastapi": "starlette",
    "flask": "flask",
    "grpc": "grpc",
    "openfeature": "openfeature",
    "opentelemetry": "opentelemetry",
}


def test_a_missing_framework_is_named_with_its_extra():
    script = """
import importlib, sys
for name, needed in NEEDS.items():
    sys.modules[needed] = None
    try:
        importlib.import_module(f"hotconf.integrations.{name}")
    except ImportError as error:
        print(name, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", f"NEEDS = {NEEDS}\n{script}"], capture_output=True, text=True, check=True
    )
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert said == {
        name: f"hotconf.integrations.{name} needs the extra: pip install 'hotconf[{name}]'" for name in NEEDS
    }


@pytest.mark.parametrize("name", ["asgi", "wsgi", "starlette", "logging"])
def test_what_builds_on_no_framework_imports_none(name):
    script = f"import hotconf.integrations.{name}, sys; print(*(name.split('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {*NEEDS.values(), "aiohttp", "uvicorn"} & set(done.stdout.split())
