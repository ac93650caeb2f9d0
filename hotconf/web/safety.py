"""Safety: who may ask at all. Loopback needs no token; a browser elsewhere never gets through."""

from __future__ import annotations

import functools
import hmac
import ipaddress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from aiohttp import web
from yarl import URL

from hotconf.web.problem import Problem, refusal

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from aiohttp.typedefs import Handler, Middleware

Reach: TypeAlias = Literal["file", "machine", "network"]
"""Where the clients of an address can be: behind a socket file, on this machine, or on other machines too."""

_FREE = ("/healthz", "/readyz")  # under any prefix
_FREE_WITH_METRICS = (*_FREE, "/metrics")
_FOREIGN_HOST = "the Host of this request is not ours: call it by a loopback name, or allow this one with --allow-host"
_OPEN_TO_ALL = (
    "this address can be reached from other machines, and no token protects it: call it by a loopback address"
)


@dataclass(frozen=True, slots=True)
class Safety:
    """What a request must show: a Host that is ours, and a bearer token where there is one.

    Without a token nothing is answered that came to an address which others can reach, whatever its Host says.
    `hosts` are names beyond loopback that clients may use for us. `known_as` is what the audit log calls the token.
    `/healthz` and `/readyz` are free of both, since a kubelet knows neither; with `open_metrics`, `/metrics` is too.
    """

    hosts: frozenset[str] = frozenset()
    token: str | None = field(default=None, repr=False)
    known_as: str = "bearer"
    open_metrics: bool = False

    @classmethod
    def read(cls, *, token_file: str | Path | None, hosts: Iterable[str] = (), open_metrics: bool = False) -> Safety:
        """Build it with the token that a file holds, which is named as the file is.

        Raises ValueError for a file that holds no token, and for a name that no host can have.
        """
        allowed = frozenset(_allowed(host) for host in hosts)
        if not token_file:
            return cls(allowed, open_metrics=open_metrics)
        path = Path(token_file)
        return cls(allowed, _read_token(path), path.name, open_metrics)

    def check_bind(self, host: str) -> None:
        """Raise ValueError where an address is bound that others can reach and no token protects it."""
        if not self.token and not is_loopback(host):
            raise ValueError(f"{host} can be reached from other machines: that needs --token-file")

    def middleware(self) -> Middleware:
        """Return the middleware that refuses what must not pass, with a problem document, as `problems` has them."""
        # Clients send the same few Host headers again and again, and parsing one is dear.
        is_ours = functools.lru_cache(maxsize=256)(self._is_ours)

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                if not self._is_free(request):
                    self._check(request, is_ours)
                return await handler(request)
            except Exception as error:  # noqa: BLE001 - what is no refusal is raised again
                return refusal(error)

        return check

    def _check(self, request: web.Request, is_ours: Callable[[str], bool]) -> None:
        reach = reach_of(request.transport)
        if reach == "network" and self.token is None:
            raise Problem(HTTPStatus.FORBIDDEN, _OPEN_TO_ALL)
        if reach != "file" and not is_ours(request.headers.get("Host", "")):
            raise Problem(HTTPStatus.FORBIDDEN, _FOREIGN_HOST)
        if not getattr(request.match_info.handler, "holds_no_data", False):
            self._check_origin(request)
            self._check_token(request)

    def _is_free(self, request: web.Request) -> bool:
        # By the route and not by the path: below /config there may be a key of that name.
        resource = request.match_info.route.resource
        free = _FREE_WITH_METRICS if self.open_metrics else _FREE
        return resource is not None and resource.canonical.endswith(free)

    def _is_ours(self, header: str) -> bool:
        host = _host_name(header)
        return host in self.hosts or is_loopback(host)

    def _check_origin(self, request: web.Request) -> None:
        if "Origin" not in request.headers and "Sec-Fetch-Site" not in request.headers:
            return  # no browser
        site = request.headers.get("Sec-Fetch-Site", "none")
        origin = request.headers.get("Origin")
        own = origin is None or _same_place(origin, request.headers.get("Host", ""))
        if site not in ("none", "same-origin") or not own:
            raise Problem(HTTPStatus.FORBIDDEN, "another site's page sent this request: only our own pages may")

    def _check_token(self, request: web.Request) -> None:
        if self.token is None:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self.token.encode())
        if scheme.lower() != "bearer" or not same:
            headers = {"WWW-Authenticate": "Bearer"}
            raise Problem(HTTPStatus.UNAUTHORIZED, "send the token as `Authorization: Bearer …`", headers=headers)
        request[_TOKEN] = self.known_as


_TOKEN = web.RequestKey("token", str)


def token_name(request: web.Request) -> str | None:
    """Return the name of the token that a request showed, None where none was asked for."""
    return request.get(_TOKEN)


def holds_no_data(handler: Handler) -> Handler:
    """Mark a handler whose answer is the same for everybody: a page, which links lead to, and its files.

    Such a handler answers without a token, which a browser cannot send when it opens a page. The Host is still checked.
    """
    handler.holds_no_data = True  # type: ignore[attr-defined]
    return handler


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no UTF-8 text: it must hold a token") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}: it must hold a token") from None
    if not token:
        raise ValueError(f"{path} is empty: it must hold a token")
    return token


def _allowed(name: str) -> str:
    host = _host_name(f"[{name}]" if name.count(":") > 1 and "[" not in name else name)
    if not host:
        raise ValueError(f"{name!r} is no host name that could be allowed")
    return host


def _host_name(header: str) -> str:
    """Return the name in a Host header, in lower case; the empty string for what is none."""
    place = None if set("/?#@\\ \t") & set(header) else _place(f"http://{header}")
    return place[0] if place else ""


def _same_place(origin: str, host: str) -> bool:
    # With the origin's own scheme: behind a proxy that ends TLS the page is https, and this request is not.
    place = _place(origin)
    return place is not None and place == _place(f"{origin.partition(':')[0]}://{host}")


def _place(url: str) -> tuple[str, int | None] | None:
    """Return host and port of a URL; None for what is none, such as the origin `null`."""
    try:
        parsed = URL(url)
        return (parsed.host.lower(), parsed.port) if parsed.host else None
    except ValueError:
        return None


def reach_of(transport: asyncio.BaseTransport | None) -> Reach:
    """Return the reach of the address to which a client connected. An unknown address counts as `network`."""
    name = transport.get_extra_info("sockname") if transport is not None else None
    if isinstance(name, (str, bytes)):
        return "file"
    return "machine" if name and is_loopback(str(name[0])) else "network"


@functools.lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a host name or address reaches only this machine."""
    if host.lower() in ("localhost", "127.0.0.1", "::1"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
