"""Secrets without a mark: what the name of a key says about its value, and which parts of a text are credentials.

Most secrets of real settings classes are plain strings, so their names have to be enough. A name is taken apart into
words, `DB_PASSWORD`, `dbPassword` and `db-password` alike. It says secret where one of its words is that of a secret,
unless it is about the secret: `password_min_length`, `token_url`, `max_tokens`. `tokenizer` is another word.
"""

from __future__ import annotations

import datetime as dt
import decimal
import re
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

MASK = "**********"


class Secrecy(IntEnum):
    """How much of a value is a secret."""

    NONE = 0
    CONNECTION = 1
    """A text that has credentials without being a URL: the name says DSN or connection string."""
    TEXT = 2
    """Texts, and containers as a whole: the name has the word of a secret."""
    NUMBERS = 3
    """Numbers too: the name ends with the word of a secret, in the singular."""
    ALL = 4
    """Everything but None: it is marked, or lies below a secret."""


_SECRETS = frozenset(
    {"password", "passwd", "pwd", "passphrase", "passcode", "secret", "token", "credential", "cookie", "authorization"}
    | {f"{word}key" for word in ("api", "private", "access", "secret", "encryption", "signing", "master", "account")}
    | {f"{word}key" for word in ("shared", "session", "auth", "hmac", "ssh", "storage", "license")}
)
"""Words of secrets. A name may write one as two words: `api_key`, `passPhrase`."""

_SECRETS_AT_THE_END = frozenset({"salt", "signature", "pass"})
"""Words that name something else in front of another word: `salt_master`, `signature_version`, `pass_through`."""

_UNMISTAKABLE = ("password", "passwd", "pwd", "passphrase", "secret", "token", "credential", "apikey", "privatekey")
"""Words of secrets at the end of a longer word: `pgpassword`, `authtoken`."""

_CONNECTIONS = frozenset({"dsn", "connstr", "connstring", "connectionstring", "connectionstr"})

_AMOUNTS = frozenset({"max", "maximum", "min", "minimum", "num", "number", "total", "count"})
"""First words of names of numbers: `max_tokens`."""

# fmt: off
_ABOUT = frozenset({
    # Where the secret is, and what keeps it.
    "file", "filename", "path", "dir", "directory", "folder", "url", "uri", "endpoint", "host", "port", "env",
    "variable", "provider", "backend", "engine", "manager", "service", "source", "store", "vault", "name",
    "ref", "arn", "domain", "samesite", "secure", "httponly",
    # What kind it is.
    "type", "kind", "class", "format", "algorithm", "alg", "hasher", "scheme", "method", "mode", "version",
    "encoding", "charset", "alphabet", "prefix", "suffix", "pattern", "regex", "param", "parameter", "field",
    "column", "issuer", "audience", "scope",
    # How many, how long.
    "count", "length", "len", "size", "limit", "min", "max", "minimum", "maximum", "budget", "bucket", "bits",
    "rounds", "iterations", "strength", "complexity", "ttl", "timeout", "lifetime", "duration", "expiry",
    "expires", "expiration", "expire", "age", "at", "second", "minute", "hour", "day", "interval", "delay",
    "period", "leeway", "rotation", "retries", "attempts",
    # What is done with it.
    "policy", "strategy", "rule", "validator", "validation", "reset", "enabled", "disabled", "required",
    "optional",
})
# fmt: on
"""Last words of names that are about a secret and hold none: `token_url`, `password_min_length`."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LIKELY = re.compile(
    r"pass|pwd|secret|token|credential|cookie|authorization|key|salt|signature|dsn|conn", re.IGNORECASE
)
_SEPARATORS = re.compile(r"[\W_]+")


NUMBERS = (int, float, complex, decimal.Decimal)
HARMLESS = (*NUMBERS, Enum, dt.date, dt.time, dt.timedelta)
"""Classes of values that a name alone does not make secrets; of numbers, see Secrecy."""


def folded(key: str | int) -> str:
    """Return a key without case and separators: `API-Key` and `apiKey` are the same."""
    return _SEPARATORS.sub("", str(key)).lower()


def secrecy_of(name: str | int) -> Secrecy:
    """Return how much of a value is a secret by the name of its key."""
    if isinstance(name, int) or not _LIKELY.search(name):
        return Secrecy.NONE
    words = [word.lower() for word in _WORD.findall(name)]
    singular = [word.removesuffix("s") for word in words]
    if not words or words[0] in _AMOUNTS or not _ABOUT.isdisjoint({words[-1], singular[-1]}):
        return Secrecy.NONE
    pairs = [f"{first}{second}" for first, second in zip(words, singular[1:], strict=False)]
    if any(word in _SECRETS or word.endswith(_UNMISTAKABLE) for word in (*singular, *pairs)) or (
        not _SECRETS_AT_THE_END.isdisjoint({words[-1], singular[-1]})
    ):
        last = {words[-1], "".join(words[-2:])}
        at_the_end = any(word in _SECRETS or word.endswith(_UNMISTAKABLE) for word in last)
        return Secrecy.NUMBERS if at_the_end else Secrecy.TEXT
    return Secrecy.NONE if _CONNECTIONS.isdisjoint({*singular, *pairs}) else Secrecy.CONNECTION


def hides(secrecy: Secrecy, value: Any) -> bool:
    """Whether a value is hidden as a whole. What a name says hides no switch, date or member of an enum."""
    if value is None or secrecy in (Secrecy.NONE, Secrecy.ALL):
        return value is not None and secrecy is Secrecy.ALL
    if secrecy is Secrecy.CONNECTION:
        return isinstance(value, str) and "://" not in value and bool(_CREDENTIALS.search(value))
    if isinstance(value, NUMBERS) and not isinstance(value, (bool, Enum)):
        return secrecy is Secrecy.NUMBERS
    return not isinstance(value, HARMLESS)


# Credentials within a text

_CREDENTIALS = re.compile(r"@|(?:password|passwd|pwd|secret|key|token)\s*=", re.IGNORECASE)
_WEB = re.compile(r"\b(?:https?|wss?)$", re.IGNORECASE)
_END = re.compile(r"\s|://")
_PARAMETER = re.compile(r"[?&;]([^\s?&;=#]+)=([^\s&;#]+)")


def credentials_in(text: str) -> list[tuple[int, int]]:
    """Return where in a text the credentials of its URLs are: passwords, and parameters whose name says secret."""
    if "://" not in text or not ("@" in text or "=" in text):
        return []
    found: list[tuple[int, int]] = []
    start = 0
    while (colon := text.find("://", start)) >= 0:
        start = colon + len("://")
        end = _END.search(text, start)
        rest = text[start : end.start() if end is not None else None]
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
        userinfo, at, _ = authority.rpartition("@")
        if not at and ":" in authority and not authority.rpartition(":")[2].isdecimal() and authority[0] != "[":
            userinfo = rest.rpartition("@")[0]  # a password with a slash in it, which should have been quoted
        user, separator, password = userinfo.partition(":")
        if password:
            found.append((start + len(user) + 1, start + len(userinfo)))
        elif user and not separator and _WEB.search(text, max(0, colon - 8), colon):
            found.append((start, start + len(user)))  # a token, as in the addresses of repositories and of Sentry
        parameters = (found for found in _PARAMETER.finditer(rest) if secrecy_of(found[1]) > Secrecy.CONNECTION)
        found += [(start + parameter.start(2), start + parameter.end(2)) for parameter in parameters]
    return sorted(found)


def mask_credentials(text: str) -> str:
    """Return a text with the credentials of its URLs masked."""
    if "://" not in text:
        return text
    parts: list[str] = []
    done = 0
    for start, end in credentials_in(text):
        if start >= done:
            parts += [text[done:start], MASK]
        done = max(done, end)
    return "".join((*parts, text[done:]))


def credential_texts(text: str) -> Iterator[str]:
    """Yield the credentials of the URLs in a text, as they stand there and with their quoting undone."""
    for start, end in credentials_in(text):
        yield from (text[start:end], unquote(text[start:end]))
