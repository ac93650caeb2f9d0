"""Safety: which requests are answered at all. Loopback needs no token; a page of another site is never answered."""

from __future__ import annotations

import functools
import ipaddress
import logging
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, TypeAlias

from yarl import URL

from hotconf.api.exchange import Problem
from hotconf.api.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

log = logging.getLogger(__name__)

Reach: TypeAlias = Literal["file", "machine", "network"]
"""Where the clients of an address can be: behind a socket file, on this machine, or on other machines too."""

_FREE = ("/healthz", "/readyz")  # under any prefix
_FREE_WITH_METRICS = (*_FREE, "/metrics")
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_LOG_INTERVAL = 60.0
"""Seconds between two lines about wrong tokens."""

_FOREIGN_HOST = "this Host is not allowed: use a loopback name, or allow it with --allow-host"
_OPEN_TO_ALL = "this address can be reached from other machines, and no token protects it: use a loopback address"


class Grant(NamedTuple):
    """What a request was allowed by: the tokens of which it showed one, in their revision."""

    tokens: Tokens
    revision: int

    @property
    def is_revoked(self) -> bool:
        """Whether the tokens have changed since: a stream must ask for itself again."""
        return self.tokens.revision != self.revision


class Safety:
    """What a request must show: a Host that is allowed, and a bearer token where there is one.

    Without a token nothing is answered that came to an address which other machines can reach, whatever its Host says.
    `/healthz` and `/readyz` are free of both, since a kubelet knows neither. `unauthorized` counts the requests that
    were refused because their token was missing or wrong.

    Args:
        hosts: Names beyond loopback that clients may use.
        token: The token of clients that may do everything.
        known_as: The name of this token in the audit log. A token of a file has the name of the file.
        open_metrics: Whether `/metrics` is free of token and Host too.
        token_file: A file with the token, in place of `token`. It is followed: a new token is in force at once, and the
            old one is refused. A file with two lines has two tokens. The last token stays in force while the file is
            empty or cannot be read.
        read_token: A token that cannot change anything: 403 for every method but GET, HEAD and OPTIONS.
        read_token_file: A file with it, which is followed too.

    Raises:
        ValueError: A file holds no token, or cannot be read.
    """

    def __init__(
        self,
        hosts: Iterable[str] = (),
        token: str | None = None,
        known_as: str = "bearer",
        open_metrics: bool = False,  # noqa: FBT001, FBT002 - the order of hotconf 0.1
        *,
        token_file: str | Path | None = None,
        read_token: str | None = None,
        read_token_file: str | Path | None = None,
    ) -> None:
        if (token and token_file) or (read_token and read_token_file):
            raise ValueError("a token is a text or in a file, not both")
        self.hosts = frozenset(hosts)
        self.open_metrics = open_metrics
        self.unauthorized = 0
        self._tokens = Tokens(token, file=token_file or None, name=known_as)
        self._read_tokens = Tokens(read_token, file=read_token_file or None, name="read-only")
        self._asks_token = bool(self._tokens or self._read_tokens)
        self._wrong = 0
        self._next_line = 0.0

    @classmethod
    def read(
        cls,
        *,
        token_file: str | Path | None,
        read_token_file: str | Path | None = None,
        hosts: Iterable[str] = (),
        open_metrics: bool = False,
    ) -> Self:
        """Build it with the tokens that files hold, for names as a user writes them.

        Raises:
            ValueError: A file holds no token, or one of `hosts` is not a host name.
        """
        allowed = set[str]()
        for name in hosts:
            place = _place(f"http://[{name}]" if name.count(":") > 1 and "[" not in name else f"http://{name}")
            host = "" if place is None or set("/?#@\\ \t") & set(name) else place[0]
            if not host or "*" in host or host.startswith("."):  # there are no patterns: such a name matches nothing
                raise ValueError(f"{name!r} is not a host name")
            allowed.add(host)
        return cls(allowed, open_metrics=open_metrics, token_file=token_file, read_token_file=read_token_file)

    @property
    def token(self) -> str | None:
        """The token in force; None where none is asked for."""
        return self._tokens.first

    def check_bind(self, host: str) -> None:
        """Check an address before it is bound.

        Raises:
            ValueError: Other machines can reach it and no token protects it.
        """
        if not self._asks_token and not is_loopback(host):
            raise ValueError(f"{host} can be reached from other machines: that needs --token-file")

    def check(
        self,
        header: Callable[[str], str | None],
        *,
        method: str,
        reach: Reach,
        endpoint: str | None,
        holds_no_data: bool = False,
        peer: str = "a client",
    ) -> Grant | None:
        """Check a request, and return what allows it; None where no token is asked for.

        Args:
            header: Returns a header of the request.
            method: The method. The token for reading allows no other than GET, HEAD and OPTIONS.
            reach: That of the address to which the request came.
            endpoint: The path of the route, placeholders unfilled: below /config there may be a key named healthz.
            holds_no_data: Whether the response is the same for every client: a page, to which links lead, and its
                files. A browser cannot send a token when it opens a page, so none is asked for; the Host still is.
            peer: The client, for the log.

        Raises:
            Problem: The request is refused.
        """
        if endpoint is not None and endpoint.endswith(_FREE_WITH_METRICS if self.open_metrics else _FREE):
            return None
        if reach == "network" and not self._asks_token:
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
        return self._check_token(header("Authorization"), method, peer) if self._asks_token else None

    def _check_token(self, authorization: str | None, method: str, peer: str) -> Grant:
        scheme, _, given = (authorization or "").partition(" ")
        sent = given.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() == "bearer":
            if self._tokens.accept(sent):
                return Grant(self._tokens, self._tokens.revision)
            if self._read_tokens.accept(sent):
                if method not in _READING:
                    raise Problem(HTTPStatus.FORBIDDEN, "this token may only read")
                return Grant(self._read_tokens, self._read_tokens.revision)
        self.unauthorized += 1
        if authorization is not None:
            self._wrong += 1
            if time.monotonic() >= self._next_line:  # at a pace: any client could fill the log
                log.warning("requests with a wrong token: %d, the last one from %s", self._wrong, peer)
                self._wrong, self._next_line = 0, time.monotonic() + _LOG_INTERVAL
        headers = {"WWW-Authenticate": "Bearer"}
        raise Problem(HTTPStatus.UNAUTHORIZED, "send the token as `Authorization: Bearer …`", headers=headers)


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
    # Other letters than those of ASCII may be folded into them: a name of two spellings is none.
    place = _place(f"http://{header}") if header.isascii() and not set("/?#@\\ \t") & set(header) else None
    return place[0] if place else ""


def _place(url: str) -> tuple[str, int | None] | None:
    """Return host and port of a URL; None for what is no URL, such as the origin `null`."""
    try:
        host, port = URL(url).host, URL(url).port
    except ValueError:
        return None
    name = (host or "").lower().removesuffix(".")  # localhost. is localhost
    return (name, port) if name else None
