"""What a program declares: the base classes of its settings, the marks of its fields, and hotconf's own options."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import PurePath  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict

from hotconf.values.secrets import folded

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class RestartRequired:
    """Marks a field, or a whole section, that only a restart can apply: `Annotated[int, RestartRequired()]`."""


@dataclass(frozen=True, slots=True)
class Sensitive:
    """Marks a plain field whose value is a secret: it is masked wherever hotconf shows or writes values."""


@dataclass(frozen=True, slots=True)
class Public:
    """Marks a field whose value may be shown although its name says secret, or although it holds a URL with a password.

    It covers the keys of a mapping too. It does not uncover what another mark or a type such as SecretStr hides.
    """


@dataclass(frozen=True, slots=True)
class Content:
    """Marks the path of a file whose content counts, such as a certificate: `Annotated[Path, Content()]`.

    The file is watched and protected like a source. Its change is a change of the setting.
    """


class Section(BaseModel):
    """A part of the settings: frozen, and unknown keys are faults."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(BaseSettings):
    """The root of the settings: frozen, and unknown keys are faults. Environment and dotenv work as usual."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(frozen=True, extra="forbid")


class Options(Section):
    """How a HotConf behaves. Immutable; all times in finite seconds.

    - `watch`: reload when a file changes.
    - `debounce`: how long files must be quiet before they are read. None chooses 0.01 for one file and 0.1 for several,
      which may belong together.
    - `max_wait`: how long a file that is written again and again can delay a reload.
    - `settle`: how long a file must stay unchanged where nothing tells whether it is still being written.
    - `poll`: how often files are checked where there are no events, and how often as a safeguard where there are; more
      rarely where there are so many that the safeguard would take more than a thousandth of a processor.
    - `size_limit`: bytes a file may have.
    - `read_timeout`: how long reading a source may take. One that takes longer counts as out of reach.
    - `guard`: the share of all values that one reload may lose, of at least ten; None: all of them.
    - `prepare_timeout`: how long an async prepare, or opening a resource, may take; None: without limit.
    - `on_restart_required`: whether a change that only a restart can apply waits ("defer") or rejects the reload.
    - `retire_after`: how long a resource that was replaced waits for the leases of its snapshots; None: without limit.
    - `last_good`: the file that keeps what was applied last, without secrets, to start from when the sources are
      broken; True: a file in the state folder of this user, named after the class; None: there is none.
    - `ready_when_degraded`: whether a process that started from there reports itself ready.
    - `lease_warning`: how long a replaced snapshot may be leased before it is logged as a leak; None: without limit.
    - `audit_log`: the file that gets a line of JSON for each reload; None: there is none.
    - `digest_key_file`: the file with the key of digests, made where it does not exist; None: `digest.key` in the state
      folder of this user. Digests of processes with one key can be compared.
    - `unknown`: what becomes of keys that a file holds and no field reads, where the class does not refuse them:
      "warn" logs each once, "error" rejects the reload, "ignore" says nothing.
    - `overlay`: the TOML file that patches are written to, above every other source; None: there are no patches.
    - `history`: how many generations are kept for a rollback.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    watch: bool = True
    debounce: NonNegativeFloat | None = None
    max_wait: PositiveFloat = 2.0
    poll: PositiveFloat = 2.0
    settle: NonNegativeFloat = 0.05
    size_limit: PositiveInt = 4 * 1024 * 1024
    read_timeout: PositiveFloat = 10.0
    guard: Annotated[float, Field(ge=0, le=1)] | None = 0.5
    prepare_timeout: PositiveFloat | None = 10.0
    on_restart_required: Literal["defer", "reject"] = "defer"
    retire_after: NonNegativeFloat | None = 600.0
    last_good: PurePath | Literal[True] | None = None
    ready_when_degraded: bool = True
    lease_warning: PositiveFloat | None = 60.0
    audit_log: PurePath | None = None
    unknown: Literal["warn", "error", "ignore"] = "warn"
    overlay: PurePath | None = None
    digest_key_file: PurePath | None = None
    history: PositiveInt = 20


class Untyped(BaseModel):
    """Settings with any keys at all. A key that has one of `__secret_words__` in it hides all that lies below it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    __secret_words__: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Return settings with the very keys of a document: pydantic would make plain strings of them."""
        made = super().model_validate(obj, **options)
        made.__pydantic_extra__ = dict(obj)
        return made


def untyped(secret_keys: Iterable[str] = ()) -> type[Untyped]:
    """Return a class for files without a class; `secret_keys` are names to be masked besides those that say secret."""
    words = frozenset(word for key in secret_keys if (word := folded(key)))
    return _with_words(words) if words else Untyped


@functools.lru_cache(maxsize=64)
def _with_words(words: frozenset[str]) -> type[Untyped]:
    # The same class for the same words: settings of two classes are not comparable.
    return type("Untyped", (Untyped,), {"__secret_words__": words, "__module__": __name__})
