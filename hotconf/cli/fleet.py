"""`hotconf fleet`: one configuration on many instances. Each verb works on a fleet of a store."""

from __future__ import annotations

import contextlib
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hotconf.cli.fleet_text import audit_lines, follow_rollout, instance_line, status_lines
from hotconf.cli.output import Refused, echo, print_json, print_text, styled, write_text
from hotconf.cli.remote import format_option
from hotconf.cli.serving import seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from hotconf.fleet.control import Control
    from hotconf.fleet.judge import Judge
    from hotconf.fleet.plan import Plan, Stage
    from hotconf.signals import SignalRouter
    from hotconf.values.report import Fault

R = TypeVar("R")
T = TypeVar("T")

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class Where:
    """The fleet that a verb works on, and the operator who uses it."""

    store: str
    fleet: str
    by: str

    def run(self, work: Callable[[Control], Awaitable[T]]) -> T:
        """Run a function with the control of the fleet, and return its result.

        Raises:
            ClickException: The store cannot be reached, or the operation is declined.
            UsageError: The URL names no store.
        """
        import asyncio

        from hotconf.fleet.control import Control
        from hotconf.fleet.operations import Declined
        from hotconf.fleet.plan import PlanUnreadable
        from hotconf.fleet.store import StoreError
        from hotconf.fleet.stores import open_store

        try:
            store = open_store(self.store)
        except StoreError as error:
            raise click.UsageError(str(error)) from None

        async def connected() -> T:
            async with store.connect(self.fleet) as session:
                return await work(Control(session, self.by))

        try:
            return asyncio.run(connected())
        except (StoreError, Declined, PlanUnreadable) as error:
            raise click.ClickException(str(error)) from None


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user in this container
        return "unknown"


def _takes_fleet(function: Callable[..., R]) -> Callable[..., R]:
    """Give a verb `--store` and `--fleet`, as a Where, its first argument."""

    @functools.wraps(function)
    def verb(*args: Any, store: str, fleet_name: str, **options: Any) -> R:
        return function(Where(store, fleet_name, options.pop("by", None) or ""), *args, **options)

    add = (
        click.option("--store", envvar="HOTCONF_STORE", required=True, metavar="URL", help="The store of the fleet."),
        click.option("--fleet", "fleet_name", envvar="HOTCONF_FLEET", required=True, metavar="NAME", help="Its name."),
    )
    return functools.reduce(lambda verb, option: option(verb), reversed(add), verb)


_by = click.option("--by", default=_user, show_default="the user", help="The operator, for the audit.")
_why = click.option("--message", "-m", default="", help="The reason, for the audit.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def fleet() -> None:
    """Give a release to a share of many instances first, judge it there, and go on or back."""


@fleet.command
@click.pass_obj
@_takes_fleet
@click.option("--lease", default=10.0, callback=seconds, show_default=True, help="Seconds without a sign of life.")
@click.option("--silent-after", default=15.0, callback=seconds, show_default=True, help="Seconds of an instance.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of --port.")
@click.option("--port", type=click.IntRange(0, 65535), help="Serve the page of the fleet and its metrics here.")
@click.option("--token-file", type=click.Path(path_type=Path), help="File with the token that --port asks for.")
def judge(  # noqa: PLR0917 - click's
    where: Where,
    router: SignalRouter,
    lease: float,
    silent_after: float,
    host: str,
    port: int | None,
    token_file: Path | None,
) -> int:
    """Judge the rollouts of the fleet until SIGTERM. Run two for safety: one leads, the other waits."""
    import asyncio

    from hotconf.cli.log import log_to_stderr
    from hotconf.fleet.judge import Judge
    from hotconf.fleet.prometheus import ask_prometheus
    from hotconf.fleet.store import StoreError

    log_to_stderr()
    try:
        running = Judge(where.store, where.fleet, lease=lease, silent_after=silent_after, query=ask_prometheus)
    except StoreError as error:
        raise click.UsageError(str(error)) from None

    async def serve_and_run() -> None:
        async with _serving(running, host, port, token_file):
            await running.run()

    async def run() -> None:
        task, loop = asyncio.ensure_future(serve_and_run()), asyncio.get_running_loop()
        router.route(on_reload=lambda: None, on_drain=lambda _: loop.call_soon_threadsafe(task.cancel))
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    asyncio.run(run())
    return 0


@contextlib.asynccontextmanager
async def _serving(judge: Judge, host: str, port: int | None, token_file: Path | None = None) -> AsyncIterator[str]:
    """Serve the page of a judge's fleet, and yield its URL; nothing without a port."""
    if port is None:
        yield ""
        return
    from hotconf.cli.log import say
    from hotconf.web.fleet import fleet_app
    from hotconf.web.safety import Safety
    from hotconf.web.server.server import Server

    try:
        safety = Safety.read(token_file=token_file)
        safety.check_bind(host)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    server = Server(fleet_app(judge, safety=safety), host=host, port=port)
    try:
        await server.start()
        say(f"hotconf fleet: {server.url}")
        yield server.url
    finally:
        await server.stop()


@fleet.command
@click.pass_obj
@click.option("--instances", default=20, type=click.IntRange(10, 200), show_default=True, help="Instances to run.")
@click.option("--port", default=8080, type=click.IntRange(0, 65535), show_default=True, help="Port of its page.")
@click.option("--once", is_flag=True, help="End after the verdicts: 0 if all three are as they must be.")
def demo(router: SignalRouter, instances: int, port: int, *, once: bool) -> int:
    """Run a fleet in this process: a release that the rehearsal stops, one that measures stop, and a good one."""
    import asyncio
    import logging
    import tempfile

    from hotconf.cli.log import say
    from hotconf.demo.fleet import FLEET, play, running
    from hotconf.fleet.stores.sqlite import SqliteStore

    logging.getLogger("hotconf").addHandler(logging.NullHandler())
    logging.getLogger("hotconf").propagate = False

    async def run(store: SqliteStore) -> int:
        async with running(store, instances) as judge, _serving(judge, "127.0.0.1", None if once else port):
            say(f"hotconf fleet demo: {instances} instances, a judge, {store.url}\n")
            is_right = await play(store, instances, say)
            if not once:
                say(f"It stays up. In another terminal:\n  export HOTCONF_STORE={store.url} HOTCONF_FLEET={FLEET}")
                say("  hotconf fleet status | instances | history | diff 1 2 | rollback | propose FILE\n")
                await asyncio.Event().wait()
            return int(not is_right)

    async def until_signal() -> int:
        with tempfile.TemporaryDirectory(prefix="hotconf-fleet-") as folder:
            task, loop = asyncio.ensure_future(run(SqliteStore(Path(folder) / "fleet.db"))), asyncio.get_running_loop()
            router.route(on_reload=lambda: None, on_drain=lambda _: loop.call_soon_threadsafe(task.cancel))
            await asyncio.wait([task])
            return 0 if task.cancelled() else task.result()

    return asyncio.run(until_signal())


@fleet.command
@_takes_fleet
@click.argument("file", type=_FILE)
@click.option("--target", metavar="TARGET", help="Check the document with this settings class, module:attr, first.")
@click.option("--message", "-m", default="", help="What the release is for.")
@click.option(
    "--stages",
    default="5%:10m,100%:0s",
    show_default=True,
    help="Shares of the fleet, each with the time that it bakes. The last one is 100%.",
)
@click.option("--rehearse/--no-rehearse", default=True, show_default=True, help="Rehearse on every instance first.")
@click.option("--max-refused", default=0, type=click.IntRange(0), help="Refusals that do not stop the rollout.")
@click.option(
    "--guard",
    "guards",
    multiple=True,
    help="Compare a measure, NAME[:TOLERANCE%], or a query, prometheus:URL#QUERY<LIMIT. May be repeated.",
)
@click.option("--approve-by", default=0, type=click.IntRange(0, 20), help="Operators that have to approve first.")
@click.option("--wait", is_flag=True, help="Show the rollout, and exit 1 if it does not end as done.")
@_by
@format_option
def propose(
    where: Where, file: Path, target: str | None, stages: str, style: str, *, wait: bool, **options: Any
) -> int:
    """Begin the rollout of FILE as the next release.

    Exit code: 0 begun, or with --wait done; 1 declined or, with --wait, reverted, aborted or paused; 2 usage.
    """
    import hotconf.formats as formats
    from hotconf.errors import FormatError
    from hotconf.fleet.guards import Guard

    parsed = _stages(stages)
    try:
        for text in options["guards"]:
            Guard.parse(text)
        text_format = formats.format_of(file.name)
    except (ValueError, FormatError) as error:
        raise click.UsageError(str(error)) from None
    if text_format == "dotenv":
        raise click.UsageError("a document is TOML, JSON or YAML")
    data = file.read_bytes()
    faults = _faults(file, data, text_format, target)
    if faults:
        raise Refused(faults)

    async def work(control: Control) -> int:
        plan = await control.propose(data, text_format, stages=parsed, **options)
        if not await control.judge():
            echo("no judge leads this fleet: the rollout waits for `hotconf fleet judge`", err=True)
        if wait and plan.rollout is not None and plan.state != "idle":
            return await follow_rollout(control, plan.rollout.id, style)
        _print_plan(plan, style)
        return 0

    return where.run(work)


def _stages(text: str) -> list[Stage]:
    from pydantic import ValidationError

    from hotconf.fleet.plan import Stage
    from hotconf.values.times import parse_duration

    found = []
    for part in text.split(","):
        share, _, bake = part.strip().partition(":")
        try:
            found.append(Stage(percent=float(share.removesuffix("%")), bake=parse_duration(bake or "0s")))
        except (ValueError, ValidationError):
            example = "5%:10m,100%:0s"
            raise click.UsageError(f"--stages: {part.strip()!r} is no stage; an example is {example}") from None
    if found[-1].percent < 100:
        raise click.UsageError("--stages: the last stage must be 100%")
    return found


def _faults(file: Path, data: bytes, text_format: str, target: str | None) -> Sequence[Fault]:
    """Return what speaks against a document: it does not parse, holds secrets, or is none of the class's."""
    import hotconf.formats as formats
    import hotconf.values.keypath as keypath
    from hotconf.cli.target import configuration, loaded, schema_at
    from hotconf.errors import FormatError
    from hotconf.schema.redact import masked_paths
    from hotconf.schema.settings import untyped
    from hotconf.values.layer import Origin
    from hotconf.values.report import Fault, MissingField

    try:
        values = formats.parse(text_format, data)
    except FormatError as error:
        return [Fault("", error.reason, Origin("file", str(file), error.line, error.column))]
    origins = formats.Located(str(file), text_format, data)
    model = schema_at(target) if target is not None else untyped(())
    message = "is a secret: keep it in a secret file or a manager, and not in a document that every instance gets"
    secrets = [
        Fault(keypath.render(path), message, origins.get(path) or Origin("file", str(file)))
        for path in masked_paths(model, values)
    ]
    if secrets or target is None:
        return secrets
    try:
        loaded(configuration([target, str(file)]))
    except Refused as refused:
        # What is missing comes from the other sources of each instance, which the rehearsal asks.
        return [fault for fault in refused.faults if not isinstance(fault, MissingField)]
    return []


@fleet.command
@_takes_fleet
@format_option
def status(where: Where, style: str) -> None:
    """Print how the fleet stands: the rollout, and which instances run, refuse, are silent or have drifted."""

    async def work(control: Control) -> None:
        found = await control.status()
        if style == "json":
            print_json(found)
            return
        for line in status_lines(where.fleet, where.store, found):
            echo(*line)

    where.run(work)


@fleet.command
@_takes_fleet
@click.option("--state", type=click.Choice(["applied", "refused", "waiting", "silent", "drift"]), help="Only these.")
@format_option
def instances(where: Where, state: str | None, style: str) -> None:
    """List the instances of the fleet: what each runs, and how it stands towards the plan."""
    from hotconf.fleet.control import instance_row

    async def work(control: Control) -> None:
        plan, reports = await control.plan(), await control.reports()
        rows = [instance_row(report, plan) for report in sorted(reports.values(), key=lambda report: report.key)]
        rows += [{"id": name, "state": "silent"} for name in (await control.status())["silent"]]
        shown = [row for row in rows if state in (None, row["state"]) or (state == "drift" and row.get("patched"))]
        if style == "json":
            print_json(shown)
            return
        for row in shown:
            echo(*instance_line(row))

    where.run(work)


@fleet.command
@_takes_fleet
@format_option
def history(where: Where, style: str) -> None:
    """List the releases of the fleet, and each change of the plan: by which operator or judge, when and why."""

    async def work(control: Control) -> None:
        releases, audit, plan = await control.releases(), await control.audit(), await control.plan()
        if style == "json":
            print_json({"releases": [release.model_dump() for release in releases], "audit": audit})
            return
        for release in releases:
            mark = "*" if plan.stable is not None and plan.stable.release == release.release else " "
            time = release.at[:19].replace("T", " ")
            echo(styled(mark, fg="green"), f" {release.release:>4}  {time}  {release.by}: {release.message}")
        for line in audit_lines(audit):
            echo(*line)

    where.run(work)


@fleet.command
@_takes_fleet
@click.argument("release", type=click.IntRange(1))
def show(where: Where, release: int) -> None:
    """Print the document of RELEASE."""

    async def work(control: Control) -> None:
        found = await control.release(release)
        print_text((await control.document(found.digest)).decode("utf-8", "replace"))

    where.run(work)


@fleet.command
@_takes_fleet
@click.argument("old", type=click.IntRange(1))
@click.argument("new", type=click.IntRange(1))
def diff(where: Where, old: int, new: int) -> None:
    """Print the lines that differ between the documents of two releases."""
    import difflib

    async def work(control: Control) -> None:
        texts = []
        for number in (old, new):
            found = await control.release(number)
            texts.append((await control.document(found.digest)).decode("utf-8", "replace").splitlines())
        before, after = texts
        for line in difflib.unified_diff(before, after, f"release {old}", f"release {new}", lineterm=""):
            echo(line)

    where.run(work)


def _print_plan(plan: Plan, style: str) -> None:
    if style == "json":
        print_json(json.loads(plan.encode()))
        return
    line = plan.last[-1] if plan.last else None
    echo(styled(plan.state, bold=True), f": {line.what} {line.why}".rstrip() if line is not None else "")


def _operation(verb: str, text: str) -> click.Command:
    """Make a verb that changes the plan by one swap."""

    @fleet.command(verb, help=text)
    @_takes_fleet
    @_why
    @_by
    @format_option
    def command(where: Where, message: str, style: str) -> None:
        async def work(control: Control) -> None:
            _print_plan(await control.act(verb, message), style)

        where.run(work)

    return command


_operation("pause", "Stop the rollout where it is. Nothing is taken back.")
_operation("resume", "Go on with a paused rollout; its bake begins anew.")
_operation("abort", "Take the rollout back, in any state. Needs no judge.")
_operation("approve", "Approve the release that waits for it.")


@fleet.command
@_takes_fleet
@click.option("--skip-stage", is_flag=True, help="End the present stage's bake only.")
@_why
@_by
@format_option
def promote(where: Where, message: str, style: str, *, skip_stage: bool) -> None:
    """Give the release to the whole fleet at once."""

    async def work(control: Control) -> None:
        _print_plan(await control.act("promote", message, skip_stage=skip_stage), style)

    where.run(work)


@fleet.command
@_takes_fleet
@click.argument("release", type=click.IntRange(1), required=False)
@_why
@_by
@format_option
def rollback(where: Where, release: int | None, message: str, style: str) -> None:
    """Make RELEASE, by default the stable one before, the stable release of the whole fleet at once."""

    async def work(control: Control) -> None:
        _print_plan(await control.roll_back(release, message), style)

    where.run(work)


@fleet.command("export")
@_takes_fleet
@click.option("--output", "-o", metavar="FILE", help="Write to this file, and not to stdout.")
def export(where: Where, output: str | None) -> None:
    """Print plan, releases and documents as JSON, for `import` into another store."""

    async def work(control: Control) -> None:
        write_text(json.dumps(await control.export(), indent=1) + "\n", output)

    where.run(work)


@fleet.command("import")
@_takes_fleet
@click.argument("file", type=click.File("rb"))
def import_(where: Where, file: Any) -> None:
    """Write what `export` has printed, FILE or - for stdin, into a store that has no such fleet yet."""
    try:
        content = json.load(file)
    except (ValueError, RecursionError):
        raise click.UsageError("this is no export: it is not JSON") from None

    async def work(control: Control) -> None:
        _print_plan(await control.import_(content), "text")

    where.run(work)
