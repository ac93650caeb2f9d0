"""OpenTelemetry: metrics of the configuration, and a span for each reload."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import Observation
    from opentelemetry.trace import Status, StatusCode
except ImportError:
    raise ImportError(
        "hotconf.integrations.opentelemetry needs the extra: pip install 'hotconf[opentelemetry]'"
    ) from None

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.metrics import CallbackOptions, MeterProvider
    from opentelemetry.trace import TracerProvider

    from hotconf.conf import HotConf
    from hotconf.values.report import Report

__all__ = ("instrument",)

_NAME = "hotconf"


def instrument(
    conf: HotConf[Any], *, meter_provider: MeterProvider | None = None, tracer_provider: TracerProvider | None = None
) -> None:
    """Report the reloads of a configuration, and what is in force, with OpenTelemetry.

    Metrics: the histogram `hotconf.reload.duration` (seconds, by outcome; its count is that of the reloads), and the
    gauges `hotconf.generation`, `hotconf.last_reload_successful` and `hotconf.pending_restart`. Each reload is a span
    `hotconf reload` with its triggers, outcome, generation and changed paths, an event for each fault, and an error
    status where it was rejected. No value of a setting is in them. A dry run is
    not reported.

    Args:
        conf: The configuration.
        meter_provider: By default the global one.
        tracer_provider: By default the global one.
    """
    meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
    gauges: dict[str, tuple[str, Callable[[], int]]] = {
        "generation": ("Generation of the configuration in force.", lambda: conf.status.generation),
        "last_reload_successful": ("Whether the last reload was not rejected.", lambda: _is_successful(conf)),
        "pending_restart": (
            "Changed settings that only a restart can apply.",
            lambda: len(conf.status.pending_restart),
        ),
    }
    for name, (description, read) in gauges.items():

        def observe(_options: CallbackOptions, read: Callable[[], int] = read) -> Iterable[Observation]:
            return [Observation(read())]

        meter.create_observable_gauge(f"{_NAME}.{name}", [observe], description=description)
    conf.observe(_Reloads(meter, trace.get_tracer(_NAME, tracer_provider=tracer_provider)))


def _is_successful(conf: HotConf[Any]) -> int:
    report = conf.reports[-1] if conf.reports else None
    return int(report is not None and report.outcome != "rejected")


class _Reloads:
    """The observer."""

    def __init__(self, meter: metrics.Meter, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._duration = meter.create_histogram(
            f"{_NAME}.reload.duration", unit="s", description="Duration of reloads, by outcome."
        )

    def reload_began(self, triggers: Sequence[str]) -> None:
        """Do nothing: the span is made from the report, which has its begin."""

    def reload_ended(self, report: Report) -> None:
        """Record a reload."""
        self._duration.record(report.duration, {"outcome": report.outcome})
        began = int(report.started_at.timestamp() * 1e9)
        ended = began + int(report.duration * 1e9)
        attributes = {
            "hotconf.triggers": report.triggers,
            "hotconf.outcome": report.outcome,
            "hotconf.generation": report.generation,
            "hotconf.changed": report.changed,
        }
        span = self._tracer.start_span("hotconf reload", start_time=began, attributes=attributes)
        for fault in report.faults:
            span.add_event("fault", {"hotconf.path": fault.path, "hotconf.fault": str(fault)}, timestamp=ended)
        if report.outcome == "rejected":
            span.set_status(Status(StatusCode.ERROR, str(report.faults[0]) if report.faults else report.note))
        span.end(ended)
