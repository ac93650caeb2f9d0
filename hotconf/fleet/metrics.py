"""The metrics of a fleet, as its judge sees it. None has an instance as a label, of which there may be many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from hotconf.fleet.report import refuses, standing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from hotconf.fleet.judge import Judge

_KINDS = ("applied", "waiting", "refused", "drift", "silent")


class FleetMetrics(Collector):
    """The metrics of a judge's fleet. The one of a judge that only waits for the lead has no instances.

    Args:
        judge: The judge, which runs in this process.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def describe(self) -> Iterator[Metric]:
        """Yield the metrics: a registry calls this when they are registered."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        judge, plan = self._judge, self._judge.plan
        counts = dict.fromkeys(_KINDS, 0)
        if plan is not None:
            is_running = plan.rollout is not None and not plan.rollout.is_finished
            for report in judge.members.alive.values():
                is_refused = is_running and refuses(report, plan)
                counts["refused" if is_refused else standing(report, plan)] += 1
        counts["silent"] = len({report.id for report in judge.members.gone.values()})
        instances = GaugeMetricFamily("hotconf_fleet_instances", "Processes of the fleet by state.", labels=["state"])
        for kind, count in counts.items():
            instances.add_metric([kind], count)
        yield instances
        rollout = plan.rollout if plan is not None else None
        state = plan.state if plan is not None else "idle"
        states = GaugeMetricFamily("hotconf_fleet_rollout_state", "1 for the state of the rollout.", labels=["state"])
        states.add_metric([state], 1)
        yield states
        stage = rollout.stage if rollout is not None and not rollout.is_finished else -1
        text = "Stage of the rollout, from 0; -1 while none is running."
        yield GaugeMetricFamily("hotconf_fleet_rollout_stage", text, stage)
        text = "Refusals that this judge has seen."
        yield CounterMetricFamily("hotconf_fleet_refused", text, judge.members.refusals)
        term = plan.term if plan is not None else 0
        yield GaugeMetricFamily("hotconf_fleet_judge_term", "Term of the plan: it grows with each new leader.", term)
        yield GaugeMetricFamily("hotconf_fleet_judge_leads", "Whether this judge leads.", float(judge.leads))
        text = "Time of this judge's last look at the fleet while it led."
        yield GaugeMetricFamily("hotconf_fleet_judge_last_step_timestamp_seconds", text, judge.last_step)
