"""The layout, held by a test: imports go downward, no cycles, and what is dangerous lives in one place each."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hotconf"

LAYERS = [
    set(names.split())
    for names in (
        # 0, words: frozen data
        "errors keypath origin layer snapshot report change status candidate errand durations",
        # 1, pure: no await, clock, environment, log or file
        """shape schema tree options atoms keys merge guard validate diff redact explain defer patch fingerprint
        encoding untyped jsonschema placeholder""",
        # 2, contracts
        "abc",
        # 3, the heart
        """clock holder inbox trip stack hold edit draft override subscribers resources pointer reload boot journal
        history staging trouble last_good audit""",
        # 4, adapters
        "formats mounts reading variables sources watch",
        # 5, the process
        "composition forks engine running conf signals drain jobs service systemd metrics sample",
        # 6, faces
        "web cli testing __main__",
    )
]

# What may be imported or called where. A place is a module or a package of hotconf.
FENCED_MODULES = {
    "aiohttp": {"web"},
    "yarl": {"web"},
    "watchfiles": {"watch.events"},
    "tomli_w": {"formats.toml"},
    "rtoml": {"formats.toml"},
    "yaml": {"formats.yaml"},
    "prometheus_client": {"metrics"},
    "click": {"cli"},
    "pytest": {"testing.conformance", "testing.fixtures"},
}
FENCED_NAMES = {
    "signal.signal": {"signals"},
    "signal.set_wakeup_fd": {"signals"},
    "signal.sigwait": set(),
    "loop.add_signal_handler": set(),
    "os.environ": {"sources", "systemd", "cli"},
    "os.getenv": {"sources", "systemd", "cli"},
    "time.time": {"clock"},
    "dt.datetime.now": {"clock"},
    "datetime.now": {"clock"},
    "datetime.utcnow": set(),
}
SIBLINGS_APART = ("formats", "sources", "cli")
# What several verbs share. Verbs may import these, and never another verb; these may import each other.
CLI_NOUNS = {"cli.target", "cli.output", "cli.process", "cli.remote"}


def modules() -> dict[str, ast.Module]:
    """Every module of the package but its root, by dotted name below the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def imports(tree: ast.Module) -> set[str]:
    """Every module that is imported anywhere in a module, for type checking and in functions too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own_imports(name: str) -> set[str]:
    """The modules of the package that a module imports."""
    targets = set()
    for target in imports(MODULES[name]):
        if not target.startswith("hotconf."):
            continue
        inner = target.removeprefix("hotconf.")
        while inner and inner not in MODULES:
            inner = inner.rpartition(".")[0]
        if inner and inner != name:
            targets.add(inner)
    return targets


def import_time_imports(name: str) -> set[str]:
    """The modules of the package that a module imports while it is itself imported."""
    tree = ast.parse("")
    for node in MODULES[name].body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            tree.body.append(node)
    found = set()
    for target in imports(tree):
        inner = target.removeprefix("hotconf.")
        while inner and inner not in MODULES:
            inner = inner.rpartition(".")[0]
        if target.startswith("hotconf.") and inner and inner != name:
            found.add(inner)
    return found


def layer_of(name: str) -> int:
    top = name.partition(".")[0]
    return next(level for level, names in enumerate(LAYERS) if top in names)


def within(name: str, places: set[str]) -> bool:
    return any(name == place or name.startswith(place + ".") for place in places)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downward(name):
    upward = {target for target in own_imports(name) if layer_of(target) > layer_of(name)}
    assert not upward, f"{name} imports from a layer above it: {upward}"


@pytest.mark.parametrize("name", MODULES)
def test_siblings_stay_apart(name):
    package, _, leaf = name.partition(".")
    if package not in SIBLINGS_APART or not leaf or leaf == "main":
        return
    siblings = {target for target in own_imports(name) if target.startswith(package + ".")} - CLI_NOUNS
    assert not siblings, f"{name} knows its siblings {siblings}"


def test_no_import_cycles():
    graph = {name: import_time_imports(name) for name in MODULES}
    # A package that re-exports its modules is not one of their dependencies.
    for name, targets in graph.items():
        targets -= {name.rpartition(".")[0]}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {error.args[1]}")


@pytest.mark.parametrize("module", FENCED_MODULES)
def test_a_dependency_is_imported_in_one_place(module):
    users = {
        name
        for name, tree in MODULES.items()
        if any(target == module or target.startswith(module + ".") for target in imports(tree))
    }
    outside = {name for name in users if not within(name, FENCED_MODULES[module])}
    assert not outside, f"{module} is imported in {outside}"


@pytest.mark.parametrize("call", FENCED_NAMES)
def test_a_dangerous_name_is_used_in_one_place(call):
    users = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node).endswith(call)
    }
    outside = {name for name in users if not within(name, FENCED_NAMES[call])}
    assert not outside, f"{call} is used in {outside}"


@pytest.mark.parametrize("name", sorted(LAYERS[1] & set(MODULES)))
def test_the_pure_layer_is_pure(name):
    tree = MODULES[name]
    waits = [node for node in ast.walk(tree) if isinstance(node, (ast.AsyncFunctionDef, ast.Await))]
    impure = imports(tree) & {"asyncio", "logging", "os", "time", "pathlib.Path", "io", "threading"}
    assert not waits
    assert not impure


def test_contracts_run_nothing():
    bodies = [
        statement
        for node in ast.walk(MODULES["abc"])
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for statement in node.body
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
    ]
    assert not bodies


def test_every_module_has_a_layer():
    assert {name.split(".")[0] for name in MODULES} <= set().union(*LAYERS)


def test_importing_the_package_pulls_in_nothing_heavy():
    heavy = {"aiohttp", "watchfiles", "pydantic", "click", "prometheus_client", "asyncio", "logging"}
    script = "import hotconf, sys; print(*(name.split('.')[0] for name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not heavy & set(loaded)


def test_the_library_needs_neither_the_web_nor_the_command():
    script = (
        "import sys; from hotconf import *; import hotconf.conf; print(*(name.split('.')[0] for name in sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"aiohttp", "watchfiles", "click", "prometheus_client"} & set(loaded)


def test_the_map_of_the_package_says_of_every_module_what_it_says_of_itself():
    rows = re.findall(r"^\| \[`([\w/]+)`\]\(([\w/.]+)\) \| (.+) \|$", (PACKAGE / "README.md").read_text("utf-8"), re.M)
    said = {(PACKAGE / link): text for _, link, text in rows}
    assert len(said) == len(rows)
    for path, text in said.items():
        module = path / "__init__.py" if path.is_dir() else path
        docstring = ast.get_docstring(ast.parse(module.read_text("utf-8"))) or ""
        assert " ".join(docstring.split("\n\n")[0].split()) == text, path
    root = {path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert set(said) == root - {PACKAGE / "__init__.py"}
