"""A fleet in words: its status, its instances, its audit, and a rollout as it goes on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from hotconf.cli.output import echo, styled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hotconf.cli.output import Styled
    from hotconf.fleet.control import Control

_COLOURS = {"done": "green", "reverted": "red", "reverting": "red", "aborted": "red", "paused": "yellow"}
_COLOURS |= {"applied": "green", "refused": "red", "silent": "red", "drift": "yellow"}

_LISTED = 5
"""Instances that a status names of each kind; the rest is a number, so that a large fleet stays readable."""


def status_lines(fleet: str, store: str, status: Mapping[str, Any]) -> Iterator[tuple[str | Styled, ...]]:
    """Yield the lines of a status."""
    machine = ", on this machine" if store.startswith("sqlite:") else ""
    yield styled(fleet, bold=True), f"  {status['instances']} instances{machine}"
    yield "  stable    ", _release(status["stable_release"], status["stable"])
    state = styled(status["state"], fg=_COLOURS.get(status["state"]), bold=True)
    if status["target"] is None:
        yield "  rollout   ", state
    else:
        stage = status["stages"][status["stage"]]
        place = f", stage {status['stage'] + 1} of {len(status['stages'])}, {stage['percent']:g}%"
        reason = f": {status['reason']}" if status["reason"] else ""
        yield "  rollout   ", _release(status["target_release"], status["target"]), " ", state, place, reason
        yield "  cohort    ", f"{status['cohort']} of {status['instances']}"
    for kind in ("applied", "waiting", "refused", "silent", "drift"):
        count = status[f"{kind}_count"]
        if count or kind == "applied":
            yield f"  {kind:<10}", styled(count, fg=_COLOURS.get(kind)), *_listed(status, kind, count)
    for name, faults in list(status["faults"].items())[:_LISTED]:
        for fault in faults[:_LISTED]:
            yield f"    {name}: ", styled(fault, fg="red")
    yield "  judge     ", status["judge"] or styled("none: nothing moves until one runs", fg="yellow")


def _listed(status: Mapping[str, Any], kind: str, count: int) -> tuple[str, ...]:
    if kind == "applied" or not status[kind]:
        return ()
    names = ", ".join(status[kind][:_LISTED])
    return (f"  {names}{f' and {count - _LISTED} more' if count > _LISTED else ''}",)


def _release(number: int | None, digest: str | None) -> str:
    return f"release {number} ({digest[:12]})" if digest else "none"


def instance_line(row: Mapping[str, Any]) -> tuple[str | Styled, ...]:
    """Return an instance on one line."""
    labels = " ".join(f"{key}={value}" for key, value in row.get("labels", {}).items())
    runs = str(row.get("applied", ""))[:12] or "-"
    fault = next(iter([*row.get("rehearsal", ()), *row.get("faults", ())]), "")
    state = styled(f"{row['state']:<8}", fg=_COLOURS.get(row["state"]))
    return f"{row['id']:<24} ", state, f" {runs:<12}  {labels}{'  ' if labels and fault else ''}{fault}"


def audit_lines(audit: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str | Styled, ...]]:
    """Yield the lines of an audit."""
    for line in audit:
        time = str(line["at"])[:19].replace("T", " ")
        why = f": {line['why']}" if line["why"] else ""
        yield f"  {line['seq']:>5}  {time}  {line['by']}  ", styled(line["what"], bold=True), why


async def follow_rollout(control: Control, rollout: str, style: str) -> int:
    """Show a rollout until it ends, in place on a terminal. Return the exit code."""
    import sys

    shown, is_in_place = "", style == "text" and sys.stdout.isatty()
    async for entry in control.session.follow("plan"):
        plan = await control.plan()
        if entry is None or plan.rollout is None or plan.rollout.id != rollout:
            raise click.ClickException("the rollout was replaced by another one")
        present = plan.rollout
        stage = present.stages[present.stage]
        is_over = present.is_finished or present.state == "paused"
        if style == "json":
            status = await control.status() if is_over else None
            text = json.dumps(
                {"state": present.state, "stage": present.stage, "reason": present.reason, "final": status}
            )
        else:
            bake = f", bakes {stage.bake:g} s" if present.state == "baking" else ""
            reason = f": {present.reason}" if present.reason else ""
            place = f"stage {present.stage + 1}/{len(present.stages)} ({stage.percent:g}%{bake})"
            text = f"release {present.release}  {place}  {present.state}{reason}"
        if text != shown:
            if is_in_place and shown and not is_over:
                sys.stdout.write("\x1b[1A\x1b[2K")  # over the line before
            echo(text)
            shown = text
        if is_over:
            return int(present.state != "done")
    return 1
