"""The layout, held by a test: rooms import earlier ones, no cycles, and what is dangerous lives in one place each."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hotconf"

ROOMS = (
    "values",
    "errors",
    "signals",
    "abc",
    "formats",
    "schema",
    "jsonschema",
    "sources",
    "watch",
    "reload",
    "engine",
    "conf",
    "metrics",
    "process",
    "fleet",
    "api",
    "web",
    "integrations",
    "demo",
    "testing",
    "sample",
    "cli",
    "__main__",
)
"""Modules and packages at the top of the package, from the ground up: each imports only from earlier ones."""

PURE = (
    "values",
    "schema",
    "jsonschema",
    *(f"fleet.{name}" for name in ("plan", "cohort", "operations", "report", "guards", "ranks", "verdict")),
)
"""Rooms and modules without await, clock, environment, log or file."""

# What may be imported or called where. A place is a module or a package of hotconf.
FENCED_MODULES = {
    "aiohttp": {"sources.etcd_gateway", "sources.http", "web", "demo", "fleet.prometheus"},
    "yarl": {"sources.http", "api.safety", "web"},
    "nats": {"sources.nats", "fleet.stores.nats"},
    "redis": {"sources.redis"},
    "watchfiles": {"watch.events"},
    "tomli_w": {"formats.toml"},
    "rtoml": {"formats.toml"},
    "yaml": {"formats.yaml"},
    "prometheus_client": {"metrics", "fleet.metrics"},
    "click": {"cli", "integrations.flask"},
    "uvicorn": {"integrations.asgi"},
    "starlette": {"integrations.starlette", "integrations.fastapi"},
    "fastapi": {"integrations.fastapi"},
    "celery": {"integrations.celery"},
    "flask": {"integrations.flask"},
    "django": {"integrations.django"},
    "grpc": {"integrations.grpc"},
    "openfeature": {"integrations.openfeature"},
    "opentelemetry": {"integrations.opentelemetry"},
    "pytest": {"testing.conformance", "testing.fixtures"},
}
FENCED_NAMES = {
    "signal.signal": {"signals"},
    "signal.set_wakeup_fd": {"signals"},
    "signal.sigwait": set(),
    "loop.add_signal_handler": set(),
    "os.environ": {"sources", "reload.state", "reload.last_good", "process.systemd", "cli"},
    "os.getenv": {"sources", "process.systemd", "cli"},
    "time.time": {"values.times"},
    "time.clock_gettime_ns": {"values.times", "process.systemd"},
    "dt.datetime.now": {"values.times"},
    "datetime.now": {"values.times"},
    "datetime.utcnow": set(),
    "click.echo": {"cli.output"},
    "click.style": {"cli.output"},
}
SHARED = {
    "formats": set(),
    "sources": {
        "sources.reader",
        "sources.patience",
        "sources.remote",
        "sources.frames",
        "sources.cache",
        "sources.etcd_gateway",
        "sources.mounts",
        "sources.provenance",
        "sources.lookups",
        "sources.failure",
        "sources.construct",
        "sources.patch",
        "sources.atomic_write",
    },
    "cli": {
        "cli.target",
        "cli.output",
        "cli.serving",
        "cli.fleet_text",
        "cli.log",
        "cli.remote",
        "cli.documents",
    },
}
"""Rooms whose modules are one of a kind each, and know no other kind: only what they share."""
COLLECTING = {"cli.main", "sources.stack"}
"""What puts all of a kind together."""

INDEPENDENT = {"web.server": {"values", "errors"}}
"""Packages that could be distributions of their own, and what of hotconf they may import beside themselves."""


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


def room_of(name: str) -> int:
    return ROOMS.index(name.partition(".")[0])


def within(name: str, places: set[str]) -> bool:
    return any(name == place or name.startswith(place + ".") for place in places)


@pytest.mark.parametrize("name", MODULES)
def test_a_room_imports_only_earlier_rooms(name):
    later = {target for target in own_imports(name) if room_of(target) > room_of(name)}
    assert not later, f"{name} imports from a later room: {later}"


def test_every_module_has_a_room():
    assert {name.partition(".")[0] for name in MODULES} == set(ROOMS)


def test_the_top_of_the_package_is_a_short_list():
    assert len(list(PACKAGE.glob("*.py"))) <= 8


@pytest.mark.parametrize("name", MODULES)
def test_siblings_stay_apart(name):
    room = name.partition(".")[0]
    if name == room or name in COLLECTING or room not in SHARED:
        return
    siblings = {target for target in own_imports(name) if target.startswith(room + ".")} - SHARED[room]
    assert not siblings, f"{name} knows its siblings {siblings}"


@pytest.mark.parametrize("package", INDEPENDENT)
def test_an_independent_package_knows_nothing_of_the_others(package):
    inner = {name for name in MODULES if within(name, {package})}
    outside = {target for name in inner for target in own_imports(name) if not within(target, INDEPENDENT[package])}
    assert outside <= inner, f"{package} imports {outside - inner}"


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


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith(PURE) and name != "values.times"])
def test_the_pure_rooms_are_pure(name):
    tree = MODULES[name]
    waits = [node for node in ast.walk(tree) if isinstance(node, (ast.AsyncFunctionDef, ast.Await))]
    impure = imports(tree) & {"asyncio", "logging", "os", "time", "pathlib.Path", "io", "threading"}
    assert not waits
    assert not impure


def test_contracts_run_nothing():
    protocols = [node for node in MODULES["abc"].body if isinstance(node, ast.ClassDef) and is_protocol(node)]
    bodies = [
        statement
        for protocol in protocols
        for node in ast.walk(protocol)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for statement in node.body
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
    ]
    assert len(protocols) > 5
    assert not bodies


def is_protocol(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).startswith("Protocol") for base in node.bases)


def test_importing_the_package_pulls_in_nothing_heavy():
    heavy = {"aiohttp", "watchfiles", "pydantic", "click", "prometheus_client", "asyncio", "logging"}
    script = "import hotconf, sys; print(*(name.split('.')[0] for name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not heavy & set(loaded)


def test_the_library_needs_neither_the_web_nor_the_command():
    script = (
        "import sys; from hotconf import *; import hotconf.conf, hotconf.sources; "
        "print(*(name.split('.')[0] for name in sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"aiohttp", "nats", "redis", "watchfiles", "click", "prometheus_client"} & set(loaded)
