"""What web processes ask of the engine. It runs in a process of its own (see `api.remote`), in tests in theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

from alexnet_core.insight.serving_facts import ServingFacts
from api.serving.refusals import Refusal
from trainyard.errors import ServiceError
from trainyard.states import Side

ModelState = Literal["none", "loading", "ok"]


@dataclass(frozen=True)
class ModelInfo:
    """The model that answered."""

    checkpoint: str
    job: str
    epoch: int
    weights_sha256: str
    alias: str | None  #: that the request named, or `latest`
    version: int | None  #: of the alias: its last move; of `latest`: the publication. It never goes back
    side: Side | None  #: of an alias with a canary


Label = tuple[str, int, float]  #: name, index, probability


@dataclass(frozen=True)
class Outcome:
    """What came of one image: its most probable classes, or why there are none."""

    labels: list[Label]  #: the most probable first
    preprocess_ms: float
    queue_ms: float
    inference_ms: float
    refusal: Refusal | None = None
    unfamiliarity: float | None = None  #: of an answer with calibrated probabilities: see `score_unfamiliarity`


@dataclass(frozen=True)
class Classified:
    """What came of a request."""

    model: ModelInfo
    outcomes: list[Outcome]  #: one for each image, in their order
    facts: ServingFacts | None = None  #: by which the probabilities are calibrated; None: they are the network's own


@dataclass(frozen=True, slots=True)
class PlainAnswer:
    """The answer for one image, as its client gets it but for the end of it."""

    checkpoint: str
    text: bytes  #: JSON up to the value of its last field, `total_ms`


Then = Callable[[PlainAnswer | ServiceError], None]  #: is called once, with the answer or why there is none


class ImageForm(StrEnum):
    """How the images of a request are given; the values are the Open Inference Protocol's datatypes."""

    FILES = "BYTES"  #: image files
    PIXELS = "UINT8"  #: decoded images, HWC
    VALUES = "FP32"  #: the network's input, CHW, standardised by the client


@dataclass(frozen=True)
class Agreement:
    """How often a model names the same class first as the same network in fp32."""

    share: float  #: 0 to 1
    images: int  #: test images of the model's dataset that were compared


@dataclass(frozen=True)
class ModelDescription:
    """A loaded model."""

    model: ModelInfo
    class_names: list[str]
    input_shape: tuple[int, int, int]  #: CHW
    precision: str  #: `fp32` or `bf16`
    agreement: Agreement | None  #: of one in bf16, once it is measured


@dataclass(frozen=True)
class Inferred:
    """What came of the images of a request, all of them."""

    model: ModelInfo
    probabilities: list[list[float]]  #: by image, in the order of the classes
    named: list[list[str]]  #: by image, the most probable classes, as many as were asked for


class ServingEngine(Protocol):
    """Classifies images. Every async method may also be called from another process: see `api.remote.calls`."""

    def start(self) -> None:
        """Start to work in the background."""
        ...

    async def stop(self) -> None:
        """End all work; what has been accepted is still answered."""
        ...

    @property
    def model_state(self) -> ModelState:
        """Return `ok` if `latest` can answer, `loading` if it is being loaded, `none` if there is nothing to load."""
        ...

    async def classify(
        self,
        owner: str,
        reference: str,
        images: list[bytes],
        top_k: int,
        sticky: str | None = None,
        calibrated: bool = False,
    ) -> Classified:
        """Classify the images of one request. Cancelling removes what has not been computed yet.

        Args:
            owner: whose models.
            reference: of the model, as in `?model=`.
            images: files.
            top_k: classes to name for each.
            sticky: for an alias with a canary: the same text is answered by the same side.
            calibrated: calibrate the probabilities, if the checkpoint's calibration is known.

        Raises:
            ServiceError: no model can answer, or there is no room now. What is wrong with a single image stands in its
                outcome.
        """
        ...

    def predict_plainly(self, owner: str, reference: str, image: bytes, top_k: int, then: Then) -> Callable[[], object]:
        """Classify one image without a coroutine. Must be called in the event loop.

        Args:
            owner: whose models.
            reference: of the model, as in `?model=`.
            image: its file.
            top_k: classes to name.
            then: is called in the event loop when it is answered or refused, perhaps before this returns.

        Returns:
            What gives it up: nothing more is computed for it, and `then` is not called any more.
        """
        ...

    async def warm(self, owner: str, checkpoint_ids: dict[str, str]) -> None:
        """Load checkpoints and compute an image with each, so that whatever names them from now on answers at once.

        Args:
            owner: whose.
            checkpoint_ids: by the field of the request that names each.

        Raises:
            CheckpointUnusable: one is damaged, gone, or gives no numbers.
            Unavailable: one can't be read now, or is still being loaded: try again.
        """
        ...

    async def follow_alias(self, owner: str, name: str, version: int | None) -> None:
        """Return when the engine answers for an alias by this version or a newer one, at most after `model_wait_s`.

        Args:
            owner: whose.
            name: of the alias.
            version: None: the alias was deleted.
        """
        ...

    async def infer(
        self,
        owner: str,
        reference: str,
        images: list[bytes],
        form: ImageForm,
        shape: list[int],
        num_named: int,
        sticky: str | None = None,
    ) -> Inferred:
        """Compute the images of one request, all or none. Cancelling removes what has not been computed yet.

        Args:
            owner: whose models.
            reference: of the model, as in `?model=`.
            images: files or arrays.
            form: what they are.
            shape: of each array; empty for files.
            num_named: classes to name for each.
            sticky: as for `classify`.

        Raises:
            ServiceError: the model can't answer, or an image can't be computed.
        """
        ...

    async def describe(self, owner: str, reference: str) -> ModelDescription:
        """Return what a model is like; it is loaded first.

        Raises:
            ServiceError: no model can answer.
        """
        ...

    async def list_loaded(self) -> list[str]:
        """Return the ids of the checkpoints in memory."""
        ...

    async def unload(self, checkpoint_id: str) -> bool:
        """Unload the model of a checkpoint. False: it is `latest`, or an alias names it."""
        ...

    async def forget(self, job_id: str) -> None:
        """Unload the models of a deleted job."""
        ...
