"""Metrics for Prometheus, derived from status and reports. Where Prometheus has the same metric, names match."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
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
    """The metrics of one configuration. Safe from any thread.

    Reloads are counted from now on, without dry runs; gauges are read at each collection.

    Args:
        conf: The configuration.
        registry: Where the metrics are registered; a new registry by default.
        watchers: Returns the number of clients that wait for changes, by kind.
        unauthorized: Returns the number of requests that were refused because their token was missing or wrong:
            `lambda: safety.unauthorized`. Without it the metric has no value.
    """

    def __init__(
        self,
        conf: HotConf[Any],
        registry: CollectorRegistry | None = None,
        *,
        watchers: Callable[[], Mapping[str, int]] = dict,
        unauthorized: Callable[[], int] | None = None,
    ) -> None:
        self._conf = conf
        self._watchers = watchers
        self._unauthorized = unauthorized
        self._registry = registry if registry is not None else CollectorRegistry()
        self._succeeded_at = max((_ended_at(report) for report in conf.reports if _is_good(report)), default=0.0)
        self._reloads = Counter(
            "hotconf_reloads",
            "Configuration reloads by first trigger and outcome.",
            ["trigger", "outcome"],
            registry=self._registry,
        )
        self._durations = Histogram(
            "hotconf_reload_duration_seconds",
            "Time from the first read of a source to the last commit.",
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._registry.register(self)
        conf.observe(self)

    def exposition(self) -> bytes:
        """Return all metrics of the registry in Prometheus' text format, for responses of CONTENT_TYPE."""
        return generate_latest(self._registry)

    def reload_began(self, triggers: Sequence[str]) -> None:
        """Count nothing: a reload is counted when it ends."""

    def reload_ended(self, report: Report) -> None:
        """Count a reload."""
        if report.dry_run:
            return
        self._reloads.labels(report.triggers[0] if report.triggers else "unknown", report.outcome).inc()
        self._durations.observe(report.duration)
        if _is_good(report):
            self._succeeded_at = _ended_at(report)

    def describe(self) -> Iterator[Metric]:
        """Yield the metrics without a load having taken place: a registry calls this when they are registered."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
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
            "hotconf_config_generation": ("Generation of the configuration in force.", status.generation),
            "hotconf_pending_restart": ("Changed settings that only a restart can apply.", len(status.pending_restart)),
            "hotconf_snapshots_leased": ("Snapshots with at least one lease.", len(status.leased)),
        }
        yield from (GaugeMetricFamily(name, text, value) for name, (text, value) in gauges.items())
        stale = {str(source["name"]): source["state"] == "stale" for source in status.sources}
        yield _labelled(
            "hotconf_source_stale",
            "Whether a source could not be read and its last layer is still in force.",
            "source",
            stale,
        )
        yield _labelled(
            "hotconf_source_age_seconds",
            "Seconds since a source was in reach, 0 while it is.",
            "source",
            {str(source["name"]): source["age"] or 0.0 for source in status.sources},
        )
        yield _labelled("hotconf_watchers", "Clients that wait for changes.", "kind", self._watchers())
        yield CounterMetricFamily(
            "hotconf_http_unauthorized",
            "Requests that were refused because their token was missing or wrong.",
            None if self._unauthorized is None else self._unauthorized(),
        )


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        # The text format is UTF-8, which a file name need not be.
        family.add_metric([key.encode("utf-8", "backslashreplace").decode()], float(value))
    return family


def _is_good(report: Report) -> bool:
    return report.outcome != "rejected" and not report.dry_run


def _ended_at(report: Report) -> float:
    return report.started_at.timestamp() + report.duration
