"""Placeholders: values that may satisfy a JSON Schema."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hotconf.jsonschema import resolved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hotconf.jsonschema import Node

TEXT = "change-me"

_BY_FORMAT = {
    "date-time": "2030-01-31T12:00:00Z",
    "date": "2030-01-31",
    "time": "12:00:00",
    "duration": "PT1M",
    "email": "name@example.com",
    "name-email": "Name <name@example.com>",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "ipvanyaddress": "127.0.0.1",
    "ipv4interface": "127.0.0.1/8",
    "ipv6interface": "::1/128",
    "ipvanyinterface": "127.0.0.1/8",
    "ipv4network": "10.0.0.0/8",
    "ipv6network": "fe80::/64",
    "ipvanynetwork": "10.0.0.0/8",
    "json-string": "{}",
    "regex": ".*",
    "file-path": "/dev/null",
    "directory-path": "/tmp",  # noqa: S108 - any folder that exists
    "password": "",
}
_SCHEMES = ("https", "postgresql", "mysql", "redis", "amqp", "mongodb", "kafka", "nats", "file", "ws", "ftp")
_GUESSES: tuple[Any, ...] = (
    TEXT,
    "",
    1,
    0,
    0.5,
    False,
    [],
    {},
    "127.0.0.1",
    "2030-01-31",
    "https://localhost",
    "0",
    "1",
    "a",
    "A",
)
"""What a validator of the class or a pattern may accept, where the schema does not tell."""

_DEEPEST = 4
_LOWER, _UPPER = {"minimum": 0, "exclusiveMinimum": 1}, {"maximum": 0, "exclusiveMaximum": -1}


def candidates(node: Node, *, filled: bool = False) -> Iterator[Any]:
    """Yield values that may satisfy a schema, the most likely first, and at the end the guesses.

    With `filled`, lists and tables that may be empty have an item in the first of them.
    """
    seen: list[Any] = []
    if filled:
        least = {"minItems": max(1, node.get("minItems", 0)), "minProperties": 1}
        choices = {
            key: [{**resolved(one, node), **least} for one in node[key]] for key in ("anyOf", "oneOf") if key in node
        }
        node = {**node, **least, **choices}
    for value in itertools.chain(_fitting(node, depth=0), _GUESSES):
        if not any(value == known and type(value) is type(known) for known in seen):
            seen.append(value)
            yield value


def _fitting(node: Node, *, depth: int) -> Iterator[Any]:
    if depth > _DEEPEST:
        return
    yield from node.get("examples", ())
    yield from node.get("enum", ())
    if "const" in node:
        yield node["const"]
    for choice in (*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
        yield from _fitting(resolved(choice, node), depth=depth + 1)
    match node.get("type"):
        case "string":
            yield from _texts(node)
        case "integer" | "number" as kind:
            yield from _numbers(node, whole=kind == "integer")
        case "boolean":
            yield from (False, True)
        case "array":
            yield from _lists(node, depth)
        case "object":
            yield from _tables(node, depth)


def _texts(node: Node) -> Iterator[str]:
    form = node.get("format", "")
    if form in _BY_FORMAT:
        yield _BY_FORMAT[form]
    if form in ("uri", "multi-host-uri", "url"):
        yield from (f"{scheme}://localhost/name" for scheme in _SCHEMES)
    shortest, longest = node.get("minLength", 0), node.get("maxLength", len(TEXT))
    yield TEXT.ljust(shortest, "-")[: max(longest, shortest)]
    yield from (letter * max(shortest, 1) for letter in ("a", "A", "0", "1"))


def _numbers(node: Node, *, whole: bool) -> Iterator[int | float]:
    step = node.get("multipleOf", 1)
    low = [node[key] + step * offset for key, offset in _LOWER.items() if key in node]
    high = [node[key] + step * offset for key, offset in _UPPER.items() if key in node]
    found: list[Any] = [0, step, *low, *high]
    found += [-(-edge // step) * step for edge in low] + [edge // step * step for edge in high]
    edges = [node[key] for key in (*_LOWER, *_UPPER) if key in node]
    found += [sum(edges) / 2] if len(edges) == 2 else []
    if whole:
        yield from (int(value) for value in found if value == int(value))
    else:
        yield from (float(value) for value in found)


def _lists(node: Node, depth: int) -> Iterator[list[Any]]:
    head = [next(_any_of(resolved(item, node), depth), TEXT) for item in node.get("prefixItems", ())]
    least = max(node.get("minItems", 0) - len(head), 0)
    kinds = _any_of(resolved(node.get("items") or {}, node), depth) if least else iter(())
    if node.get("uniqueItems") or not least:
        yield [*head, *itertools.islice(kinds, least)]
    else:
        yield from ([*head, *[item] * least] for item in itertools.islice(kinds, 8))


def _tables(node: Node, depth: int) -> Iterator[dict[str, Any]]:
    properties, inner = node.get("properties", {}), node.get("additionalProperties")
    # What only one value is allowed for may tell the members of a union apart.
    names = dict.fromkeys((*node.get("required", ()), *(name for name, one in properties.items() if "const" in one)))
    table = {name: next(_any_of(resolved(properties.get(name, {}), node), depth), TEXT) for name in names}
    found = [table]
    if isinstance(inner, Mapping):
        found.append({**table, "name": next(_any_of(resolved(inner, node), depth), TEXT)})
    yield from reversed(found) if node.get("minProperties") else found


def _any_of(node: Node, depth: int) -> Iterator[Any]:
    return itertools.chain(_fitting(node, depth=depth + 1), _GUESSES)
