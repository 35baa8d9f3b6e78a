"""The metrics of one API process: every object that counts or measures, by Prometheus' conventions.

What the database knows is not counted here but read from it: see `yard_collector`. Labels have few values, all of them
from this code: no label is an id, a name that a user chose, or a path that a client sent.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Counted
from collections.abc import Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from api.observability.serving_observer import LoadOutcome

ANSWER_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STEP_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
LOAD_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class AnswerLabels(NamedTuple):
    """What an answer is counted by that was given before the app was called."""

    method: str
    route: str
    status: int
    code: str
    model: str | None = None  #: how a prediction named its model


class Metrics:
    """Made once in a process. It is a `ServingObserver` and an `UpkeepObserver`.

    A gauge's `multiprocess_mode` says how the values of several processes become one; those of ended processes are left
    out (`live…`).
    """

    def __init__(self) -> None:
        disable_created_metrics()  # else each count has a second series; several processes don't tell it anyway
        self.registry = CollectorRegistry()
        registry = self.registry
        self._requests = Counter(
            "trainyard_http_requests_total",
            "Answered requests. `code` is the error's code, or `ok`.",
            ("method", "route", "status", "code"),
            registry=registry,
        )
        self._request_s = Histogram(
            "trainyard_http_request_duration_seconds",
            "Time from a request's headers to the first byte of its answer, of those that reached the app.",
            ("method", "route"),
            buckets=ANSWER_S,
            registry=registry,
        )
        self._counted: dict[tuple[str, str, str, str], tuple[Counter, Histogram]] = {}
        self._predict_requests = Counter(
            "trainyard_predict_requests_total",
            "Answered requests for predictions, by how the model was named.",
            ("model", "code"),
            registry=registry,
        )
        decode_s = Histogram(
            "trainyard_predict_decode_seconds",
            "Time to decode and preprocess an image.",
            ("image",),
            buckets=STEP_S,
            registry=registry,
        )
        self._decode_small_s, self._decode_large_s = decode_s.labels("small"), decode_s.labels("large")
        self._queue_s = Histogram(
            "trainyard_predict_queue_seconds",
            "Time that a preprocessed image waited for its batch.",
            buckets=STEP_S,
            registry=registry,
        )
        self._batch_images = Histogram(
            "trainyard_predict_batch_images",
            "Images that were computed together.",
            buckets=IMAGES,
            registry=registry,
        )
        self._compute_s = Histogram(
            "trainyard_predict_compute_seconds",
            "Time that the network took for a batch.",
            buckets=STEP_S,
            registry=registry,
        )
        self._queued_images = Gauge(
            "trainyard_predict_queued_images",
            "Images that were accepted and are not answered yet.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        loads = Counter(
            "trainyard_model_loads_total",
            "Loads of checkpoints for predictions.",
            ("outcome",),
            registry=registry,
        )
        self._loads = {outcome: loads.labels(outcome.value) for outcome in LoadOutcome}
        self._load_s = Histogram(
            "trainyard_model_load_seconds",
            "Time to read, verify and warm a checkpoint.",
            buckets=LOAD_S,
            registry=registry,
        )
        self._models = Gauge(
            "trainyard_models_loaded", "Models in memory.", multiprocess_mode="livesum", registry=registry
        )
        self._model_bytes = Gauge(
            "trainyard_models_loaded_bytes",
            "Memory of the loaded models' parameters.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._publication = Gauge(
            "trainyard_served_publication_number",
            "Number of the publication that answers as `latest`.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._leases_lost = Counter(
            "trainyard_leases_lost_total",
            "Jobs, validations and predictions taken back from workers that no longer answered.",
            registry=registry,
        )
        self._queue_up = Gauge(
            "trainyard_queue_up",
            "Whether the queue server took this API's last wake-up message.",
            multiprocess_mode="livemin",
            registry=registry,
        )
        self._queue_up.set(1)

    def answered(self, *, method: str, route: str, status: int, code: str, seconds: float) -> None:
        """Count a request that was answered: see `answered_all`."""
        self.answered_all(method=method, route=route, status=status, code=code, seconds=[seconds])

    def answered_all(self, *, method: str, route: str, status: int, code: str, seconds: Sequence[float]) -> None:
        """Count requests that were answered alike.

        Args:
            method: of HTTP, or `other`.
            route: its path with names in place of ids, or `none`.
            status: of HTTP.
            code: the error's, or `ok`.
            seconds: to the first byte of each answer.
        """
        request = method, route, str(status), code
        if (counted := self._counted.get(request)) is None:  # `labels` takes longer than to count
            counted = self._requests.labels(*request), self._request_s.labels(method, route)
            self._counted[request] = counted
        counted[0].inc(len(seconds))
        _observe_all(counted[1], seconds)

    def answered_at_head(self, labels: AnswerLabels, count: int) -> None:
        """Count answers that were given before the app was called, which takes no time worth telling."""
        self._requests.labels(labels.method, labels.route, str(labels.status), labels.code).inc(count)
        if labels.model is not None:
            self.predicted(model=labels.model, code=labels.code, requests=count)

    def predicted(self, *, model: str, code: str, requests: int = 1) -> None:
        """Count requests for predictions, besides `answered`."""
        self._predict_requests.labels(model, code).inc(requests)

    def decoded(self, seconds: Sequence[float], *, large: bool) -> None:
        """See `ServingObserver`."""
        _observe_all(self._decode_large_s if large else self._decode_small_s, seconds)

    def queued(self, images: int) -> None:
        """See `ServingObserver`."""
        self._queued_images.set(images)

    def computed(self, images: int, seconds: float, waited_s: Sequence[float]) -> None:
        """See `ServingObserver`."""
        self._batch_images.observe(images)
        self._compute_s.observe(seconds)
        _observe_all(self._queue_s, waited_s)

    def loaded(self, seconds: float, outcome: LoadOutcome) -> None:
        """See `ServingObserver`."""
        self._loads[outcome].inc()
        self._load_s.observe(seconds)

    def holds(self, models: int, size_bytes: int) -> None:
        """See `ServingObserver`."""
        self._models.set(models)
        self._model_bytes.set(size_bytes)

    def serves(self, publication: int) -> None:
        """See `ServingObserver`."""
        self._publication.set(publication)

    def leases_lost(self, count: int) -> None:
        """See `UpkeepObserver`."""
        self._leases_lost.inc(count)

    def queue_answers(self, up: bool) -> None:
        """See `UpkeepObserver`."""
        self._queue_up.set(1 if up else 0)


def _observe_all(histogram: Histogram, values: Sequence[float]) -> None:
    """Observe values as `Histogram.observe` does each: for those of a batch this takes a tenth of the time."""
    histogram._sum.inc(sum(values))
    for place, count in Counted(bisect_left(histogram._upper_bounds, value) for value in values).items():
        histogram._buckets[place].inc(count)
