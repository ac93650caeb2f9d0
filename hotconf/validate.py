"""Validation: merged values become settings, or every fault at once, each with the place it came from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings

from hotconf import keypath
from hotconf.merge import lookup, origin_in, present
from hotconf.redact import scrub, secrets_in
from hotconf.report import Fault
from hotconf.schema import Shape, fields, spellings, step, suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic_core import ErrorDetails

    from hotconf.keypath import KeyPath
    from hotconf.merge import Merged
    from hotconf.origin import Origin


class Invalid(Exception):  # noqa: N818 - a verdict, turned into a Report by the caller
    """Merged values that no settings can be built from. `faults` has every reason."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(self.faults)


def validate(model: type[BaseModel], merged: Merged) -> Any:
    """Return settings built from merged values alone: nothing is read again here. Raises Invalid.

    A validator of the class may raise anything at all; whatever it is becomes a fault.
    """
    odd = [Fault(str(key), "a key must be a string", merged.origin((key,))) for key in _odd_keys(merged.values)]
    if odd:
        raise Invalid(odd)
    try:
        return _build(model, {**merged.values})
    except ValidationError as error:
        raise Invalid(_faults(model, merged, error)) from None
    except Invalid:
        raise
    except Exception as error:
        message = scrub(f"{type(error).__name__} in a validator: {error}", secrets_in(model, merged.values))
        raise Invalid([Fault("", message)]) from error


def _odd_keys(values: Mapping[Any, Any]) -> list[Any]:
    return [key for key in values if not isinstance(key, str)]


def _build(model: type[BaseModel], values: dict[str, Any]) -> BaseModel:
    if not issubclass(model, BaseSettings):
        validated: BaseModel = model.model_validate(values)
        return validated
    # BaseSettings.__init__ would read the environment again; this is what BaseModel.__init__ does after it.
    settings: BaseModel = model.__new__(model)
    built: object = model.__pydantic_validator__.validate_python(values, self_instance=settings)
    if built is not settings:
        message = f"a validator of {model.__name__} returns another object than the one it was given"
        raise Invalid([Fault("", message)])
    return settings


def _faults(model: type[BaseModel], merged: Merged, error: ValidationError) -> Iterator[Fault]:
    secrets = secrets_in(model, merged.values)
    seen: set[Fault] = set()
    for details in error.errors(include_url=False, include_input=False):
        fault = _fault(model, merged, details, secrets)
        if fault not in seen:
            seen.add(fault)
            yield fault


def _fault(model: type[BaseModel], merged: Merged, details: ErrorDetails, secrets: set[str]) -> Fault:
    at = _input_path(merged.values, details["loc"], absent=details["type"] == "missing")
    message = scrub(_message(model, details, at), secrets)
    path, shown = _field_path(model, at), _origin(merged, at)
    if details["type"] in {"value_error", "assertion_error"}:
        named = _named_field(model, merged, at, message)
        shown = named or shown
    return Fault(scrub(keypath.render(path), secrets), message, shown)


def _input_path(values: Any, location: tuple[int | str, ...], *, absent: bool) -> KeyPath:
    """Return the part of an error's location that the input has; the rest are tags of unions and validators."""
    path: list[int | str] = []
    for key in location[:-1] if absent else location:
        below = lookup(values, (key,))
        if present(below):
            path.append(key)
            values = below
    return (*path, location[-1]) if absent else tuple(path)


def _message(model: type[BaseModel], details: ErrorDetails, at: KeyPath) -> str:
    if details["type"] == "missing":
        return "field required: no source sets it"
    if details["type"] == "extra_forbidden":
        return f"unknown key{suggest(str(at[-1]), _known_keys(model, at[:-1])) if at else ''}"
    text = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return text[:1].lower() + text[1:] if details["type"] not in {"value_error", "assertion_error"} else text


def _shape_at(model: type[BaseModel], path: KeyPath) -> Shape:
    shape = Shape(models=(model,))
    for key in path:
        found = step(shape, key)
        shape = found[0] if found else Shape()
    return shape


def _known_keys(model: type[BaseModel], parent: KeyPath) -> list[str]:
    return [key for nested in _shape_at(model, parent).models for key in spellings(nested)]


def _field_path(model: type[BaseModel], at: KeyPath) -> KeyPath:
    """Return the path by field names: what the rest of the interface calls this place."""
    shape, path = Shape(models=(model,)), list[int | str]()
    for index, key in enumerate(at):
        owner = next((f for m in shape.models for f in fields(m).values() if at[index:] in f.paths), None)
        if owner is not None:
            return (*path, owner.name)
        known = any(key in spellings(nested) for nested in shape.models)
        found = step(shape, key) if known or not shape.models else None
        shape, name = found or (Shape(), key)
        path.append(name)
    return tuple(path)


def _origin(merged: Merged, at: KeyPath) -> Origin | None:
    """Return the place of a path or, where nothing is there, of the nearest thing above it, else the topmost file."""
    found = merged.origin(at)
    if found is not None:
        return found
    for length in range(len(at) - 1, 0, -1):
        # What is missing is best added where a file has the table that it belongs to.
        above = [origin_in(layer, at[:length]) for layer, _ in merged.suppliers(at[:length])]
        if above:
            return next((origin for origin in above if origin.line is not None), above[0])
    roots = (origin_in(layer, ()) for layer in reversed(merged.layers))
    return next((root for root in roots if root.kind == "file"), None)


def _named_field(model: type[BaseModel], merged: Merged, at: KeyPath, message: str) -> Origin | None:
    """Return the place of the first field that a rule over several names, so that the fault points at a line."""
    for nested in _shape_at(model, at).models:
        words = re.findall(r"\w+", message)
        known = spellings(nested)
        for word in words:
            field = known.get(word) or fields(nested).get(word)
            found = merged.origin((*at, field.spellings[0])) if field and field.spellings else None
            if found is not None:
                return found
    return None
