"""Every public name is documented and tested: names, options, verbs, endpoints, metrics, exit codes, invariants.

The lists come from the code. A new name fails here until the documents and a test have it.
"""

import ast
import importlib
import inspect
import re
import subprocess
import sys

import click
import pytest
from pydantic import BaseModel

import hotconf
import hotconf.abc
import hotconf.errors
import hotconf.process.service
import hotconf.sources
import hotconf.testing
import hotconf.web
from hotconf import HotConf, Options, Service
from hotconf.cli.main import command
from hotconf.fleet import Judge
from hotconf.fleet.metrics import FleetMetrics
from hotconf.metrics import Metrics
from tests.support import ROOT
from tests.test_architecture import ROOMS
from tests.transcripts import blocks

LISTS = {"test_coverage_of_names.py", "test_public_names.py"}
"""Tests that only list names: they use nothing."""

DOCS = {path.name: path.read_text("utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]}
PLAYED = [text for name in ("http-api.md", "command.md") for text in blocks(DOCS[name], "console")]
"""Transcripts that tests play."""

PACKAGE = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in (ROOT / "hotconf").rglob("*.py")}
FILES = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py") if path.name not in LISTS]
TESTS = "\n".join([*FILES, *PLAYED])


def speaks_of(text, name):
    """Whether a text has a name as a whole word."""
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


def host_names():
    """The public names of each integration: those that its module defines, or lists."""
    for path in sorted((ROOT / "hotconf/integrations").iterdir()):
        if path.stem != "__init__" and not path.name.startswith("__"):
            module = importlib.import_module(f"hotconf.integrations.{path.stem}")
            yield from ((path.stem, name) for name in module.__all__)


@pytest.mark.parametrize(("host", "name"), [*host_names()])
def test_a_name_of_an_integration_is_on_its_page_and_in_a_test(host, name):
    assert speaks_of(DOCS[f"{host}.md"], name), f"docs/hosts/{host}.md does not speak of {name}"
    assert re.search(rf"hotconf\.integrations\.{host}( import .*\b|\.){name}\b", TESTS), (
        f"no test uses {name} of {host}"
    )


def own_classes(module):
    return [
        name for name, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module.__name__
    ]


def methods(cls):
    """The public methods and properties of a class and of its bases in hotconf."""
    for owner in cls.__mro__:
        if owner.__module__.startswith("hotconf."):
            yield from (name for name, value in vars(owner).items() if not name.startswith("_") and not is_slot(value))


def is_slot(value):
    return inspect.ismemberdescriptor(value)


NAMES = sorted(
    {
        *hotconf.__all__,
        *hotconf.sources.__all__,
        *hotconf.web.__all__,
        *hotconf.testing.__all__,
        *own_classes(hotconf.errors),
        *own_classes(hotconf.abc),
        *("SourceConformance", "live", "override", "manual_clock"),
    }
    - {"Editable", "Staged"}  # contracts between parts of hotconf
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_in_the_library_and_in_a_test(name):
    assert speaks_of(DOCS["library.md"], name), f"docs/library.md does not speak of {name}"
    assert speaks_of(TESTS, name), f"no test uses {name}"


@pytest.mark.parametrize("name", sorted({*methods(HotConf), *methods(Service)}))
def test_a_method_is_in_the_library_and_in_a_test(name):
    assert re.search(rf"\b(conf|service|\w+)\.{name}\b", DOCS["library.md"]), f"docs/library.md does not show .{name}"
    assert re.search(rf"\.{name}\b", TESTS), f"no test uses .{name}"


@pytest.mark.parametrize("name", Options.model_fields)
def test_an_option_is_documented_and_tested(name):
    assert re.search(rf"^\| `{name}` \|", DOCS["library.md"], re.MULTILINE), f"docs/library.md does not list {name}"
    assert speaks_of(inspect.getdoc(Options), name), f"the docstring of Options does not explain {name}"
    assert re.search(rf"\b{name}=|\"{name}\"", TESTS), f"no test sets {name}"


def verbs():
    context = click.Context(command)
    return {name: command.get_command(context, name) for name in command.list_commands(context)}


def verb_options():
    for verb, function in verbs().items():
        for parameter in function.params:
            if isinstance(parameter, click.Option):
                yield verb, max(parameter.opts, key=len)


def section_of(verb):
    """The section of docs/command.md about a verb."""
    found = re.search(rf"^## hotconf {verb}\n(.*?)(?=^## |\Z)", DOCS["command.md"], re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


@pytest.mark.parametrize("verb", verbs())
def test_a_verb_is_documented_and_tested(verb):
    assert section_of(verb), f"docs/command.md does not speak of {verb}"
    assert re.search(rf"[\"'\s]{verb}[\"'\s]", TESTS), f"no test runs {verb}"
    assert verbs()[verb].help, f"{verb} has no help"


def fleet_verbs():
    return sorted(verbs()["fleet"].commands.items())


@pytest.mark.parametrize(("verb", "function"), fleet_verbs(), ids=[name for name, _ in fleet_verbs()])
def test_a_verb_of_the_fleet_is_documented_and_tested(verb, function):
    text = DOCS["fleet.md"]
    assert re.search(rf"`{verb}\b", text), f"docs/fleet.md does not speak of {verb}"
    assert re.search(rf"[\"'\s]{verb}[\"'\s]", TESTS), f"no test runs {verb}"
    assert function.help, f"{verb} has no help"
    for option in (name for parameter in function.params for name in parameter.opts if name.startswith("--")):
        assert speaks_of(text, option), f"docs/fleet.md does not explain {option} of {verb}"
        assert speaks_of(TESTS, option), f"no test passes {option} of {verb}"


EVERYWHERE = {"--config", "--secret", "--username", "--password-file", "--ca-file", "--cert-file", "--key-file"}
"""Options of all verbs with a TARGET, explained once."""


@pytest.mark.parametrize(("verb", "option"), sorted(set(verb_options())))
def test_an_option_of_a_verb_is_documented_and_tested(verb, option):
    explained = DOCS["command.md"] if option in EVERYWHERE else section_of(verb)
    assert speaks_of(explained, option), f"docs/command.md does not explain {option} of {verb}"
    assert speaks_of(TESTS, option), f"no test passes {option} of {verb}"


class Nothing(BaseModel):
    pass


def endpoints():
    """All endpoints, without the files that the dashboard loads."""
    routes = {(route.method, route.path) for route in hotconf.web.config_routes(HotConf(Nothing))}
    return sorted(route for route in routes if not route[1].startswith("/dashboard/"))


@pytest.mark.parametrize(("method", "path"), endpoints())
def test_an_endpoint_is_documented_and_tested(method, path):
    place = re.sub(r"/\{.*", "/", path)  # of /config/{path}: what comes before the variable part
    shown = DOCS["http-api.md"]
    assert place in shown, f"docs/http-api.md does not show {path}"
    if method not in ("GET", "*"):
        assert re.search(rf"{method}\b.*{re.escape(place)}", shown), f"docs/http-api.md does not show {method} {path}"
    assert re.search(rf"[\"'/]{re.escape(place.strip('/'))}", TESTS), f"no test asks for {path}"


def metrics():
    text = Metrics(HotConf(Nothing), watchers=lambda: {"poll": 0}).exposition().decode()
    return sorted(name for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE) if not name.endswith("_created"))


@pytest.mark.parametrize("name", metrics())
def test_a_metric_is_documented_and_tested(name):
    assert speaks_of(DOCS["operating.md"], name), f"docs/operating.md does not list {name}"
    assert re.search(rf"\b{name}(_count|_sum|_bucket)?\b", TESTS), f"no test reads {name}"


def fleet_metrics():
    text = FleetMetrics(Judge("memory:names", "names")).exposition().decode()
    return sorted(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", fleet_metrics())
def test_a_metric_of_the_fleet_is_documented_and_tested(name):
    assert speaks_of(DOCS["fleet.md"], name), f"docs/fleet.md does not list {name}"
    assert re.search(rf"\b{name}\b", TESTS), f"no test reads {name}"


@pytest.mark.parametrize("document", DOCS)
def test_a_document_names_only_metrics_and_options_that_exist(document):
    named = {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"\bhotconf_\w+", DOCS[document])}
    assert named <= {*metrics(), *fleet_metrics()}
    if document == "library.md":
        table = DOCS[document][DOCS[document].index("\n## Options\n") :].split("\n\n")[2]
        assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(Options.model_fields)


@pytest.mark.parametrize(
    "code", [value for name, value in vars(hotconf.process.service).items() if name.startswith("EXIT_")]
)
def test_an_exit_code_is_documented_and_tested(code):
    assert re.search(rf"^\| {code} \|", DOCS["operating.md"], re.MULTILINE), f"docs/operating.md does not list {code}"
    assert re.search(rf"(==|return|code|\() ?{code}\b", TESTS), f"no test expects {code}"


@pytest.mark.parametrize("number", [*range(1, 29), 31, 32])
def test_an_invariant_names_files_that_each_have_a_test_with_its_number(number):
    stated = re.search(rf"^- \*\*I{number}\*\* .*?(?=^- |^$)", DOCS["design.md"], re.DOTALL | re.MULTILINE)
    assert stated, f"docs/design.md does not state I{number}"
    files = re.findall(r"`(tests/\S+\.py)`", stated[0])
    assert files, f"docs/design.md names no test that holds I{number}"
    for file in files:
        assert re.search(rf"\bI{number}\b|test_I{number}_", (ROOT / file).read_text("utf-8")), (
            f"{file} has no I{number}"
        )


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_described(room):
    assert re.search(rf"^\| `{room}/?` \| .+ \|$", DOCS["design.md"], re.MULTILINE), f"docs/design.md lists no {room}"


def table_rows(heading):
    """The rows of the first table below a heading of docs/design.md, each a list of cells."""
    text = DOCS["design.md"].partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [row.strip("| ").split(" | ") for row in re.findall(r"^\| .*", text, re.MULTILINE)][1:]


def test_the_words_of_the_glossary_are_classes():
    classes = set(re.findall(r"^class (\w+)", "\n".join(PACKAGE.values()), re.MULTILINE))
    named = [name for _, column, *_ in table_rows("Glossary") for name in re.findall(r"`(\w+)`", column)]
    assert len(named) > 20
    assert set(named) <= classes


def definitions(file):
    """The names of functions and classes in a file, methods with their class."""
    tree = ast.parse(PACKAGE[file])
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
            yield from (f"{node.name}.{inner.name}" for inner in getattr(node, "body", ()) if hasattr(inner, "name"))


def steps(heading):
    """The functions that the steps below a heading of docs/design.md name, each with its file, in their order."""
    text = DOCS["design.md"].partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    file = ""
    for path, after_path, method in re.findall(r"`(hotconf/[\w/]+\.py)`(?:\s+`([\w.]+)`)?|`([A-Z]\w+\.\w+)`", text):
        file = path or file
        yield from ((file, function) for function in (after_path, method) if function)


WALKS = {"A SIGHUP, step by step": "SIGHUP to swap", "A PATCH, step by step": "PATCH to response"}
"""The headings of docs/design.md, with the titles that `benchmarks.way` prints."""


@pytest.mark.parametrize("heading", WALKS)
def test_the_functions_of_each_step_are_in_the_files_that_it_names(heading):
    named = list(steps(heading))
    assert len(named) > 12
    for file, function in named:
        assert function in set(definitions(file)), f"{file} has no {function}"


@pytest.fixture(scope="module")
def ways():
    """What `benchmarks.way` prints: the functions that a real SIGHUP and a real PATCH call, in their order."""
    command = [sys.executable, "-m", "benchmarks.way"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=True).stdout
    _, *parts = re.split("^--- (.+) ---$", printed, flags=re.MULTILINE)
    return {
        title: [
            (f"hotconf/{file}", name.partition(".<")[0]) for file, name in re.findall(r"^(\S+):\d+ (\S+)$", text, re.M)
        ]
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


@pytest.mark.parametrize("heading", WALKS)
def test_the_steps_come_in_the_order_of_a_real_run(heading, ways):
    """A step that such a run does not need, such as building a resource, is passed over."""
    called = ways[WALKS[heading]]
    in_both = [step for step in dict.fromkeys(steps(heading)) if step in called]
    assert len(in_both) > 12
    assert in_both == sorted(in_both, key=called.index)


def private_names():
    """The private names of dependencies that the package uses, as attributes or as modules, with their files."""
    own, used = set(), []
    for path, text in PACKAGE.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                own.add(node.name)
            elif isinstance(node, ast.Attribute):
                is_own = (
                    isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == "self"
                )
                own |= {node.attr} if is_own else set()
                used.append((node.attr, path))
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
            elif isinstance(node, ast.ImportFrom):
                used += [(part, path) for part in (node.module or "").split(".")]
    public = {"_exit", "_getframe", "_replace", "_make"}  # documented by Python
    return {(name, path) for name, path in used if re.match("_[a-z]", name) and name not in own | public}


def test_the_private_names_of_dependencies_are_listed_with_their_reasons():
    rows = table_rows("Private names of dependencies")
    listed = {(re.findall(r"_\w+", name)[-1], file.strip("`")) for name, _, _, file, _ in rows}
    assert private_names() <= listed
    for name, file in listed:
        assert name in PACKAGE[file], f"{file} does not use {name}"
    for name, _, _, _, test in rows:
        text = (ROOT / test.strip("`")).read_text("utf-8")
        assert re.findall(r"_\w+", name)[-1] in text, f"{test} does not name {name}"


def test_a_new_name_is_found():
    assert speaks_of("use `Fence` here", "Fence")
    assert not speaks_of("use `Fences` or sub-Fence here", "Fence")
    assert set(methods(HotConf)) > {"current", "pin", "reload", "snapshot"} - {"current"}
    assert ("demo", "--port") in set(verb_options())
    assert ("POST", "/reload") in endpoints()
