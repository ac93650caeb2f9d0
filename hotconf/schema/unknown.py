"""Unknown keys: what a file holds and no field reads, where the class ignores or allows it instead of refusing it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import hotconf.values.keypath as keypath
from hotconf.schema.caches import cached
from hotconf.schema.fields import descend, extra_of, fields_of, models_in, suggest, unwrapped
from hotconf.schema.redact import secret_texts, visible_path
from hotconf.schema.settings import Untyped
from hotconf.schema.shape import Shape
from hotconf.values.merge import SCALARS, leaves, origin_in
from hotconf.values.report import UnknownKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import Layer, Origin

_KINDS = {"file", "dotenv", "overlay"}
"""Where an unknown key is a mistake: the environment and the program hold keys for other readers too."""

_MOST = 1000
_MOST_COMPARED = 20_000


def unknown_keys(model: type, layers: Sequence[Layer]) -> list[UnknownKey]:
    """Return the keys of files that no field reads, each with its place and the near name.

    Keys that the class refuses are not among them: validation reports those. A dotenv file has variables for other
    readers too. One of them is reported where it resembles one that the class reads, and no other class reads it.
    """
    if issubclass(model, Untyped):
        return []
    found: list[tuple[Layer, KeyPath, KeyPath, frozenset[str], Origin]] = []
    for layer in layers:
        for path, names, known in _unknown(Shape(models=(model,)), layer.values, (), ()):
            origin = origin_in(layer, path)
            if origin.kind in _KINDS and len(found) < _MOST:
                found.append((layer, path, names, known, origin))
    if not found:
        return []
    secrets = {text for layer in layers for text in secret_texts(model, layer.values)}
    done = _read_by_a_field(layers, {(id(layer), path) for layer, path, *_, origin in found if origin.kind == "dotenv"})
    result = []
    # A nested class, which reads a file that an outer one reads too, knows the variables with its own prefix.
    for _, _, names, known, origin in sorted(found, key=lambda entry: entry[0].nested is None):
        near = suggest(str(names[-1]), known, most=_MOST_COMPARED // len(found))
        if origin.kind == "dotenv":
            if origin in done or not near:
                continue
            done.add(origin)
        result.append(UnknownKey(keypath.render(visible_path(model, names, secrets)), f"unknown key{near}", origin))
    return result


def _read_by_a_field(layers: Sequence[Layer], unknown: set[tuple[int, KeyPath]]) -> set[Origin]:
    """Return the lines of dotenv files that a field of some class has its value from; nothing where none is unknown."""
    found: set[Origin] = set()
    for layer in layers if unknown else ():
        for path, _ in leaves(layer.values):
            origin = origin_in(layer, path)
            if origin.kind != "dotenv":
                break  # a source of another kind
            if all((id(layer), path[:length]) not in unknown for length in range(1, len(path) + 1)):
                found.add(origin)
    return found


def _unknown(
    shape: Shape, value: Any, path: KeyPath, names: KeyPath
) -> Iterator[tuple[KeyPath, KeyPath, frozenset[str]]]:
    """Yield the path of each unknown key in raw values, the same by names of fields, and the keys that are known."""
    shape = unwrapped(shape)
    if isinstance(value, list):
        for index, item in enumerate(value):
            below, _ = descend(shape, index) or (Shape(), index)
            if any(models_in(below)):
                yield from _unknown(below, item, (*path, index), (*names, index))
    if not isinstance(value, Mapping):
        return
    known = _known(shape.models) if shape.values is None and not shape.opaque else frozenset()
    for key, item in value.items():
        if known and key not in known:
            yield (*path, key), (*names, key), known
        elif type(item) not in SCALARS:
            below, name = descend(shape, key) or (Shape(), key)
            if any(models_in(below)):
                yield from _unknown(below, item, (*path, key), (*names, name))


@cached
def _known(models: tuple[type, ...]) -> frozenset[str]:
    """Return the keys that models read; nothing where they refuse all others, declare them, or have no fields.

    A validator that gets the whole input may read any key.
    """
    decorators = (getattr(model, "__pydantic_decorators__", None) for model in models)
    validators = (one for found in decorators if found is not None for one in found.model_validators.values())
    if any(one.info.mode != "after" for one in validators):
        return frozenset()
    configs = (getattr(model, "model_config", None) or getattr(model, "__pydantic_config__", None) for model in models)
    extras = [extra for model in models if (extra := extra_of(model)) is not None]
    if all((config or {}).get("extra") == "forbid" for config in configs) or not all(one.opaque for one in extras):
        return frozenset()
    fields = [field for model in models for field in fields_of(model).values()]
    return frozenset(str(path[0]) for field in fields for path in field.input_paths)
