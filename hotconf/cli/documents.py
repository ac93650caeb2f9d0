"""Documents that live elsewhere, by their URLs: `etcd://…`, `nats://…`, `redis://…`, and files behind HTTP."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import click

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")

_SCHEMES = ("etcd://", "etcds://", "nats://", "tls://", "redis://", "rediss://")
_SUFFIXES = (".toml", ".yaml", ".yml", ".json")
_FILE = click.Path(dir_okay=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The user that a server is told, and the files with the password and for TLS."""

    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def tls(self) -> dict[str, Any]:
        """Return the files for TLS, as the sources take them."""
        return {"ca_file": self.ca_file, "cert_file": self.cert_file, "key_file": self.key_file}


def takes_credentials(function: Callable[..., R]) -> Callable[..., R]:
    """Give a verb the options of Credentials, as `credentials`."""

    @functools.wraps(function)
    def verb(*args: Any, **options: Any) -> R:
        given = {name: options.pop(name) for name in Credentials.__dataclass_fields__}
        return function(*args, credentials=Credentials(**given), **options)

    add = (
        click.option("--username", metavar="NAME", help="For a document of etcd, NATS or Redis: the user."),
        click.option("--password-file", metavar="FILE", type=_FILE, help="File with the user's password."),
        click.option("--ca-file", metavar="FILE", type=_FILE, help="Authorities to trust instead of the system's."),
        click.option("--cert-file", metavar="FILE", type=_FILE, help="Certificate to show to the server."),
        click.option("--key-file", metavar="FILE", type=_FILE, help="Key of the certificate."),
    )
    return functools.reduce(lambda verb, option: option(verb), reversed(add), verb)


def is_document(word: str) -> bool:
    """Whether a word is the URL of a document: of a store, or of a file behind HTTP."""
    if word.startswith(_SCHEMES):
        return True
    path = word.partition("://")[2].partition("/")[2]
    return word.startswith(("http://", "https://")) and path.partition("#")[0].partition("?")[0].endswith(_SUFFIXES)


def document_at(url: str, credentials: Credentials) -> Any:
    """Return the source of a document.

    Raises:
        UsageError: The URL names none, or holds a password.
    """
    scheme, _, rest = url.partition("://")
    servers, _, path = rest.partition("/")
    name = unquote(path)
    try:
        return _source(scheme, url, servers, name, credentials)
    except (ValueError, ModuleNotFoundError) as error:
        # The text of a URL may hold a password.
        raise click.UsageError(f"{scheme}://…/{PurePosixPath(name).name}: {error}") from None


def _source(scheme: str, url: str, servers: str, name: str, credentials: Credentials) -> Any:
    import hotconf.sources as sources

    user: dict[str, Any] = {"username": credentials.username, "password_file": credentials.password_file}
    if scheme in ("http", "https"):
        return sources.Http(url, **credentials.tls())
    if scheme in ("etcd", "etcds"):
        web = "https" if scheme == "etcds" else "http"
        endpoints = [f"{web}://{server if ':' in server else f'{server}:2379'}" for server in servers.split(",")]
        return sources.Etcd(endpoints, **_key_or_prefix(name), **user, **credentials.tls())
    first, _, key = name.partition("/")
    if scheme in ("nats", "tls"):
        return sources.Nats(
            [f"{scheme}://{server}" for server in servers.split(",")],
            first, **_key_or_prefix(key), **user, **credentials.tls(),
        )  # fmt: skip
    if not first.isdecimal():
        raise ValueError("write redis://HOST:PORT/DB/KEY, with the number of the database")
    return sources.Redis(f"{scheme}://{servers}/{first}", key, **user, **credentials.tls())


def _key_or_prefix(name: str) -> dict[str, Any]:
    return {"prefix": name} if name.endswith("/") else {"key": name}
