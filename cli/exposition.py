"""What a role says at `/metrics`: OpenTelemetry's SDK and its Prometheus exporter around our tallies.

Its synchronous instruments take 8 microseconds a measurement, and a job in the engine's benchmark 60 in
all. So jobs and requests count into tallies (`core.tally`), and the SDK is told once a scrape: counters and
gauges through its observable instruments, histograms, of which it has no observable kind, as data points
of its own, which join the others on their way to the exporter. Bringing along what was counted elsewhere is
what its specification calls a MetricProducer; the SDK for Python has none.

Each role has a registry of its own: in `respool up` the API and the worker do not say each other's.
"""

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from msgspec import Struct
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry, generate_latest

from core.tally import Counts, Durations, Series

SCOPE: Final = "respool"

Gauge = Iterable[tuple[dict[str, str], float]]  # Values, each with its labels.


class _Named(Struct, frozen=True):
    """A histogram and what it is called."""

    name: str
    help: str
    durations: Durations


class Exposition:
    """The metrics of one role. What they are called, `cli.metrics` says."""

    def __init__(self) -> None:
        self._looks: list[Callable[[], Awaitable[None]]] = []
        self._registry = CollectorRegistry()
        self._reader = _Reader(self._registry)
        provider = MeterProvider(
            [self._reader],
            resource=Resource.get_empty(),
            exemplar_filter=AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
        )
        self._meter = provider.get_meter(SCOPE)

    def before(self, look: Callable[[], Awaitable[None]]) -> None:
        """Do this before anything is read. It must not raise."""
        self._looks.append(look)

    def counts(self, name: str, about: str, counts: Counts) -> None:
        """Show a counter; Prometheus has it as `NAME_total`."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for values, count in counts:
                yield Observation(count, dict(zip(counts.labels, values, strict=True)))

        self._meter.create_observable_counter(name, [observe], description=about)

    def gauge(self, name: str, about: str, read: Callable[[], Gauge], unit: str = "") -> None:
        """Show what is so now; Prometheus has the unit (`By`) in words at the name's end."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for labels, value in read():
                yield Observation(value, labels)

        self._meter.create_observable_gauge(name, [observe], unit, about)

    def durations(self, name: str, about: str, durations: Durations) -> None:
        """Show a histogram; Prometheus has it as `NAME_seconds`."""
        self._reader.histograms.append(_Named(name, about, durations))

    async def text(self) -> bytes:
        """All of it, in Prometheus's text format 0.0.4."""
        for look in self._looks:
            await look()
        return generate_latest(self._registry)


class _Reader(PrometheusMetricReader):
    """The exporter, which also gets the histograms."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(disable_target_info=True, scope_info_enabled=False, registry=registry)
        self.histograms: list[_Named] = []
        self._began = time.time_ns()

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **options: Any
    ) -> None:
        now = time.time_ns()
        metrics = [self._metric(named, now) for named in self.histograms]
        ours = ScopeMetrics(InstrumentationScope(SCOPE), metrics, "")
        resources = [
            replace(resource, scope_metrics=[*resource.scope_metrics, ours])
            for resource in metrics_data.resource_metrics
        ]
        super()._receive_metrics(MetricsData(resources), timeout_millis, **options)

    def _metric(self, named: _Named, now: int) -> Metric:
        labels, bounds = named.durations.labels, named.durations.bounds
        points = [
            _point(dict(zip(labels, values, strict=True)), series, bounds, self._began, now)
            for values, series in named.durations
        ]
        data = Histogram(points, AggregationTemporality.CUMULATIVE)
        return Metric(named.name, named.help, "s", data)


def _point(
    labels: dict[str, str], series: Series, bounds: tuple[float, ...], began: int, now: int
) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes=labels,
        start_time_unix_nano=began,
        time_unix_nano=now,
        count=sum(series.buckets),
        sum=series.sum,
        bucket_counts=series.buckets,
        explicit_bounds=bounds,
        min=0.0,
        max=0.0,
    )
