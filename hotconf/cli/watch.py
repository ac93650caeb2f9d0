"""`hotconf watch`: a line for each change of a part of a running process's configuration."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from hotconf.cli.output import echo, literal
from hotconf.cli.remote import Remote, format_option, takes_remote

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hotconf.signals import SignalRouter
    from hotconf.values.keypath import KeyPath
    from hotconf.web.client import Client


@click.command
@click.pass_obj
@takes_remote
@click.argument("path", default="")
@format_option
def watch(remote: Remote, router: SignalRouter, path: str, style: str) -> int:
    """Print the part at PATH of the process at URL, now and whenever its values change: a line each.

    PATH is dotted, such as database.pool_size; without it, the whole. The command reconnects when the process restarts,
    and ends with Ctrl-C.
    """
    import asyncio

    import hotconf.values.keypath as keypath

    try:
        at = keypath.parse(path)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return asyncio.run(_watch(remote, router, lambda client: _follow(client, at, path, style)))


async def _watch(remote: Remote, router: SignalRouter, follow: Callable[[Client], Awaitable[None]]) -> int:
    """Follow until a signal, and return the exit code."""
    import asyncio

    following = asyncio.ensure_future(remote.asking(follow))
    loop, ended = asyncio.get_running_loop(), list[int]()

    def end(signum: int) -> None:
        ended.append(signum)
        loop.call_soon_threadsafe(following.cancel)

    router.route(on_reload=lambda: None, on_drain=end)
    try:
        await following
    except asyncio.CancelledError:
        if not ended:
            raise
    return 128 + ended[0] if ended else 0


async def _follow(client: Client, at: KeyPath, path: str, style: str) -> None:
    from hotconf.web.client import Unreachable

    async for event in client.follow(at):
        if isinstance(event, Unreachable):
            echo(f"{event}; trying again", err=True)
        elif style == "json":
            echo(json.dumps({"path": path, **event.data}, ensure_ascii=False))
        else:
            value = "(absent)" if event.gone else literal(event.data["value"])
            echo(f"generation {event.data['generation']}  {f'{path} = ' if path else ''}{value}")
