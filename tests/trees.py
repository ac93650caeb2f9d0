"""What the tests of the pure stages share: layers with origins, settings built from them, trees of values."""

from __future__ import annotations

from hypothesis import strategies as st

from hotconf.errors import Rejected
from hotconf.reload.validate import validate
from hotconf.schema.explain import Origins
from hotconf.schema.keys import with_canonical_keys
from hotconf.values.layer import Layer, Origin
from hotconf.values.merge import leaves, merge


def at_line(name, path, line):
    return {tuple(path.split(".")): Origin("file", name, line, 1)}


def file(values, name="app.toml"):
    """A layer like a file's: each leaf and each table has a line of its own, counted from 1 in order."""
    tables = {path[:length]: None for path, _ in leaves(values) for length in range(1, len(path) + 1)}
    origins = {path: Origin("file", name, line, 1) for line, path in enumerate(tables, 1)}
    return Layer(name, values, {(): Origin("file", name), **origins})


def env(values, prefix="APP_"):
    """A layer like the environment's: each leaf has a variable."""
    names = {path: prefix + "__".join(str(key) for key in path).upper() for path, _ in leaves(values)}
    return Layer("environment", values, {path: Origin("env", name) for path, name in names.items()})


def merged(model, *layers):
    """Merge layers, the weakest first; a plain mapping is a file."""
    layers = [file(layer) if isinstance(layer, dict) else layer for layer in layers]
    return merge([with_canonical_keys(model, layer) for layer in layers])


def build(model, *layers):
    return validate(model, merged(model, *layers))


def faults(model, *layers):
    """The faults of layers that must not pass."""
    try:
        settings = build(model, *layers)
    except Rejected as invalid:
        return list(invalid.faults)
    raise AssertionError(f"passed validation: {settings!r}")


def lines(model, *layers):
    return sorted(str(fault) for fault in faults(model, *layers))


def origins(model, *layers):
    together = merged(model, *layers)
    return Origins(model, together, validate(model, together))


ODD_KEYS = ["self", "model_config", "__init__", "0"]

keys = st.text("abcdefgh.\"' -_ü\\", min_size=1, max_size=4) | st.sampled_from(
    ["self", "model_config", "__init__", "0"]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([0, 1, 0.0, -0.0, 1.0, float("nan"), 10**40])
)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)
tables = st.dictionaries(keys, trees, max_size=4)
