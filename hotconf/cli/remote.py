"""What the verbs on a running process share: its URL and token, the request, and the report that comes back."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hotconf.cli.output import Styled, echo, literal, print_json, progress, styled
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
    """A running process: its URL, and the file with the token that it asks for."""

    url: str
    token_file: Path | None = None

    def ask(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Run a function with a client of the process, and return its result.

        It should also read the answer, down to what is printed: an answer that is of another make fails there.

        Raises:
            ClickException: The process cannot be reached, declines, or answers something that is not expected.
            UsageError: The URL or the token file cannot be used.
        """
        import asyncio

        with progress(f"waiting for {self.url}"):
            return asyncio.run(self.asking(work))

    async def asking(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Do what `ask` does, within an event loop."""
        from hotconf.web.client import Client, Declined, Unreachable
        from hotconf.web.safety import Safety

        try:
            client = Client(self.url, token=Safety.read(token_file=self.token_file).token)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        try:
            async with client:
                return await work(client)
        except (Declined, Unreachable) as error:
            hint = "; see --token-file" if isinstance(error, Declined) and error.status == 401 else ""
            raise click.ClickException(f"{error}{hint}") from None
        except (LookupError, TypeError, AttributeError, ValueError, RecursionError):
            raise click.ClickException(f"{self.url}: this is no answer of a hotconf service") from None

    def report(self, style: str, work: Callable[[Client], Awaitable[Mapping[str, Any]]]) -> int:
        """Ask for a change, print its report, and return the exit code: 1 where it was rejected."""

        async def ask_and_print(client: Client) -> int:
            report = await work(client)
            lines = report_lines(report)
            if style == "json":
                print_json(report)
            else:
                for line in lines:
                    echo(*line)
            return int(report["outcome"] == "rejected")

        return self.ask(ask_and_print)


def takes_remote(function: Callable[..., R]) -> Callable[..., R]:
    """Give a verb a URL and `--token-file`, as a Remote, its first argument."""

    @functools.wraps(function)
    def verb(*args: Any, url: str, token_file: Path | None, **options: Any) -> R:
        return function(Remote(completed(url), token_file), *args, **options)

    return click.argument("url")(token_option(verb))


def completed(url: str) -> str:
    """Return a URL with its scheme: `localhost:8080` is HTTP."""
    return url if is_url(url) else f"http://{url}"


def report_lines(report: Mapping[str, Any]) -> list[tuple[str | Styled, ...]]:
    """Return a report as lines of parts: the outcome, then faults and what waits for a restart, one each."""
    outcome, generation = report["outcome"], report.get("generation")
    head = styled(
        f"{'dry run: ' if report.get('dry_run') else ''}{outcome}",
        fg="red" if outcome == "rejected" else "green",
        bold=True,
    )
    stays = f" at {report.get('stage')}; generation {generation} stays in force"
    lines: list[tuple[str | Styled, ...]] = [(head, stays if outcome == "rejected" else f", generation {generation}")]
    lines += [(str(fault["text"]),) for fault in report.get("faults", ())]
    lines += [(f"changed: {path or 'everything'}",) for path in report.get("changed", ())]
    for entry in report.get("pending_restart", ()):
        values = f"{literal(entry['running'])} -> {literal(entry['wanted'])}"
        lines.append((f"pending restart: {entry['path']}: {values} from {entry['origin']}",))
    lines += [(f"commit failed: {text}",) for text in report.get("commit_errors", ())]
    return [*lines, (f"note: {report['note']}",)] if report.get("note") else lines
