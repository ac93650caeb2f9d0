"""Patches: what PATCH asks for, a JSON merge patch (RFC 7396) over the values of the overlay.

| the patch has | the overlay then has |
|---------------|----------------------|
| an object     | the same object, patched key by key |
| null          | the key no more: the value is taken back, and whatever lies below shows again |
| anything else | that, a list as a whole |

Where the RFC would leave an empty object behind, what is left is nothing: an empty object is there only where a patch
says so. It turns an optional section on, with all its defaults.

Keys are names of fields, as documents show them, or any spelling that the class accepts; the overlay has the canonical
one, so that taking back by another spelling takes back the same value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import hotconf.values.keypath as keypath
from hotconf.errors import Rejected
from hotconf.schema.fields import descend, fields_by_key, fields_of, shape_at, shape_below, suggest, unwrapped
from hotconf.schema.redact import masked_paths
from hotconf.schema.shape import Shape
from hotconf.schema.tree import is_list
from hotconf.values.report import Fault
from hotconf.values.secrets import Secrecy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hotconf.values.keypath import KeyPath

_NOT_HERE = "secrets are not written through the API: keep them in a secret file or a manager"
_IN_OVERLAY = "the overlay holds a secret, which would have to be written again: move it to a secret file or a manager"
_IN_LIST = "this field is read from inside a list, so it cannot be patched by itself"
_TWICE = "the patch has this field twice, in two spellings"
_ODD_KEY = "a key must be a string"
_TOO_DEEP = "nested too deeply"

_MOST_COMPARED = 1000
"""Fields among which a near one is looked for, fewer with each fault: a patch is looked at on the event loop."""


def merge_patch(model: type, values: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a patch makes of overlay values, whose keys are canonical. Neither of the two is changed.

    Raises Rejected with every reason: a key that the class does not have, a secret in the patch or in what would
    be written, a field without a place of its own.
    """
    faults: dict[KeyPath, str] = {}
    result: dict[str, Any] = {}
    try:
        spelt = _spelt(Shape(models=(model,)), patch, (), faults)
        faults = {**dict.fromkeys(_secrets_touched(model, patch), _NOT_HERE), **faults}
        result = _applied(values, spelt) or {}
        faults = faults or dict.fromkeys(masked_paths(model, result), _IN_OVERLAY)
    except RecursionError:
        faults = {(): _TOO_DEEP}
    if faults:
        raise Rejected(Fault(keypath.render(path), reason) for path, reason in faults.items())
    return result


def _applied(target: Any, patch: Any) -> Any:
    """Return what a patch makes of a value, None for nothing at all."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, change in patch.items():
        value = None if change is None else _applied(result.get(key), change)
        if value is None:
            result.pop(key, None)
        else:
            result[key] = value
    return result if result or not patch else None


def _secrets_touched(model: type, patch: Mapping[str, Any]) -> Iterator[KeyPath]:
    """Yield the places of the secrets that a patch sets, and of those that it takes back."""
    yield from masked_paths(model, patch)
    yield from (path for path in _nulls(patch) if shape_at(model, path).secrecy is Secrecy.ALL)


def _nulls(patch: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    if patch is None:
        yield path
    elif isinstance(patch, Mapping):
        for key, change in patch.items():
            yield from _nulls(change, (*path, keypath.key_text(key)))


def _spelt(shape: Shape, value: Any, path: KeyPath, faults: dict[KeyPath, str]) -> Any:
    """Return a value of a patch with canonical keys, of containers that are its own; note what stands against it."""
    if is_list(value):
        return [_spelt(shape_below(shape, index), item, (*path, index), faults) for index, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    result: dict[str, Any] = {}
    for key, item in value.items():
        at = (*path, key)
        fault = _ODD_KEY if not isinstance(key, str) else None
        if fault is None and item is not None:
            fault = _unknown(shape, key, among=len(faults) + 1)
        if fault is None:
            fault = _put(result, _place(shape, key), _spelt(shape_below(shape, key), item, at, faults))
        if fault is not None:
            faults[at] = fault
    return result


def _unknown(shape: Shape, key: str, *, among: int) -> str | None:
    """Return what to say of a key that no settings have. Where nothing is known of any key, validation will say it.

    `among` is how many faults there are by now.
    """
    known = [field for model in unwrapped(shape).models for field in fields_of(model).values()]
    if (
        not known
        or descend(shape, key) is not None
        or any(place[0] == key for field in known for place in field.input_paths)
    ):
        return None
    return f"unknown key{suggest(key, [field.name for field in known], most=_MOST_COMPARED // among)}"


def _place(shape: Shape, key: str) -> KeyPath:
    """Return where the sources have what documents show under a key: its canonical spelling, or an AliasPath.

    Where the members of a union disagree, the key stands as it is.
    """
    named = [fields_of(model).get(key) or fields_by_key(model).get(key) for model in unwrapped(shape).models]
    places = {field.keys[:1] or field.alias_paths[0] for field in named if field is not None and field.input_paths}
    return places.pop() if len(places) == 1 else (key,)


def _put(values: dict[str, Any], place: KeyPath, value: Any) -> str | None:
    """Put a value at a place. Returns what stands against it."""
    if any(isinstance(key, int) for key in place):
        return _IN_LIST
    *parents, last = place
    inner: Any = values
    for key in parents:
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            return _TWICE
    if last in inner:
        return _TWICE
    inner[last] = value
    return None
