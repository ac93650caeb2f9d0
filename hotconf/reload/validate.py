"""Validation: merged values become settings, or every fault at once, each with the place it came from."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core.core_schema import ErrorType

import hotconf.values.keypath as keypath
from hotconf.errors import Rejected
from hotconf.schema.fields import Field, fields_by_key, fields_of, shape_at, shape_below, suggest, unwrapped
from hotconf.schema.redact import NOTHING_SENT, Sent, scrub, secret_texts, visible_path
from hotconf.schema.settings import Untyped
from hotconf.schema.shape import Shape
from hotconf.sources.construct import Constructor
from hotconf.values.keypath import Key
from hotconf.values.merge import ABSENT, SCALARS, are_scalars, lookup, origin_in
from hotconf.values.report import Fault, MissingField

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    from hotconf.values.keypath import KeyPath
    from hotconf.values.layer import Origin
    from hotconf.values.merge import Merged

_MOST_FAULTS = 1000
"""A file with more of them is of another kind, and reports are kept."""

_MOST_COMPARED = 20_000
"""Unknown keys times known ones, about half a second's work: a file with more of them is not mistyped."""

_BY_RULE = {"value_error", "assertion_error"}
_FIXED = frozenset(get_args(ErrorType)) - {
    *_BY_RULE,
    *("bytes_invalid_encoding", "get_attribute_error", "iteration_error", "json_invalid", "mapping_type"),
    *("union_tag_invalid", "url_parsing", "url_syntax_violation", "uuid_parsing"),
}
"""Kinds whose message holds nothing of a value. A secret `integer` is no part of `should be a valid integer`."""

_UNKNOWN_KEY = {"extra_forbidden", "unexpected_keyword_argument"}


def validate(
    model: type[BaseModel], merged: Merged, constructor: Constructor | None = None, *, sent: Sent = NOTHING_SENT
) -> Any:
    """Return settings built from merged values alone: nothing is read again here.

    The settings share nothing with the layers. A validator of the class may raise anything at all; it becomes a fault,
    which quotes nothing that a client has `sent`.

    Raises:
        Rejected: No settings can be built from the values. It has every fault at once.
    """
    values = _copy(merged.given, itself=not issubclass(model, Untyped))
    try:
        return (constructor or Constructor(model)).build(values, merged.layers)
    except (Rejected, KeyboardInterrupt):
        raise
    except ValidationError as error:
        raise Rejected(_faults(model, merged, error, sent)) from None
    except BaseException as error:  # noqa: BLE001 - a validator may even call sys.exit()
        frames = traceback.extract_tb(error.__traceback__)
        where = f" ({frames[-1].name})" if frames else ""
        text = ""
        with contextlib.suppress(Exception):  # the error of a validator is as foreign as its code
            text = str(error)
        message = f"{type(error).__name__} in a validator{where}{': ' if text else ''}{text}"
        raise Rejected([Fault("", sent.hide(scrub(message, secret_texts(model, merged.values))))]) from None


def _copy(value: Any, *, itself: bool) -> Any:
    """Copy containers, so that a validator which edits its input does not edit the layers, which are used again.

    With `itself` a key that is no string is the key itself, and no longer its text.
    """
    if isinstance(value, (dict, Mapping)):
        if itself and Key in map(type, value):
            value = {key.value if isinstance(key, Key) else key: item for key, item in value.items()}
        if type(value) is dict and are_scalars(value.values()):
            return value.copy()
        return {key: item if type(item) in SCALARS else _copy(item, itself=itself) for key, item in value.items()}
    if isinstance(value, list):
        return [item if type(item) in SCALARS else _copy(item, itself=itself) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class _Problem:
    """One of pydantic's errors: the path of its place in the input, and its message.

    `branches` are the members of unions that it belongs to, each with the length of the path at which the union stands.
    """

    at: KeyPath
    message: str
    kind: str
    branches: tuple[tuple[int, str], ...] = ()


def _faults(model: type[BaseModel], merged: Merged, error: ValidationError, sent: Sent) -> Iterator[Fault]:
    errors = error.errors(include_url=False, include_input=False)
    root = _raised_at(model, merged, error)
    for details in errors if root else ():
        details["loc"] = (*root, *details["loc"])
    problems = [_problem(model, merged.values, details, among=len(errors)) for details in errors]
    secrets = secret_texts(model, merged.values)
    found: dict[Fault, None] = {}
    for problem in _settled(problems):
        names = _field_path(model, problem.at)
        if problem.kind in _UNKNOWN_KEY:  # it may be the alias of a field that has its value from elsewhere
            names = (*names[:-1], *problem.at[-1:])
        path = keypath.render(visible_path(model, names, secrets, shown=sent.keys))
        kind = MissingField if problem.kind == "missing" else Fault
        is_fixed = problem.kind in _FIXED
        message = problem.message if is_fixed else sent.hide(scrub(problem.message, secrets))
        found[kind(path, message, _origin(model, merged, problem))] = None
    yield from islice(found, _MOST_FAULTS)
    if len(found) > _MOST_FAULTS:
        yield Fault("", f"and {len(found) - _MOST_FAULTS} more faults")


def _raised_at(model: type[BaseModel], merged: Merged, error: ValidationError) -> KeyPath:
    """Return the path of the nested settings class that raised an error when code constructed it; else the root."""
    if error.title == model.__pydantic_validator__.title:
        return ()
    nested = (layer.nested for layer in merged.layers if layer.nested is not None and layer.nested.path is not None)
    paths = {at.path for at in nested if at.record.cls.__pydantic_validator__.title == error.title}
    return (paths.pop() or ()) if len(paths) == 1 else ()


def _problem(model: type[BaseModel], values: Any, details: ErrorDetails, *, among: int) -> _Problem:
    """Tell apart what a location is made of: keys of the input, fields that it lacks, members of unions.

    `among` is how many problems there are.
    """
    shape, at, branches = Shape(models=(model,)), list[int | str](), list[tuple[int, str]]()
    location, missing = details["loc"], details["type"] == "missing"
    for index, part in enumerate(location):
        key = _key_named(values, part)
        inner = lookup(values, (key,))
        if inner is not ABSENT:
            at.append(key)
            shape, values = shape_below(shape, key), inner
            continue
        is_field = any(path[0] == key for field in _fields_in(shape) for path in field.input_paths)
        if is_field or (missing and key == location[-1]):
            at += location[index:]
            break
        if key != "[key]":
            branches.append((len(at), str(key)))
    message = _message(model, details, tuple(at), among=among)
    if location[-1:] == ("[key]",):
        message = f"the key: {message}"
    return _Problem(tuple(at), message, details["type"], tuple(branches))


def _key_named(values: Any, part: int | str) -> Any:
    """Return the key of a mapping that a part of a location stands for: pydantic writes some keys as their repr."""
    if isinstance(values, Mapping) and part not in values:
        odd = ((key, key.value if isinstance(key, Key) else key) for key in values if type(key) is not str)
        return next((key for key, itself in odd if part in (itself, repr(itself))), part)
    return part


def _message(model: type[BaseModel], details: ErrorDetails, at: KeyPath, *, among: int) -> str:
    if details["type"] == "missing":
        name, key = list(_field_steps(model, at))[-1]
        return f"field required: no source sets {'it' if key == (name,) else keypath.render(key)}"
    if details["type"] in _UNKNOWN_KEY:
        known = [str(path[0]) for field in _fields_in(shape_at(model, at[:-1])) for path in field.input_paths]
        if at and at[-1] in known:
            return "another spelling of this field is used as well, and only one counts"
        return f"unknown key{suggest(str(at[-1]), known, most=_MOST_COMPARED // among) if at else ''}"
    if details["type"] == "invalid_key":
        return "a key must be a string"
    text = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    own_words = details["type"] in _BY_RULE or text[:2].isupper()  # a rule's, or an abbreviation such as JSON
    return text if own_words else text[:1].lower() + text[1:]


def _settled(problems: Sequence[_Problem]) -> list[_Problem]:
    """Return the problems of one member of each union: the one that fits best, or all in one where none does better.

    A member whose problem is the kind of the value as a whole says nothing where another member was right about the
    kind and has a problem further down.
    """
    result: list[_Problem] = []
    unions: dict[KeyPath, dict[str, list[_Problem]]] = {}
    for problem in problems:
        if not problem.branches:
            result.append(problem)
            continue
        (length, member), *rest = problem.branches
        union = unions.setdefault(problem.at[:length], {})
        union.setdefault(member, []).append(replace(problem, branches=tuple(rest)))
    for at, union in unions.items():
        members = [_settled(member) for member in union.values()]
        deeper = [member for member in members if all(len(problem.at) > len(at) for problem in member)] or members
        fewest = min(len(member) for member in deeper)
        best = [member for member in deeper if len(member) == fewest]
        if len(best) == 1:
            result += best[0]
        else:
            texts = ["; ".join(_relative(problem, at) for problem in member) for member in best]
            missing = all(problem.kind == "missing" for member in best for problem in member)
            result.append(_Problem(at, "; or ".join(dict.fromkeys(texts)), "missing" if missing else "union"))
    return result


def _relative(problem: _Problem, at: KeyPath) -> str:
    below = keypath.render(problem.at[len(at) :])
    return f"{below}: {problem.message}" if below else problem.message


def _field_path(model: type[BaseModel], at: KeyPath) -> KeyPath:
    """Return the path by field names: what the rest of the interface calls this place."""
    return tuple(name for name, _ in _field_steps(model, at))


def _field_steps(model: type[BaseModel], at: KeyPath) -> Iterator[tuple[int | str, KeyPath]]:
    """Yield each field on a path in the input by its name, with the keys that lead to it."""
    shape = Shape(models=(model,))
    while at:
        places = ((field, place) for field in _fields_in(shape) for place in field.input_paths)
        field, place = next(((field, place) for field, place in places if at[: len(place)] == place), (None, at[:1]))
        yield field.name if field is not None else at[0], place
        shape, at = field.shape if field is not None else shape_below(shape, at[0]), at[len(place) :]


def _fields_in(shape: Shape) -> list[Field]:
    return [field for model in unwrapped(shape).models for field in fields_of(model).values()]


def _origin(model: type[BaseModel], merged: Merged, problem: _Problem) -> Origin | None:
    """Return the place to mend: of the problem or, where nothing is there, of the nearest thing above it.

    A rule over several fields has the place of the first that its message names, so that the fault points at a line.
    """
    at = problem.at
    for nested in unwrapped(shape_at(model, at)).models if problem.kind in _BY_RULE else ():
        for word in re.findall(r"\w+", problem.message):
            field = fields_by_key(nested).get(word) or fields_of(nested).get(word)
            places = field.input_paths if field is not None else ()
            named = next((o for place in places if (o := merged.origin((*at, *place))) is not None), None)
            if named is not None:
                return named
    # The whole has no place of its own: the strongest source may be one that has nothing to do with it.
    found = merged.origin(at) if at else None
    if found is not None:
        return found
    for length in range(len(at) - 1, 0, -1):
        # What is missing is best added where a file has the table that it belongs to.
        above = [origin_in(layer, at[:length]) for layer, _ in merged.suppliers(at[:length])]
        if above:
            return next((origin for origin in above if origin.line is not None), above[0])
    roots = (origin_in(layer, ()) for layer in reversed(merged.layers))
    return next((root for root in roots if root.kind == "file"), None)
