"""Safety: which requests are answered at all. Loopback needs no token; a page of another site is never answered."""

from __future__ import annotations

import functools
import hmac
import ipaddress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

from yarl import URL

from hotconf.api.exchange import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Reach: TypeAlias = Literal["file", "machine", "network"]
"""Where the clients of an address can be: behind a socket file, on this machine, or on other machines too."""

_FREE = ("/healthz", "/readyz")  # under any prefix
_FREE_WITH_METRICS = (*_FREE, "/metrics")
_FOREIGN_HOST = "this Host is not allowed: use a loopback name, or allow it with --allow-host"
_OPEN_TO_ALL = "this address can be reached from other machines, and no token protects it: use a loopback address"


@dataclass(frozen=True, slots=True)
class Safety:
    """What a request must show: a Host that is allowed, and a bearer token where there is one.

    Without a token nothing is answered that came to an address which other machines can reach, whatever its Host says.
    `hosts` are names beyond loopback that clients may use. `known_as` is the token's name in the audit log.
    `/healthz` and `/readyz` are free of both, since a kubelet knows neither; with `open_metrics`, `/metrics` is too.
    """

    hosts: frozenset[str] = frozenset()
    token: str | None = field(default=None, repr=False)
    known_as: str = "bearer"
    open_metrics: bool = False

    @classmethod
    def read(cls, *, token_file: str | Path | None, hosts: Iterable[str] = (), open_metrics: bool = False) -> Self:
        """Build it with the token that a file holds, which is named as the file is.

        Raises:
            ValueError: The file holds no token, or one of `hosts` is not a host name.
        """
        allowed = set[str]()
        for name in hosts:
            host = _host_name(f"[{name}]" if name.count(":") > 1 and "[" not in name else name)
            if not host:
                raise ValueError(f"{name!r} is not a host name")
            allowed.add(host)
        if not token_file:
            return cls(frozenset(allowed), open_metrics=open_metrics)
        path = Path(token_file)
        try:
            token = path.read_text(encoding="utf-8").strip()
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not UTF-8 text: it must hold a token") from None
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}: it must hold a token") from None
        if not token:
            raise ValueError(f"{path} is empty: it must hold a token")
        return cls(frozenset(allowed), token, path.name, open_metrics)

    def check_bind(self, host: str) -> None:
        """Check an address before it is bound.

        Raises:
            ValueError: Other machines can reach it and no token protects it.
        """
        if not self.token and not is_loopback(host):
            raise ValueError(f"{host} can be reached from other machines: that needs --token-file")

    def check(
        self, header: Callable[[str], str | None], *, reach: Reach, endpoint: str | None, holds_no_data: bool = False
    ) -> str | None:
        """Check a request, and return the name of the token that it showed; None where none is asked for.

        Args:
            header: Returns a header of the request.
            reach: That of the address to which the request came.
            endpoint: The path of the route, placeholders unfilled: below /config there may be a key named healthz.
            holds_no_data: Whether the response is the same for every client: a page, to which links lead, and its
                files. A browser cannot send a token when it opens a page, so none is asked for; the Host still is.

        Raises:
            Problem: The request is refused.
        """
        if endpoint is not None and endpoint.endswith(_FREE_WITH_METRICS if self.open_metrics else _FREE):
            return None
        if reach == "network" and self.token is None:
            raise Problem(HTTPStatus.FORBIDDEN, _OPEN_TO_ALL)
        host = header("Host") or ""
        name = _host_name(host)
        if reach != "file" and not (name in self.hosts or is_loopback(name)):
            raise Problem(HTTPStatus.FORBIDDEN, _FOREIGN_HOST)
        if holds_no_data:
            return None
        # Only browsers send these two.
        site, origin = header("Sec-Fetch-Site"), header("Origin")
        # With the origin's own scheme: behind a proxy that ends TLS the page is https, and this request is not.
        page = origin and _place(origin)
        own = origin is None or (page and page == _place(f"{origin.partition(':')[0]}://{host}"))
        if site not in (None, "none", "same-origin") or not own:
            raise Problem(HTTPStatus.FORBIDDEN, "a page of another site sent this request")
        if self.token is None:
            return None
        scheme, _, given = (header("Authorization") or "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self.token.encode())
        if scheme.lower() != "bearer" or not same:
            headers = {"WWW-Authenticate": "Bearer"}
            raise Problem(HTTPStatus.UNAUTHORIZED, "send the token as `Authorization: Bearer …`", headers=headers)
        return self.known_as


@functools.lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a host name or address reaches only this machine."""
    if host.lower() in ("localhost", "127.0.0.1", "::1"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@functools.lru_cache(maxsize=256)  # clients send the same few Host headers, and parsing one is slow
def _host_name(header: str) -> str:
    """Return the name in a Host header, in lower case; the empty string where it is no host."""
    place = None if set("/?#@\\ \t") & set(header) else _place(f"http://{header}")
    return place[0] if place else ""


def _place(url: str) -> tuple[str, int | None] | None:
    """Return host and port of a URL; None for what is no URL, such as the origin `null`."""
    try:
        host, port = URL(url).host, URL(url).port
    except ValueError:
        return None
    name = (host or "").lower().removesuffix(".")  # localhost. is localhost
    return (name, port) if name else None
