"""The instance: a source that follows the plan of a fleet, and reports what became of it.

`Fleet.read` says which document the plan has for this instance. `Fleet.connect` is its life while the configuration is
live: it follows the plan, rehearses what it is asked to, and keeps its report in the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import secrets
import socket
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeVar

import hotconf
from hotconf.errors import HotconfError, SourceError, SourceUnreachable
from hotconf.fleet.cache import FleetCache
from hotconf.fleet.cohort import bucket, wanted
from hotconf.fleet.documents import layer_of
from hotconf.fleet.measures import Measure, stage_of
from hotconf.fleet.plan import Plan, PlanUnreadable
from hotconf.fleet.report import MOST_FAULTS, InstanceReport
from hotconf.fleet.store import LEASE, StoreError, first_of
from hotconf.fleet.stores import open_store
from hotconf.sources.patience import Backoff
from hotconf.values.layer import Layer, Origin
from hotconf.values.report import Fault

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from hotconf.conf import HotConf
    from hotconf.fleet.measures import Better
    from hotconf.fleet.plan import ReleaseName
    from hotconf.fleet.store import Entry, Session, Store
    from hotconf.values.report import Report

F = TypeVar("F", bound="Callable[[], float]")

log = logging.getLogger("hotconf")

_FLOOR = 1.0
"""Seconds between two reports."""

_NONE = "none"
"""The revision of a fleet without a document for this instance."""

_DOCUMENTS = 4
"""Documents that are kept: the stable one, the one that is rolled out, and what they were before."""

_FAREWELL = 1.0
"""Seconds for the last report."""

_rehearsing: contextvars.ContextVar[tuple[Fleet, Layer] | None] = contextvars.ContextVar(
    "hotconf_rehearsing", default=None
)


class Fleet:
    """A source that holds what the plan of a fleet has for this instance. It also reports how the instance stands.

    While the store is out of reach, what is running stays. A fleet without a plan is an empty layer.

    Args:
        store: The URL of the store, or a Store.
        name: The name of the fleet.
        instance: What names this instance across restarts, such as a host's name or the ordinal of a StatefulSet;
            never an address. The name of the host by default. Several processes may be one instance.
        labels: What else operators see of it.
        cache: A file that keeps plan and document, for a start while the store is out of reach.
        lease: Seconds without a report after which the instance counts as gone.
        report_every: The least number of seconds between two reports.

    Raises:
        StoreError: The URL names no store.
    """

    kind = "fleet"
    required = True
    outage = "keep"
    guarded = False  # a document is whole: its digest says so

    def __init__(
        self,
        store: str | Store,
        name: str,
        *,
        instance: str | None = None,
        labels: Mapping[str, str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        lease: float = LEASE,
        report_every: float = _FLOOR,
    ) -> None:
        self.store = open_store(store) if isinstance(store, str) else store
        self.fleet = name
        self.name = f"fleet:{name}"
        self.instance = instance or socket.gethostname()
        self._cache = FleetCache(cache) if cache is not None else None
        self._lease = lease
        self._report_every = report_every
        self._conf: HotConf[Any] | None = None
        self._plan: Plan | None = None
        self._problem = ""
        self._documents: OrderedDict[str, bytes] = OrderedDict()
        self._layers: dict[str, Layer] = {}
        self._place = Origin("remote", self.name)
        self._empty = Layer(self.name, {}, {(): self._place}, _NONE)
        self._is_following = False
        self._lost = ""
        self._tried = _NONE
        self._saving: set[asyncio.Future[None]] = set()
        self._measures: list[Measure] = []
        self._state = InstanceReport(id=self.instance, labels=dict(labels or {}), version=hotconf.__version__)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_dirty = asyncio.Event()
        self._hint = asyncio.Event()

    def __repr__(self) -> str:
        return f"Fleet({self.store.url!r}, {self.fleet!r}, instance={self.instance!r})"

    @property
    def report(self) -> InstanceReport:
        """What this process reports of itself now."""
        measures = {measure.name: measure.sampled for measure in self._measures}
        return self._state.model_copy(update={"measures": measures})

    def measure(self, name: str, *, better: Better = "lower") -> Callable[[F], F]:
        """Have a function sampled about once a second, so that rollouts can be judged by it.

        Args:
            name: What `propose --guard` calls it.
            better: Whether `lower` or `higher` values are better.

        Returns:
            A decorator for a quick function without arguments that returns a number, such as the share of errors in
            the last second. It is called in the event loop in which the configuration is live.
        """

        def register(function: F) -> F:
            self._measures.append(Measure(name, function, better))
            return function

        return register

    def attach(self, conf: HotConf[Any]) -> None:
        """Note the configuration that reads this source, and observe its reloads."""
        self._conf = conf
        conf.observe(self)

    async def read(self) -> Layer:
        """Return the document that the plan has for this instance.

        Raises:
            SourceError: The store was never reached, the plan was deleted, or the document is none.
        """
        if (rehearsed := _rehearsing.get()) is not None and rehearsed[0] is self:
            return rehearsed[1]
        if not self._is_following:
            await self._look()
        if self._problem and self._plan is None:
            raise SourceError([Fault("", self._problem, self._place)])
        release = self._wanted_release()
        self._set(wanted=release.digest if release is not None else "")
        if release is None:
            return self._empty
        try:
            if release.digest not in self._documents:
                async with self._connected() as session:
                    await self._fetch(session, release)
            return self._layer(release)
        except SourceError as error:
            error.revision = release.digest
            raise

    async def _look(self) -> None:
        """Look at the plan once, where nothing follows it. Raises SourceUnreachable."""
        try:
            async with self.store.connect(self.fleet) as session:
                entry = await session.get("plan")
                if not self._is_following:  # otherwise a newer plan may have come meanwhile
                    await self._take(entry, session)
        except StoreError as error:
            if self._plan is not None or self._cache is None:
                raise self._unreachable(str(error)) from None
            self._plan, self._documents = await asyncio.to_thread(self._cache.load)
            if self._plan is None:
                raise self._unreachable(str(error)) from None
            log.warning("%s: the store is out of reach (%s); starting from the cache", self.name, error)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Session]:
        """Open a session for a read that needs one."""
        try:
            async with self.store.connect(self.fleet) as session:
                yield session
        except StoreError as error:
            raise self._unreachable(str(error)) from None

    def _wanted_release(self) -> ReleaseName | None:
        plan = self._plan
        digest = wanted(plan, self.instance) if plan is not None else ""
        if plan is None or not digest:
            return None
        return plan.rollout.name if plan.rollout is not None and plan.rollout.digest == digest else plan.stable

    async def _fetch(self, session: Session, release: ReleaseName) -> None:
        if release.digest in self._documents:
            self._documents.move_to_end(release.digest)
            return
        entry = await session.get(f"doc/{release.digest}")
        if entry is None:
            message = f"the document of release {release.release} is not in the store"
            raise SourceError([Fault("", message, self._place)])
        self._documents[release.digest] = entry.value
        while len(self._documents) > _DOCUMENTS:
            self._layers.pop(self._documents.popitem(last=False)[0], None)

    def _layer(self, release: ReleaseName) -> Layer:
        layer = self._layers.get(release.digest)
        if layer is None:
            layer = self._layers[release.digest] = layer_of(self.name, release, self._documents[release.digest])
        return layer

    async def _take(self, entry: Entry | None, session: Session) -> None:
        """Take a plan from the store, unless it must not be acted upon; then the last one stands."""
        try:
            plan = Plan.decode(entry.value) if entry is not None else None
        except PlanUnreadable as error:
            self._say(str(error))
            return
        known = self._plan
        if known is not None and plan is None:
            self._say("the plan was deleted")
            return
        if known is not None and plan is not None and known.fleet_id and plan.fleet_id != known.fleet_id:
            self._say("the plan is another fleet's: this instance keeps its own until it is started anew")
            return
        self._say("")
        if stage_of(plan) != stage_of(known):
            for measure in self._measures:
                measure.begin_stage() if stage_of(plan) is not None else measure.end_rollout()
        self._plan = plan
        if plan is not None:
            self._set(plan_seq=plan.seq, fleet=plan.fleet_id)
            for release in {self._wanted_release(), self._asked_to_rehearse()} - {None}:
                # What cannot be fetched now is asked for again by the reload, whose report then says so.
                with contextlib.suppress(SourceError):
                    await self._fetch(session, release)  # type: ignore[arg-type]

    def _say(self, problem: str) -> None:
        """Log why the plan is not followed, once, and report it."""
        if problem and problem != self._problem:
            log.warning("%s: %s; what is running stays", self.name, problem)
        self._problem = problem
        self._set(degraded=(problem,) if problem else ())

    def _asked_to_rehearse(self) -> ReleaseName | None:
        """Return the release that the plan asks this instance to rehearse; None where it has done so."""
        rollout = self._plan.rollout if self._plan is not None else None
        if rollout is None or rollout.state != "rehearsing" or self._state.rehearsed == rollout.id:
            return None
        return rollout.name if bucket(rollout.salt, self.instance) < rollout.rehearsal else None

    # ── while the configuration is live ──

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[None]:
        """Follow the plan, rehearse and report, for as long as an engine runs."""
        self._loop = asyncio.get_running_loop()
        self._is_dirty, self._hint = asyncio.Event(), asyncio.Event()
        self._set(boot=secrets.token_hex(4))
        life = asyncio.create_task(self._live(), name=f"hotconf-{self.name}")
        try:
            yield
        finally:
            self._loop, self._is_following = None, False
            life.cancel()
            await asyncio.wait([life, *self._saving])

    async def changes(self) -> AsyncIterator[object]:
        """Yield when the plan has another document for this instance. Raises SourceUnreachable."""
        while True:
            await self._hint.wait()
            self._hint.clear()
            if self._lost:
                raise self._unreachable(self._lost)
            yield None

    async def _live(self) -> None:
        """Follow and report for ever, with a pause after each loss of the store."""
        backoff = Backoff()
        while True:
            try:
                async with self.store.connect(self.fleet) as session, asyncio.TaskGroup() as group:
                    group.create_task(self._follow(session, backoff))
                    group.create_task(self._keep_reporting(session))
                    if self._measures:
                        group.create_task(self._keep_measuring())
            except* StoreError as errors:
                self._lost, self._is_following = str(first_of(errors)), False
                self._hint.set()
            await asyncio.sleep(backoff.pause())

    def _unreachable(self, reason: str) -> SourceUnreachable:
        return SourceUnreachable([Fault("", f"the store is out of reach: {reason}", self._place)])

    async def _follow(self, session: Session, backoff: Backoff) -> None:
        rehearsal: asyncio.Task[None] | None = None
        try:
            async for entry in session.follow("plan"):
                await self._take(entry, session)
                self._is_following, self._lost = True, ""
                backoff.reset()
                release = self._wanted_release()
                if (release.digest if release is not None else _NONE) != self._tried:
                    self._hint.set()
                if (asked := self._asked_to_rehearse()) is not None and (rehearsal is None or rehearsal.done()):
                    rehearsal = asyncio.create_task(self._rehearse(asked))
        finally:
            if rehearsal is not None:
                rehearsal.cancel()

    async def _rehearse(self, release: ReleaseName) -> None:
        """Take a release through everything but the swap, and report what would have become of it."""
        plan = self._plan
        rollout = plan.rollout.id if plan is not None and plan.rollout is not None else ""
        faults: Sequence[object] = ()
        if release.digest != self._state.applied and self._conf is not None:
            try:
                async with self._connected() as session:
                    await self._fetch(session, release)
                report = await self._conf.rehearse(_saying(self, self._layer(release)))
                faults = report.faults
            except SourceError as error:
                faults = error.faults
            except HotconfError:
                return  # the process drains
        self._set(rehearsed=rollout, rehearsal=_texts(faults))

    def reload_began(self, triggers: Sequence[str]) -> None:
        """Note nothing: a reload is reported when it ends."""

    def reload_ended(self, report: Report) -> None:
        """Report what became of a reload: each attempt once, and `unchanged` too."""
        conf, state = self._conf, self._state
        if conf is None:
            return
        status, self._tried = conf.status, report.revisions.get(self.name, self._tried)
        tried = self._tried if self._tried != _NONE else ""
        rollout = self._plan.rollout if self._plan is not None else None
        common = {
            "generation": report.generation,
            "duration": report.duration,
            "pending_restart": tuple(entry.path for entry in report.pending_restart)[:MOST_FAULTS],
            "held": status.held is not None,
            "patched": conf.options.overlay is not None
            and any(origin.kind == "overlay" for origin in conf.snapshot.origins.values())
            if conf.loaded
            else False,
        }
        if report.outcome == "rejected":
            if tried != state.applied:
                in_rollout = rollout is not None and rollout.digest == tried
                common["failed_in"] = rollout.id if in_rollout and rollout is not None else ""
                common |= {"failed": tried, "faults": _texts(report.faults)}
        elif status.held is None:
            if state.applied != tried:
                for measure in self._measures:
                    measure.begin_stage()
            common |= {"applied": tried, "failed": "", "failed_in": "", "faults": ()}
            if self._cache is not None and self._plan is not None and self._loop is not None:
                self._loop.call_soon_threadsafe(self._save)
        else:
            common |= {"applied": ""}
        self._set(**common)

    def _save(self) -> None:
        if self._cache is not None and self._plan is not None and self._loop is not None:
            work = self._loop.run_in_executor(None, self._cache.save, self._plan, dict(self._documents))
            self._saving.add(work)
            work.add_done_callback(self._saving.discard)

    def _set(self, **fields: Any) -> None:
        """Change what is reported, and have it reported soon. Safe from any thread."""
        before = self._state
        self._state = before.model_copy(update=fields)
        if self._state != before and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has closed
                self._loop.call_soon_threadsafe(self._is_dirty.set)

    async def _keep_reporting(self, session: Session) -> None:
        """Keep the report in the store: at once when it changes, but not more often than allowed, and before its end.

        A newer report replaces one that was not sent yet.
        """
        key = self._state.key
        try:
            while True:
                self._is_dirty.clear()
                await session.report(key, self._encoded(), self._lease)
                await asyncio.sleep(self._report_every)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, self._lease / 3 - self._report_every)):
                        await self._is_dirty.wait()
        except asyncio.CancelledError:
            if self._loop is not None:  # only the connection ends
                raise
            # An instance that ends on purpose says so, so that its silence alarms nothing.
            farewell = self.report.model_copy(update={"left": True}).model_dump_json().encode()
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await session.report(key, farewell, self._lease)
            raise

    def _encoded(self) -> bytes:
        return self.report.model_dump_json(exclude_defaults=True).encode()

    async def _keep_measuring(self) -> None:
        while True:
            is_after = stage_of(self._plan) is not None
            for measure in self._measures if self._conf is None or self._conf.loaded else ():
                measure.sample(is_after=is_after)
            await asyncio.sleep(self._report_every)


@contextlib.contextmanager
def _saying(source: Fleet, layer: Layer) -> Iterator[None]:
    """Have a source say what it may say next, to what is read within."""
    token = _rehearsing.set((source, layer))
    try:
        yield
    finally:
        _rehearsing.reset(token)


def _texts(faults: Sequence[object]) -> tuple[str, ...]:
    return tuple(str(fault)[:500] for fault in faults[:MOST_FAULTS])
