"""Numbers about the program for Prometheus: requests, predictions, uploads, decisions."""

import sqlite3
import time
from collections import Counter as Counts
from collections.abc import Awaitable, Callable, Iterable
from typing import get_args

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from nonet.review.access import Reader
from nonet.review.predictor import BATCH_SIZE
from nonet.review.site import Site
from nonet.review.upload_folder import State, Upload

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 120)


def add_metrics(app: FastAPI, site: Site) -> None:
    """Measure every request, and add the page /metrics.

    Labels have few values: a request counts under the template of its route, never under its address.

    Parameters
    ----------
    app : FastAPI
    site : Site
    """
    registry = CollectorRegistry()
    requests = Counter("nonet_requests", "Requests.", ("route", "method", "status"), registry=registry)
    latency = Histogram(
        "nonet_request_seconds", "Time to answer.", ("route", "method"), buckets=_SECONDS, registry=registry
    )
    sizes = Histogram(
        "nonet_batch_images", "Single images predicted at once.", buckets=_powers(BATCH_SIZE), registry=registry
    )
    predicted = Counter("nonet_images_predicted", "Images predicted.", ("source",), registry=registry)
    registry.register(_State(site))

    def count_batch(num_images: int) -> None:
        sizes.observe(num_images)
        predicted.labels("single").inc(num_images)

    def count_upload(upload: Upload) -> None:
        predicted.labels("upload").inc(len(upload.images))

    site.predictor.on_batch = count_batch
    site.upload_prediction.on_done = count_upload

    @app.middleware("http")
    async def measure(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        began, status = time.perf_counter(), 500
        try:
            response = await call_next(request)
            status = response.status_code
            return response
        finally:
            route = getattr(request.scope.get("route"), "path", "none") or "none"
            method = request.method if request.method in _METHODS else "other"
            requests.labels(route, method, str(status)).inc()
            latency.labels(route, method).observe(time.perf_counter() - began)

    @app.get("/metrics", include_in_schema=False)
    def show_metrics(user: Reader) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _State:
    """How things stand when they are asked for."""

    def __init__(self, site: Site):
        self._site = site

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        site = self._site
        ready = site.predictor.problem is None
        yield GaugeMetricFamily("nonet_ready", "Whether the networks can predict.", value=float(ready))
        waiting = float(site.predictor.num_waiting)
        yield GaugeMetricFamily("nonet_predict_waiting", "Single images that wait for an answer.", value=waiting)
        uploads = GaugeMetricFamily("nonet_uploads", "Uploads by state.", labels=["state"])
        by_state = Counts(upload.state for upload in site.uploads.all())
        for state in get_args(State):
            uploads.add_metric([state], by_state[state])
        yield uploads
        try:
            with site.store.connect() as connection:
                (decisions,) = connection.execute("SELECT count(*) FROM decisions").fetchone()
        except sqlite3.Error:  # the other numbers are the more wanted
            return
        yield CounterMetricFamily("nonet_decisions", "Decisions on cells that are stored.", value=decisions)


def _powers(largest: int) -> tuple[int, ...]:
    return tuple(2**power for power in range(largest.bit_length()))
