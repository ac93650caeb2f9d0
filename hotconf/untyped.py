"""Untyped settings: any file without a class of its own. Keys whose names say secret are masked."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from hotconf.schema import folded

if TYPE_CHECKING:
    from collections.abc import Iterable

SECRET_WORDS = frozenset(
    {"password", "passwd", "passphrase", "secret", "token", "apikey", "privatekey", "credential"},
)
"""What makes a key's name say secret, wherever in it the word stands and however it is written: `DB-Passwords` too."""


class Untyped(BaseModel):
    """Settings with any keys at all. One that holds one of `__secret_words__` is masked with all that lies below it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    __secret_words__: ClassVar[frozenset[str]] = SECRET_WORDS


def untyped(secret_keys: Iterable[str] = ()) -> type[Untyped]:
    """Return a class for files without a class; `secret_keys` are further names to be masked."""
    words = {word for key in secret_keys if (word := folded(key))}
    members = {"__secret_words__": SECRET_WORDS | words, "__module__": __name__}
    return type("Untyped", (Untyped,), members) if words else Untyped
