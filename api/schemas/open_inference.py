"""The bodies of the Open Inference Protocol, but for requests and answers of inference: see `api.open_inference`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from api.schemas.base import DESCRIBED


class ProtocolError(BaseModel):
    """What went wrong."""

    error: str


class ServerMetadata(BaseModel):
    """This server."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """The server answers."""

    live: bool


class Ready(BaseModel):
    """The server can do what it is asked."""

    ready: bool


class ModelReady(BaseModel):
    """A model can answer."""

    name: str
    ready: bool


class TensorMetadata(BaseModel):
    """A tensor; a side of -1 may have any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelParameters(BaseModel):
    """What the protocol has no field for."""

    model_config = DESCRIBED

    checkpoint: str
    """Id of the checkpoint that answers now."""
    job: str
    """Id of the job that made it."""
    epoch: int
    """Number of complete epochs."""
    weights_sha256: str
    """Hash of its weights."""
    precision: str
    """What it computes in: `fp32` or `bf16`, whichever this machine was measured to be faster in."""
    agreement: float | None
    """Of one in bf16: on which share of the dataset's test images (1,000 at most) it names the same class first as in
    fp32. Null: not measured, or not yet."""
    class_names: list[str]
    """Names by index."""
    other_inputs: list[TensorMetadata]
    """What may be sent in place of `image`: decoded images, and the network's own input."""


class ModelMetadata(BaseModel):
    """A model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: ModelParameters


class IndexRequest(BaseModel):
    """Which models are wanted."""

    model_config = ConfigDict(extra="ignore", use_attribute_docstrings=True)

    ready: bool = False
    """Only those that are in memory."""


class IndexEntry(BaseModel):
    """A model in the list."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class InferAnswer(BaseModel):
    """The answer to a request for inference."""

    model_config = DESCRIBED

    model_name: str
    model_version: str
    id: str | None
    """That of the request."""
    parameters: dict[str, Any]
    """`checkpoint`, `job`, `epoch`, `weights_sha256`, and of an alias with a canary `side`."""
    outputs: list[dict[str, Any]]
    """`name`, `datatype`, `shape`, and `data` or `parameters.binary_data_size`."""
