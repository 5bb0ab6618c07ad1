"""Metrics for Prometheus, counted as requests are answered or read from the jobs during a scrape.

Each application has its own registry. Labels are route templates, methods, statuses and reasons, which are few and
cannot be chosen by callers.
"""

from __future__ import annotations

from collections import Counter as Counted
from collections.abc import Callable, Iterable
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from recall_server import __version__
from recall_server.errors import StorageFailed
from recall_server.service.service import RecallService

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60)


@final
class Metrics:
    """The registry of one application, with the counters of its routes and its guard."""

    def __init__(self, service: RecallService, *, cached_bytes: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "recall_http_requests", "Answers by route.", ("method", "route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "recall_http_request_seconds",
            "Time to the answer's last byte.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self.open_requests = Gauge("recall_http_open_requests", "Requests being answered.", registry=registry)
        self.refusals = Counter(
            "recall_refusals", "Requests refused before their body was read.", ("reason",), registry=registry
        )
        self.recalled_images = Counter("recall_recalled_images", "Images that were recalled.", registry=registry)
        self.cache = Counter("recall_cache_lookups", "Recalls looked up in the cache.", ("outcome",), registry=registry)
        Gauge("recall_cache_bytes", "Bytes of the answers kept.", registry=registry).set_function(cached_bytes)
        registry.register(_ServiceCollector(service))
        ProcessCollector(registry=registry)

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self._registry)


@final
class _ServiceCollector(Collector):
    """Jobs, workers and bundles as they are now."""

    def __init__(self, service: RecallService) -> None:
        self._service = service

    def describe(self) -> Iterable[Metric]:
        """No metrics: the registry need not check the names for duplicates."""
        return []

    def collect(self) -> Iterable[Metric]:
        yield from self._jobs()
        workers = GaugeMetricFamily("recall_workers", "Training processes.", labels=["state", "device", "node"])
        states = (
            (worker.state, worker.device or "unknown", worker.node or "") for worker in self._service.jobs.workers
        )
        for where, count in Counted[tuple[str, str, str]](states).items():
            workers.add_metric(list(where), count)
        yield workers
        library = self._service.library
        yield GaugeMetricFamily("recall_bundles", "Bundles served.", value=len(library.bundles))
        yield GaugeMetricFamily("recall_bundles_rejected", "Files rejected.", value=len(library.rejected))
        build = GaugeMetricFamily("recall_build_info", "Always 1.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build

    def _jobs(self) -> Iterable[Metric]:
        """The metrics of the job table; only `recall_job_table_usable` while it cannot be used."""
        usable = GaugeMetricFamily("recall_job_table_usable", "Whether the job table answers.")
        try:
            statistics = self._service.jobs.statistics()
        except StorageFailed:
            usable.add_metric([], 0)
            yield usable
            return
        usable.add_metric([], 1)
        yield usable
        yield GaugeMetricFamily("recall_jobs_queued", "Trainings that wait.", value=statistics.queued)
        yield GaugeMetricFamily("recall_jobs_running", "Trainings under way.", value=statistics.running)
        yield GaugeMetricFamily(
            "recall_jobs_oldest_queued_seconds",
            "How long the first of the queue has waited.",
            value=statistics.oldest_queued_seconds,
        )
        yield CounterMetricFamily("recall_job_retries", "Trainings begun again.", value=statistics.retries)
        finished = CounterMetricFamily("recall_jobs_finished", "Trainings that ended.", labels=["status"])
        for status, count in statistics.finished.items():
            finished.add_metric([str(status)], count)
        yield finished
        stages = SummaryMetricFamily("recall_job_seconds", "Time of jobs by stage.", labels=["stage"])
        for stage, spent in statistics.seconds_by_stage.items():
            stages.add_metric([stage], count_value=spent.count, sum_value=spent.seconds)
        yield stages
