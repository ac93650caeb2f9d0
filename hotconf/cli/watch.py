"""`hotconf watch`: follow a part of a running process's configuration."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from hotconf.cli.output import literal
from hotconf.cli.remote import Remote, format_option, takes_remote

if TYPE_CHECKING:
    import asyncio

    from hotconf.signals import SignalRouter
    from hotconf.web.client import Client, Event


@click.command
@click.pass_obj
@takes_remote
@click.argument("path", default="")
@format_option
def watch(remote: Remote, router: SignalRouter, path: str, style: str) -> int:
    """Print the part at PATH of the process at URL, now and whenever its values change: a line each.

    PATH is dotted, such as database.pool_size; without it, the whole. Comes back when the process restarts. Ends with
    Ctrl-C.
    """
    import asyncio

    return asyncio.run(_watch(remote, router, path, style))


async def _watch(remote: Remote, router: SignalRouter, path: str, style: str) -> int:
    import asyncio

    following = asyncio.ensure_future(remote.asking(lambda client: _follow(client, path, style)))
    ended = _end_at_signal(router, following)
    try:
        await following
    except asyncio.CancelledError:
        if not ended:
            raise
    return 128 + ended[0] if ended else 0


def _end_at_signal(router: SignalRouter, task: asyncio.Future[Any]) -> list[int]:
    """Cancel a task at the first SIGINT, SIGTERM or hangup; its number is in the list from then on."""
    loop, ended = task.get_loop(), list[int]()

    def end(signum: int) -> None:
        ended.append(signum)
        loop.call_soon_threadsafe(task.cancel)

    router.route(on_reload=lambda: None, on_drain=end)
    return ended


async def _follow(client: Client, path: str, style: str) -> None:
    import hotconf.values.keypath as keypath
    from hotconf.web.client import Unreachable

    try:
        at = keypath.parse(path)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    async for event in client.follow(at):
        if isinstance(event, Unreachable):
            click.echo(f"{event}; trying again", err=True)
        else:
            click.echo(_json(event, path) if style == "json" else _line(event, path))


def _json(event: Event, path: str) -> str:
    return json.dumps({"path": path, **event.data}, ensure_ascii=False)


def _line(event: Event, path: str) -> str:
    value = "(absent)" if event.gone else literal(event.data["value"])
    return f"generation {event.data['generation']}  {f'{path} = ' if path else ''}{value}"
