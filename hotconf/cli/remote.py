"""What the verbs that ask a running process share: its URL, the token, and how a report is printed."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hotconf.cli.output import print_json, progress
from hotconf.cli.target import is_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from hotconf.web.client import Client

R = TypeVar("R")
T = TypeVar("T")


def token_option(function: Callable[..., R]) -> Callable[..., R]:
    """Add `--token-file`."""
    help_text = "File with the bearer token to send."
    return click.option("--token-file", type=click.Path(), metavar="FILE", help=help_text)(function)


def format_option(function: Callable[..., R]) -> Callable[..., R]:
    """Add `--format`, text or JSON, as `style`."""
    option = click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
    return option(function)


@dataclass(frozen=True, slots=True)
class Remote:
    """A running process: where it is, and the file of the token to show."""

    url: str
    token_file: Path | None = None

    def ask(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Run what asks a client, and return what it returns. A service that does not do its part is exit code 1."""
        import asyncio

        with progress(f"waiting for {self.url}"):
            return asyncio.run(self.asking(work))

    async def asking(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Do what `ask` does, within an event loop."""
        from hotconf.web.client import Client, Declined, Unreachable

        token = self._token()
        try:
            client = Client(self.url, token=token)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        try:
            async with client:
                return await work(client)
        except (Declined, Unreachable) as error:
            hint = "; see --token-file" if isinstance(error, Declined) and error.status == 401 else ""
            raise click.ClickException(f"{error}{hint}") from None

    def _token(self) -> str | None:
        from hotconf.web.safety import Safety

        try:
            return Safety.read(token_file=self.token_file).token
        except ValueError as error:
            raise click.UsageError(str(error)) from None


def takes_remote(function: Callable[..., R]) -> Callable[..., R]:
    """Give a verb a URL and `--token-file`, as a Remote, its first argument."""

    @functools.wraps(function)
    def verb(*args: Any, url: str, token_file: Path | None, **options: Any) -> R:
        return function(Remote(completed(url), token_file), *args, **options)

    return click.argument("url")(token_option(verb))


def completed(url: str) -> str:
    """Return a URL with its scheme: `localhost:8080` is HTTP."""
    return url if is_url(url) else f"http://{url}"


def print_report(report: Mapping[str, Any], style: str) -> int:
    """Print what came of a change, every fault on a line of its own, and return the exit code."""
    if style == "json":
        print_json(report)
    else:
        for line in report_lines(report):
            click.echo(line)
    return int(report.get("outcome") == "rejected")


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """Return a report as lines: the outcome, then faults and what waits for a restart, one each."""
    outcome = str(report.get("outcome"))
    dry = "dry run: " if report.get("dry_run") else ""
    head = click.style(f"{dry}{outcome}", fg="red" if outcome == "rejected" else "green", bold=True)
    generation = report.get("generation")
    if outcome == "rejected":
        head += f" at {report.get('stage')}; generation {generation} stays in force"
    else:
        head += f", generation {generation}"
    faults = [str(fault["text"]) for fault in report.get("faults", ())]
    changed = [f"changed: {path or 'everything'}" for path in report.get("changed", ())]
    return [head, *faults, *changed, *map(_pending, report.get("pending_restart", ())), *_notes(report)]


def _pending(entry: Mapping[str, Any]) -> str:
    from hotconf.cli.output import literal

    values = f"{literal(entry.get('running'))} -> {literal(entry.get('wanted'))}"
    return f"pending restart: {entry.get('path')}: {values} from {entry.get('origin')}"


def _notes(report: Mapping[str, Any]) -> list[str]:
    errors = [f"commit failed: {text}" for text in report.get("commit_errors", ())]
    return [*errors, *([f"note: {report['note']}"] if report.get("note") else [])]
