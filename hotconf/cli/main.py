"""The command line: verbs by name, each imported only when it is used."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

import hotconf

if TYPE_CHECKING:
    from hotconf.signals import SignalRouter

VERBS = {
    "demo": "Start the demo service.",
    "serve": "Serve a configuration over HTTP.",
    "check": "Print every fault of a configuration.",
    "show": "Print the effective configuration.",
    "explain": "Print the source of a value and the values it shadows.",
    "diff": "Print the differences between two configurations.",
    "schema": "Print the JSON Schema of a settings class.",
    "init": "Print a commented sample file for a settings class.",
    "reload": "Reload a running process and print the report.",
    "watch": "Follow a part of a running process's configuration.",
    "history": "List the generations of a running process.",
    "rollback": "Roll a running process back to an earlier generation.",
    "put": "Write a document into etcd, NATS or Redis.",
    "set": "Change values of a running process.",
    "confirm": "Make a change of set --confirm permanent.",
    "fleet": "Give a release to many instances in stages, and judge it.",
}


_MODULES = {
    "schema": "init",
    "reload": "control",
    "history": "control",
    "rollback": "control",
    "confirm": "control",
}
"""The module of a verb where it is not the verb's own name."""


class _Verbs(click.Group):
    """A group that imports a verb's module when the verb is used: the help text costs no import."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        verb: click.Command = getattr(import_module(f"hotconf.cli.{_MODULES.get(cmd_name, cmd_name)}"), cmd_name)
        return verb

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the verb that the arguments begin with. Raises UsageError, which names the nearest one."""
        near = difflib.get_close_matches(args[0], VERBS, n=1)
        if args[0] not in VERBS and near:
            ctx.fail(f"there is no verb {args[0]!r}; did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(hotconf.__version__, prog_name="hotconf")
@click.pass_context
def command(context: click.Context) -> None:
    """Typed, hot-reloadable configuration: `kill -HUP` reloads, SIGTERM drains."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        context.color = False
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a value may hold what the terminal's encoding does not


def run(router: SignalRouter) -> int:
    """Run the command line and return the exit code.

    Args:
        router: The signals of the process, installed already.
    """
    try:
        code: Any = command.main(prog_name="hotconf", standalone_mode=False, obj=router)
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        message = io.StringIO()
        error.show(message)
        _complain(message.getvalue())
        return error.exit_code
    except RecursionError:
        _complain("Error: nested too deeply\n")
        return 1
    except OSError as error:  # not where the reader of the output has gone: click exits with 1 by itself
        _complain(f"Error: {error.filename or 'cannot write the output'}: {error.strerror or error}\n")
        return 1
    return code if isinstance(code, int) else 0


def _complain(message: str) -> None:
    from hotconf.cli.output import print_text

    with contextlib.suppress(OSError):  # the exit code must not depend on a stderr that can be written
        print_text(message, err=True)
