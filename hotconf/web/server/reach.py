"""Reach: from how far away the address can be called that a connection came to."""

from __future__ import annotations

import functools
import ipaddress
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import asyncio

Reach: TypeAlias = Literal["file", "machine", "network"]
"""Through a socket file, from this machine alone, or from others too."""

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def reach_of(transport: asyncio.BaseTransport | None) -> Reach:
    """Return the reach of a connection's own end. One that nothing is known of may come from anywhere."""
    name = transport.get_extra_info("sockname") if transport is not None else None
    if isinstance(name, (str, bytes)):
        return "file"
    return "machine" if name and is_loopback(str(name[0])) else "network"


@functools.lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a host name or address only reaches this machine."""
    if host.lower() in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
