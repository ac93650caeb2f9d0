"""Options: hotconf's own knobs. What the user configures with hotconf are settings; these are not among them."""

from __future__ import annotations

from pathlib import PurePath  # noqa: TC003 - pydantic reads it
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from hotconf.schema.fields import Section


class Options(Section):
    """How a HotConf behaves. Immutable; all times in finite seconds.

    - `watch`: reload when a file changes.
    - `debounce`: how long files must be quiet before they are read. None chooses 0.01 for one file and 0.1 for several,
      which may belong together.
    - `max_wait`: how long a writer that never rests can put a reload off.
    - `settle`: how long a file must stand still where nothing tells whether somebody is still writing it.
    - `poll`: how often to look where there are no events, and how often to make sure where there are.
    - `size_limit`: bytes a file may have.
    - `guard`: the share of all values that one reload may lose, of at least ten; None: all of them.
    - `prepare_timeout`: how long an async prepare, or opening a resource, may take; None: for ever.
    - `on_restart_required`: whether a change that only a restart can apply waits ("defer") or rejects the reload.
    - `retire_after`: how long a resource that was replaced waits for the leases of its snapshots; None: for ever.
    - `last_good`: the file that keeps what was applied last, without secrets, to start from when the sources are
      broken; None: there is none.
    - `ready_when_degraded`: whether a process that started from there calls itself ready.
    - `lease_warning`: how long a replaced snapshot may be leased before it is named as a leak; None: for ever.
    - `audit_log`: the file that gets a line of JSON for each reload; None: there is none.
    - `overlay`: the TOML file that patches are written to, above every other source; None: there are no patches.
    - `history`: how many generations are kept to go back to.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    watch: bool = True
    debounce: NonNegativeFloat | None = None
    max_wait: PositiveFloat = 2.0
    poll: PositiveFloat = 2.0
    settle: NonNegativeFloat = 0.05
    size_limit: PositiveInt = 4 * 1024 * 1024
    guard: Annotated[float, Field(ge=0, le=1)] | None = 0.5
    prepare_timeout: PositiveFloat | None = 10.0
    on_restart_required: Literal["defer", "reject"] = "defer"
    retire_after: NonNegativeFloat | None = 600.0
    last_good: PurePath | None = None
    ready_when_degraded: bool = True
    lease_warning: PositiveFloat | None = 60.0
    audit_log: PurePath | None = None
    overlay: PurePath | None = None
    history: PositiveInt = 20
