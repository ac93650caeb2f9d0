"""Safety: who may ask at all. Loopback needs no token; a browser elsewhere never gets through."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web
from yarl import URL

from hotconf.web.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp.typedefs import Handler, Middleware

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_FREE = ("/healthz", "/readyz")


@dataclass(frozen=True, slots=True)
class Safety:
    """What a request must show: a Host that is ours, and a bearer token where there is one.

    `hosts` are names beyond loopback that clients may use for us. `/healthz` and `/readyz` are free of both, since a
    kubelet knows neither.
    """

    hosts: frozenset[str] = frozenset()
    token: str | None = None

    @classmethod
    def read(cls, *, token_file: str | Path | None, hosts: Iterable[str] = ()) -> Safety:
        """Build it with the token that a file holds. Raises OSError, and ValueError for an empty token."""
        token = Path(token_file).read_text(encoding="utf-8").strip() if token_file else None
        if token == "":
            raise ValueError(f"{token_file} is empty: it must hold a token")
        return cls(frozenset(host.lower() for host in hosts), token)

    def check_bind(self, host: str) -> None:
        """Raise ValueError where an address is bound that others can reach and no token protects it."""
        if not self.token and not is_loopback(host):
            raise ValueError(f"{host} can be reached from other machines: that needs --token-file")

    def middleware(self) -> Middleware:
        """Return the middleware that refuses what must not pass."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path not in _FREE:
                self._check_host(request)
                self._check_origin(request)
                self._check_token(request)
            return await handler(request)

        return check

    def _check_host(self, request: web.Request) -> None:
        if _peer_is_socket_file(request):
            return
        host = _host_name(request.headers.get("Host", ""))
        if host not in self.hosts and not is_loopback(host):
            advice = "call it by a loopback name, or allow this one with --allow-host"
            raise Problem(HTTPStatus.FORBIDDEN, f"the Host of this request is not ours: {advice}")

    def _check_origin(self, request: web.Request) -> None:
        site = request.headers.get("Sec-Fetch-Site", "none")
        origin = request.headers.get("Origin")
        own = origin is None or URL(origin).authority == URL(f"http://{request.headers.get('Host', '')}").authority
        if site not in ("none", "same-origin") or not own:
            raise Problem(HTTPStatus.FORBIDDEN, "another site's page sent this request: only our own pages may")

    def _check_token(self, request: web.Request) -> None:
        if self.token is None:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode(), self.token.encode())
        if scheme.lower() != "bearer" or not same:
            headers = {"WWW-Authenticate": "Bearer"}
            raise Problem(HTTPStatus.UNAUTHORIZED, "send the token as `Authorization: Bearer …`", headers=headers)


def is_loopback(host: str) -> bool:
    """Whether a host name or address only reaches this machine."""
    if host.lower() in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _host_name(header: str) -> str:
    try:
        return (URL(f"http://{header}").host or "").lower()
    except ValueError:
        return ""


def _peer_is_socket_file(request: web.Request) -> bool:
    name = request.transport.get_extra_info("sockname") if request.transport else None
    return isinstance(name, str)
