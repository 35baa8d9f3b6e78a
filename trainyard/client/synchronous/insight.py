# Written by `make client` from the module of this name in `trainyard.client.asynchronous`; not to be edited.
"""The client's methods that tell why a network answers as it does, and how far it can be trusted."""

from __future__ import annotations

import time
from typing import Any

import httpx

from trainyard.client.errors import ApiError
from trainyard.client.images import ImageLike, read_image
from trainyard.client.kinds import Json
from trainyard.client.models import Calibration, EvaluatedImage, Evaluation, SimilarImage
from trainyard.client.synchronous.connection import Connection, without_none
from trainyard.client.synchronous.waiting import run_blocking, sleep

_IN_PROGRESS = "insight_in_progress"
_LONGEST_WAIT_S = 10.0  # between two questions


class InsightMethods(Connection):
    """A part of `AsyncClient`."""

    def explain(
        self,
        image: ImageLike,
        *,
        model: str = "latest",
        method: str = "grad_cam",
        target: str | None = None,
        view: str = "heat",
        px: int | None = None,
    ) -> bytes:
        """Return a PNG that shows what in an image speaks for a class.

        Args:
            image: as for `predict`.
            model: `latest`, an alias, or the id of a job or checkpoint.
            method: `grad_cam`, `integrated_gradients` or `occlusion`.
            target: name of the class. None: the most probable one.
            view: `heat`, to be laid over the image, or `overlay`, with the image below.
            px: longer side of the picture. None: that of the image, up to 1024.
        """
        wanted = {"model": model, "method": method, "target": target, "view": view, "px": px}
        return (self._send_image("/explain", image, wanted)).content

    def draw_activations(self, image: ImageLike, layer: str, *, model: str = "latest", scale: str = "common") -> bytes:
        """Return a PNG of what a layer computes for an image.

        Args:
            image: as for `predict`.
            layer: such as `conv1`, `relu5` or `fc7`.
            model: as for `explain`.
            scale: `common`, or `own`: black and white are the extremes of each map.
        """
        wanted = {"model": model, "layer": layer, "scale": scale}
        return (self._send_image("/activations", image, wanted)).content

    def find_similar(
        self, image: ImageLike, *, model: str = "latest", k: int = 10, timeout_s: float = 600
    ) -> list[SimilarImage]:
        """Return the training images that the network takes for the most alike to an image, the nearest first.

        Args:
            image: as for `predict`.
            model: as for `explain`.
            k: how many.
            timeout_s: seconds to wait for the checkpoint's index, which is made once.

        Raises:
            ApiError: `insight_in_progress`: it takes longer.
        """
        files = {"file": ("image", run_blocking(read_image, image), "application/octet-stream")}
        answer = self._until_done(timeout_s, "POST", "/similar", params={"model": model, "k": k}, files=files)
        return [SimilarImage.read(each) for each in answer.json()["images"]]

    def draw_filters(self, checkpoint_id: str, *, scale: str = "common") -> bytes:
        """Return a PNG of the kernels of a checkpoint's first convolution."""
        return (self._send("GET", f"/checkpoints/{checkpoint_id}/filters.png", params={"scale": scale})).content

    def get_calibration(self, checkpoint_id: str, *, timeout_s: float = 600) -> Calibration:
        """Return how far a checkpoint's probabilities can be trusted.

        Args:
            checkpoint_id: which one.
            timeout_s: seconds to wait for it, where it has not been computed yet.

        Raises:
            ApiError: `insight_in_progress`: it takes longer.
        """
        answer = self._until_done(timeout_s, "GET", f"/checkpoints/{checkpoint_id}/calibration")
        return Calibration.read(answer.json())

    def get_evaluation(
        self, job_id: str, *, split: str | None = None, checkpoint: str | None = None, timeout_s: float = 600
    ) -> Evaluation:
        """Return how a job's best checkpoint does, and in `label_errors` the images whose label is likely wrong.

        Args:
            job_id: which job.
            split: evaluate on these images; None: on the test images.
            checkpoint: evaluate this checkpoint of the job; None: the best one.
            timeout_s: seconds to wait for an evaluation that has not been computed yet.

        Raises:
            ApiError: `insight_in_progress`: it takes longer.
        """
        wanted = without_none({"split": split, "checkpoint": checkpoint})
        answer = self._until_done(timeout_s, "GET", f"/jobs/{job_id}/evaluation", params=wanted)
        return Evaluation.read(answer.json())

    def list_evaluated_images(
        self,
        job_id: str,
        *,
        true: str | None = None,
        predicted: str | None = None,
        order: str = "loss",
        split: str | None = None,
        checkpoint: str | None = None,
        limit: int = 100,
        timeout_s: float = 600,
    ) -> list[EvaluatedImage]:
        """Return the first images behind an evaluation, such as those of a cell of its confusion matrix.

        Args:
            job_id: which job.
            true: only images of this class.
            predicted: only images that were taken for this class.
            order: `loss`: the hardest first; `-loss`: the easiest first; `index`: as in the split.
            split: as for `get_evaluation`.
            checkpoint: as for `get_evaluation`.
            limit: 1 to 100.
            timeout_s: as for `get_evaluation`.

        Raises:
            ApiError: `insight_in_progress`: it takes longer.
        """
        wanted = {"true": true, "predicted": predicted, "order": order, "split": split, "checkpoint": checkpoint}
        path = f"/jobs/{job_id}/evaluation/images"
        answer = self._until_done(timeout_s, "GET", path, params=without_none(wanted | {"limit": limit}))
        return [EvaluatedImage.read(each) for each in answer.json()["data"]]

    def _send_image(self, path: str, image: ImageLike, wanted: Json) -> httpx.Response:
        files = {"file": ("image", run_blocking(read_image, image), "application/octet-stream")}
        return self._send("POST", path, params=without_none(wanted), files=files)

    def _until_done(self, timeout_s: float, method: str, path: str, **kw: Any) -> httpx.Response:
        """Ask again while the answer is being computed."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return self._send(method, path, may_repeat=False, **kw)
            except ApiError as exc:
                wait_s = min(_LONGEST_WAIT_S, 1.0 if exc.retry_after_s is None else exc.retry_after_s)
                if exc.code != _IN_PROGRESS or time.monotonic() + wait_s > deadline:
                    raise
            sleep(wait_s)
