"""What may be written to disk of the values of a settings class: all but secrets, as JSON."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from hotconf.schema.redact import masked_paths
from hotconf.schema.tree import is_list
from hotconf.values.secrets import credentials_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hotconf.values.keypath import KeyPath


def storable(model: type, values: Mapping[Any, Any], settings: Any = None) -> tuple[Any, list[KeyPath]]:
    """Return values in the types of JSON, without secrets, and the places whose values were left out.

    A list that holds a secret is left out as a whole, since its items have no identity by which a newer list could
    supply the secret.

    Args:
        model: The settings class.
        values: With canonical keys.
        settings: What was built from them: they tell of secrets that the schema does not name.

    Raises:
        PydanticSerializationError: A value is of a type that JSON cannot hold.
        ValueError: They are nested too deeply, or contain themselves.
        RecursionError: The same.
    """
    omitted = dict.fromkeys(_above_lists(values, path) for path in masked_paths(model, values, within=settings))
    return as_json(_without(values, set(omitted))), list(omitted)


def as_json(value: Any) -> Any:
    """Return a value in the types of JSON; infinity and NaN stay what they are."""
    return to_jsonable_python(value, inf_nan_mode="constants")


def checksum(content: Mapping[str, Any]) -> str:
    """Return a checksum of values, and not of their text: a file that was only reformatted is not damaged."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def _above_lists(values: Any, path: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return as much of a path as leads to no list, or to the first, and to no key that is a URL with credentials."""
    for depth, key in enumerate(path):
        if is_list(values) or (depth and credentials_in(str(key))):
            return path[:depth]
        values = values[key]
    return path


def _without(values: Mapping[Any, Any], omitted: set[KeyPath]) -> Mapping[Any, Any]:
    """Return values without those at some places. What is left empty stays, so that a value can be put back."""
    heads = {path[0] for path in omitted}
    result = dict(values)
    for key in heads:
        below = {path[1:] for path in omitted if path[0] == key}
        if () in below:
            del result[key]
        else:
            result[key] = _without(values[key], below)
    return result
