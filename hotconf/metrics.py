"""Metrics for Prometheus, under Prometheus's own names where it has the same, all derived from status and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from hotconf.conf import HotConf
    from hotconf.values.report import Report

__all__ = ("CONTENT_TYPE", "Metrics")

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics(Collector):
    """The metrics of one configuration, in a registry of their own or in one that is given.

    Reloads are counted from now on, dry runs not at all; the rest is read when somebody asks. `watchers` tells how many
    clients wait for changes, by kind. Safe from any thread.
    """

    def __init__(
        self,
        conf: HotConf[Any],
        registry: CollectorRegistry | None = None,
        *,
        watchers: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._conf = conf
        self._watchers = watchers
        self._registry = registry if registry is not None else CollectorRegistry()
        self._succeeded_at = max((_ended_at(report) for report in conf.reports if _is_good(report)), default=0.0)
        self._reloads = Counter(
            "hotconf_reloads", "Reloads, by the first trigger.", ["trigger", "outcome"], registry=self._registry
        )
        self._durations = Histogram(
            "hotconf_reload_duration_seconds",
            "From the first read to the last commit.",
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._registry.register(self)
        conf.observe(self)

    def exposition(self) -> bytes:
        """Return everything in the registry as text, of CONTENT_TYPE."""
        return generate_latest(self._registry)

    def reload_began(self, triggers: Sequence[str]) -> None:
        """Count nothing: what began also ends."""

    def reload_ended(self, report: Report) -> None:
        """Count a reload."""
        if report.dry_run:
            return
        self._reloads.labels(report.triggers[0] if report.triggers else "unknown", report.outcome).inc()
        self._durations.observe(report.duration)
        if _is_good(report):
            self._succeeded_at = _ended_at(report)

    def describe(self) -> Iterator[Metric]:
        """Tell a registry what it would collect, which it asks before anything is loaded."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield what the status says now."""
        status = self._conf.status
        gauges = {
            "hotconf_config_last_reload_successful": (
                "Whether the last configuration reload attempt was successful.",
                float(status.last_reload is not None and status.consecutive_failures == 0),
            ),
            "hotconf_config_last_reload_success_timestamp_seconds": (
                "Timestamp of the last successful configuration reload.",
                self._succeeded_at,
            ),
            "hotconf_config_generation": ("Number of the configuration in force.", status.generation),
            "hotconf_pending_restart": ("Settings that wait for a restart.", len(status.pending_restart)),
            "hotconf_snapshots_leased": ("Snapshots that somebody holds.", len(status.leased)),
        }
        yield from (GaugeMetricFamily(name, text, value) for name, (text, value) in gauges.items())
        stale = {str(source["name"]): source["state"] == "stale" for source in status.sources}
        yield _labelled("hotconf_source_stale", "Whether an earlier layer of a source stands.", "source", stale)
        yield _labelled("hotconf_watchers", "Clients that wait for changes.", "kind", self._watchers())


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        # A file may have a name that is no UTF-8, which this text has to be.
        family.add_metric([key.encode("utf-8", "backslashreplace").decode()], float(value))
    return family


def _is_good(report: Report) -> bool:
    return report.outcome != "rejected" and not report.dry_run


def _ended_at(report: Report) -> float:
    return report.started_at.timestamp() + report.duration
