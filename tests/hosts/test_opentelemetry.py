"""OpenTelemetry, with its SDK in memory."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import SecretStr

from hotconf import HotConf, Options, Section
from hotconf.integrations.opentelemetry import instrument
from hotconf.sources import Memory


class App(Section):
    limit: int = 3
    password: SecretStr = SecretStr("")


@pytest.fixture
def telemetry():
    reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    meter_provider = MeterProvider([reader])

    def points():
        found = {}
        for resource in reader.get_metrics_data().resource_metrics:
            for metric in resource.scope_metrics[0].metrics:
                found[metric.name] = list(metric.data.data_points)
        return found

    yield {"meter_provider": meter_provider, "tracer_provider": tracer_provider}, points, exporter.get_finished_spans
    tracer_provider.shutdown()
    meter_provider.shutdown()


async def test_each_reload_is_a_span_and_a_measurement(telemetry):
    providers, points, spans = telemetry
    memory = Memory({"limit": 1})
    conf = HotConf(App, sources=[memory], options=Options(watch=False))
    instrument(conf, **providers)
    async with conf.running(signals=()):
        memory.set({"limit": "hunter2", "password": "hunter2"})
        await conf.reload()
        rejected = points()
        memory.set({"limit": 2})
        await conf.reload(dry_run=True)
        await conf.reload(trigger="http")
        applied = points()
    start, refused, last = spans()
    assert [span.name for span in spans()] == ["hotconf reload"] * 3
    assert start.attributes["hotconf.triggers"] == ("start",)
    assert (refused.attributes["hotconf.outcome"], refused.status.is_ok) == ("rejected", False)
    assert [event.attributes["hotconf.path"] for event in refused.events] == ["limit"]
    assert last.attributes["hotconf.changed"] == ("limit",)
    assert (last.attributes["hotconf.generation"], last.attributes["hotconf.triggers"]) == (2, ("http",))
    assert 0 <= last.end_time - last.start_time < 20e9
    assert "hunter2" not in str([span.to_json() for span in spans()])

    (generation,) = applied["hotconf.generation"]
    assert generation.value == 2
    assert rejected["hotconf.last_reload_successful"][0].value == 0
    assert applied["hotconf.last_reload_successful"][0].value == 1
    assert applied["hotconf.pending_restart"][0].value == 0
    counts = {point.attributes["outcome"]: point.count for point in applied["hotconf.reload.duration"]}
    assert counts == {"applied": 2, "rejected": 1}
