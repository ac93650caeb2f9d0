"""The command line: verbs by name, each imported only when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

import hotconf

if TYPE_CHECKING:
    from hotconf.signals import SignalRouter

VERBS = {
    "demo": "Start the demo service and say what to try.",
}


class _Verbs(click.Group):
    """A group whose verbs are modules: the help text costs no import."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        verb: click.Command = getattr(import_module(f"hotconf.cli.{cmd_name}"), cmd_name)
        return verb

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(hotconf.__version__, prog_name="hotconf")
def command() -> None:
    """Typed, hot-reloadable configuration: `kill -HUP` reloads, SIGTERM drains."""


def run(router: SignalRouter) -> int:
    """Run the command line and return the exit code. The router has been installed already."""
    try:
        code: Any = command.main(prog_name="hotconf", standalone_mode=False, obj=router)
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return code if isinstance(code, int) else 0
