"""What a verb works on: a TARGET, which names a settings class or a HotConf, and files."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import traceback
from dataclasses import dataclass, field
from importlib import import_module
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hotconf.cli.documents import Credentials, document_at, is_document, takes_credentials
from hotconf.cli.output import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import ModuleType

    from pydantic import BaseModel

    from hotconf.conf import HotConf
    from hotconf.reload.snapshot import Snapshot

R = TypeVar("R")

WORD = click.Path(readable=False)
"""Any word. Shells complete it as a file."""

SCHEMES = ("http://", "https://", "unix:")

_QUOTING_NAMES_ONLY = (ImportError, SyntaxError, NameError, AttributeError)
"""Errors whose text quotes names and no values, and can be printed."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The arguments that name a configuration: positional words, files of `--config`, keys of `--secret`."""

    words: tuple[str, ...]
    files: tuple[str, ...]
    secrets: tuple[str, ...]
    credentials: Credentials = field(default_factory=Credentials)

    def configuration(self, **options: Any) -> HotConf[Any]:
        """Return the configuration of a TARGET and files; untyped without a TARGET.

        Args:
            options: Options of hotconf to change, by name.

        Raises:
            UsageError: The words name no configuration.
        """
        return configuration((*self.words, *self.files), self.secrets, self.credentials, **options)

    def url(self) -> str | None:
        """Return the URL among the words, which must be alone, else None. Raises UsageError."""
        if any(map(is_target, self.words)):  # then a URL is a document: another process that this one follows
            return None
        urls = [word for word in self.words if is_url(word)]
        if urls and (len(self.words) > 1 or self.files or self.secrets):
            raise click.UsageError(f"{urls[0]} is a URL, which stands alone: a running process has its own files")
        return next(iter(urls), None)


def takes_inputs(function: Callable[..., R], *, metavar: str = "[TARGET] [FILE]...") -> Callable[..., R]:
    """Give a verb a TARGET and files, and their options, as an Inputs, its first argument."""

    @functools.wraps(function)
    def verb(
        *args: Any,
        words: tuple[str, ...],
        config: tuple[str, ...],
        secret: tuple[str, ...],
        credentials: Credentials,
        **options: Any,
    ) -> R:
        return function(Inputs(words, config, secret, credentials), *args, **options)

    masks = "Without a TARGET: mask keys of this name too. May be repeated."
    add = (
        click.argument("words", nargs=-1, metavar=metavar, type=WORD),
        click.option("--config", multiple=True, metavar="FILE", type=WORD, help="A further file, above the others."),
        click.option("--secret", multiple=True, metavar="KEY", help=masks),
    )
    return functools.reduce(lambda verb, option: option(verb), reversed(add), takes_credentials(verb))


def is_url(word: str) -> bool:
    """Whether a word names a running process."""
    return word.startswith(SCHEMES) and not is_document(word)


def is_target(word: str) -> bool:
    """Whether a word is a TARGET: it has a colon, and is neither a URL nor a file that exists."""
    return ":" in word and not is_url(word) and not is_document(word) and not os.path.lexists(word)


def configuration(
    words: Iterable[str], secrets: Sequence[str] = (), credentials: Credentials | None = None, **options: Any
) -> HotConf[Any]:
    """Do what `Inputs.configuration` does, for words from elsewhere."""
    from hotconf.schema.settings import untyped

    words = list(words)
    targets = [word for word in words if is_target(word)]
    files: list[Any] = [word for word in words if word not in targets]
    if len(targets) > 1:
        raise click.UsageError(f"there can be one TARGET only, not {' and '.join(targets)}")
    for place, word in enumerate(files):
        if is_document(word) or (targets and word.startswith(("http://", "https://"))):
            files[place] = document_at(word, credentials or Credentials())
        elif is_url(word):
            raise click.UsageError(f"{word} is a URL: this verb works on a TARGET and files")
        elif _is_module(word):
            example = "a TARGET is module:attr, such as app.settings:App"
            raise click.UsageError(f"{word} names a module, and no file: {example}")
    if not words:
        raise click.UsageError("name a TARGET (module:attr), a file, or both")
    if not targets:
        return _conf(untyped(secrets), files, **options)
    if secrets:
        raise click.UsageError("--secret is for files without a TARGET: in a class, mark the field as Sensitive")
    return _conf(object_at(targets[0]), files, **options)


def schema_at(target: str) -> type[BaseModel]:
    """Return the settings class that a TARGET names, itself or by a HotConf. Raises UsageError."""
    return _conf(object_at(target)).schema


def object_at(target: str) -> Any:
    """Return the settings class or HotConf that `module:attr` names. Raises UsageError."""
    from pydantic import BaseModel

    from hotconf.conf import HotConf
    from hotconf.schema.fields import suggest

    module_name, colon, attribute = target.partition(":")
    if not colon:
        raise click.UsageError(f"{target} is no TARGET: write module:attr, such as app.settings:App")
    found: Any = _imported(module_name, target)
    for name in attribute.split("."):
        if not hasattr(found, name):
            near = suggest(name, [known for known in dir(found) if not known.startswith("_")])
            raise click.UsageError(f"{target}: {module_name} has no {attribute!r}{near}")
        found = getattr(found, name)
    if not isinstance(found, HotConf) and not (isinstance(found, type) and issubclass(found, BaseModel)):
        kind = f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
        raise click.UsageError(f"{target} is {kind}: a TARGET is a pydantic settings class or a HotConf")
    return found


def loaded(conf: HotConf[Any]) -> Snapshot[Any]:
    """Read a configuration once, without writing any file, and return its snapshot. Its log is silenced.

    Raises:
        Refused: The configuration was refused; the exception has every fault.
    """
    import logging

    from hotconf.errors import ConfigError

    logger = logging.getLogger("hotconf")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False  # the verb prints the result
    try:
        if not conf.loaded:
            conf.amend(last_good=None, audit_log=None)  # neither to start from nor to write to
        conf.load()
    except ConfigError as error:
        raise Refused(error.report.faults) from None
    return conf.snapshot


class _UnusableClass(click.ClickException):
    """A class that HotConf cannot use: that is at fault, and not how the command was called."""

    exit_code = 2


def _conf(found: Any, files: Sequence[Any] = (), **options: Any) -> HotConf[Any]:
    from hotconf.conf import HotConf
    from hotconf.errors import SchemaError

    try:
        conf = found if isinstance(found, HotConf) else HotConf(found)
        if files or options:
            conf.amend(files, **options)
    except SchemaError as error:
        raise _UnusableClass(str(error)) from None
    except (RuntimeError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    return conf


def _is_module(word: str) -> bool:
    """Whether a word is no file that exists or that a format would read, and begins with a module. Imports nothing."""
    import hotconf.formats as formats
    from hotconf.errors import FormatError

    if os.path.lexists(word) or not word.replace(".", "").isidentifier():
        return False
    with contextlib.suppress(FormatError):
        return not formats.format_of(word)
    folders = [os.getcwd(), *sys.path]  # noqa: PTH109 - as text, for the path
    return PathFinder.find_spec(word.partition(".")[0], folders) is not None


def _imported(name: str, target: str) -> ModuleType:
    if not name.replace(".", "").isidentifier():
        raise click.UsageError(f"{target}: a TARGET is module:attr, such as app.settings:App, and no such file exists")
    folder = os.getcwd()  # noqa: PTH109 - as text, for the path
    if folder not in sys.path and not sys.flags.safe_path:
        sys.path.insert(0, folder)
    sys.argv[1:] = []  # a settings class may read the command line: this one was not meant for it
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the output of the verb
            return import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the user's module may do anything, even call sys.exit()
        raise click.UsageError(f"cannot import {name}: {_reason(error, name)}") from None


def _reason(error: BaseException, name: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
        file = f"; a TARGET names the module {name[:-3]}, and not its file" if name.endswith(".py") else ""
        return f"there is no module {error.name!r}, neither in this folder nor where Python looks{file}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if len(frames) > 1 else ""
    text = f": {error}" if isinstance(error, _QUOTING_NAMES_ONLY) else ""
    return f"{type(error).__name__}{text}{'' if isinstance(error, SyntaxError) else where}"
