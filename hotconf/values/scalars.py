"""Atoms: values that hold no others.

Nearly all values of a configuration are atoms, and nearly all sections hold nothing else. So sections are looked at as
wholes, in C: a step of Python for each of ten thousand values is what a reload of them would mostly consist of.
"""

from __future__ import annotations

import marshal
import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

ATOMS = frozenset({str, int, float, bool, type(None)})


def are_scalars(values: Iterable[Any]) -> bool:
    """Whether values are all atoms."""
    return ATOMS.issuperset(map(type, values))


def same_atoms(old: Any, new: Any) -> bool:
    """Whether two dictionaries, or two lists, hold the very same atoms and nothing else.

    Their order, types and the sign of zero included; a NaN is the same as itself.
    """
    if new.__class__ is not old.__class__:
        return False
    if new.__class__ is dict:
        return _are_same([*old, *old.values()], [*new, *new.values()])
    return new.__class__ is list and _are_same(old, new)


def _are_same(old: list[Any], new: list[Any]) -> bool:
    # Of other types marshal knows some all too well: it writes an array as its bytes.
    if not are_scalars(new):
        return False
    if len(old) == len(new) and all(map(operator.is_, old, new)):
        return True
    try:
        # Later versions than 2 write references, which tell objects apart that are equal.
        return marshal.dumps(old, 2) == marshal.dumps(new, 2)
    except ValueError:  # something else is among the old ones
        return False
