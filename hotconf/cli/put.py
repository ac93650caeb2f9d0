"""`hotconf put`: write a document into its store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hotconf.cli.documents import document_at, is_document, takes_credentials
from hotconf.cli.output import Refused, echo, print_json, progress
from hotconf.cli.target import WORD, configuration, is_target, loaded

if TYPE_CHECKING:
    from hotconf.cli.documents import Credentials


@click.command
@click.argument("url")
@click.argument("file", type=WORD)
@click.option("--target", metavar="TARGET", help="The settings class or HotConf, module:attr, that FILE must suit.")
@click.option("--partial", is_flag=True, help="Accept that required settings are missing: other sources have them.")
@click.option(
    "--if-revision", metavar="N", help="Write only if this is the revision that is there; 0: nothing is there."
)
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@takes_credentials
def put(
    url: str,
    file: str,
    target: str | None,
    if_revision: str | None,
    style: str,
    *,
    partial: bool,
    credentials: Credentials,
) -> None:
    """Check FILE and write it into etcd, NATS or Redis, where every follower takes it from.

    URL is etcd://HOST:PORT/KEY, nats://HOST:PORT/BUCKET/KEY or redis://HOST:PORT/DB/KEY, with etcds, tls and rediss for
    TLS. A bucket of NATS that is missing is made. FILE is checked as `hotconf check` does; the revision that it gets is
    printed. Exit code: 0 written, 1 refused or out of reach, 2 unusable arguments.
    """
    import asyncio

    from hotconf.errors import RevisionConflict, SourceError

    if not is_document(url) or url.startswith("http") or url.endswith("/"):
        raise click.UsageError("put writes to a key of etcd://…, nats://… or redis://…")
    source: Any = document_at(url, credentials)
    if if_revision is not None and source.kind == "redis":
        raise click.UsageError("Redis counts no revisions: leave --if-revision out")
    data = _checked(file, url, target, partial=partial)
    try:
        with progress("writing"):
            revision = asyncio.run(source.put(data, if_revision=if_revision))
    except (SourceError, RevisionConflict) as error:
        raise click.ClickException(str(error).replace("cannot be read", "cannot be written")) from None
    if style == "json":
        print_json({"name": source.name, "revision": revision})
    else:
        echo(f"{source.name}: revision {revision}")


def _checked(file: str, url: str, target: str | None, *, partial: bool) -> bytes:
    """Return the bytes of a file that suits the target, and has the format of its key.

    Raises:
        Refused: It has faults.
        UsageError: It cannot be read, or is of another format.
    """
    import hotconf.formats as formats
    from hotconf.errors import FormatError
    from hotconf.values.report import MissingField

    if target is not None and not is_target(target):
        raise click.UsageError(f"{target} is no TARGET: write module:attr, such as app.settings:App")
    try:
        suits = formats.format_of(file) == formats.format_of(url)
        data = Path(file).read_bytes()
    except (FormatError, OSError) as error:
        raise click.UsageError(f"{file}: {getattr(error, 'strerror', None) or error}") from None
    if not suits:
        raise click.UsageError(f"{file} is of another format than the key says")
    try:
        loaded(configuration([word for word in (target, file) if word is not None]))
    except Refused as refused:
        faults = [fault for fault in refused.faults if not (partial and isinstance(fault, MissingField))]
        if faults:
            raise Refused(faults) from None
    return data
