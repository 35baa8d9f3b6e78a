"""What a run *is*: `TrainConfig`, validated once, the same object in the API, the database, the checkpoint and the CLI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from alexnet_core.errors import ConfigError

Width = Annotated[int, Field(ge=1, le=8192)]
Kernel = Annotated[int, Field(ge=1, le=15)]
LearningRate = Annotated[float, Field(gt=0, le=10)]
ChannelValue = Annotated[float, Field(ge=0, le=255)]


class TrainConfig(BaseModel):
    """A complete set of hyper-parameters. A recipe is one of these with a name; a job is a recipe with overrides."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    widths: tuple[Width, Width, Width, Width, Width]
    """Maps of the five convolutions."""

    kernels: tuple[Kernel, Kernel, Kernel, Kernel, Kernel]
    """Side of each convolution's kernel in pixels; odd."""

    conv1_stride: int = Field(ge=1, le=8)
    """Stride of the first convolution; the others have 1."""

    padding: Literal["same", "tf_same"]
    """`same`: half a kernel on every side, pools pad by 1. `tf_same`: as TensorFlow's "same", the odd pixel at the end."""

    fc_widths: tuple[Width, Width]
    """Units of the two hidden fully connected layers."""

    norm: Literal["none", "batch"]
    """Normalisation between each convolution and its ReLU."""

    dropout: float = Field(ge=0, lt=1)
    """Share of units that are dropped after each hidden fully connected layer in training."""

    init: Literal["notes", "torch", "he_normal"]
    """Initial weights. `notes`: U(-0.05, 0.05) in convolutions, Glorot's uniform elsewhere, biases 0."""

    image_px: int = Field(ge=8, le=512)
    """Side of the square input; images are resized to it (antialiased, bilinear)."""

    channels: Literal[1, 3] | None = None
    """Channels of the input. None: the dataset's own."""

    mean: tuple[ChannelValue, ...] | None = None
    """Mean a channel that is subtracted, in 0..255 units. None: of the dataset's training split."""

    std: tuple[Annotated[float, Field(gt=0, le=255)], ...] | None = None
    """Standard deviation a channel to divide by, in 0..255 units. None: of the dataset's training split."""

    epochs: int = Field(ge=1, le=1000)
    """Passes over the training split."""

    batch_size: int = Field(ge=1, le=1024)
    """Images a step."""

    optimiser: Literal["sgd", "keras_sgd", "adamw"]
    """`sgd`: PyTorch's rule. `keras_sgd`: with the learning rate inside the velocity. `adamw`: decoupled weight decay."""

    lr: LearningRate
    """Learning rate; the highest one where the schedule changes it."""

    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD."""

    nesterov: bool = False
    """Nesterov's form of the momentum."""

    weight_decay: float = Field(0.0, ge=0, le=1)
    """L2 penalty on kernels and matrices (not on biases and norms)."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread over all classes."""

    schedule: Literal["constant", "step", "cosine", "one_cycle"]
    """How the learning rate changes: never, by `lr_steps`, down a cosine, or up and down in straight lines."""

    lr_steps: tuple[tuple[Annotated[int, Field(ge=0)], LearningRate], ...] = ()
    """For `step`: pairs of the first epoch (from 0) and the learning rate from then on."""

    warmup_fraction: float = Field(0.0, ge=0, lt=1)
    """For `cosine` and `one_cycle`: share of the run in which the learning rate rises."""

    flip: bool
    """Mirror half of the training images. Off by itself where a dataset's classes don't allow it, unless set by hand."""

    shift_px: float = Field(0.0, ge=0, le=64)
    """Shift by up to this many input pixels each way, sub-pixel, bilinear, filled with 0 after standardisation."""

    rotate_deg: float = Field(0.0, ge=0, le=180)
    """Turn by up to this many degrees each way."""

    scale: float = Field(0.0, ge=0, le=0.5)
    """Zoom by up to this share each way."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training. `auto`: bf16 where the device is faster with it."""

    interval_steps: int | None = Field(None, ge=1)
    """Steps between two points of the training curve. None: about twenty an epoch."""

    validate_on: Literal["validation", "test"] = "validation"
    """Split on which the best checkpoint is chosen. `test`: as the notes did; the job is marked so."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError(f"kernels is {self.kernels}: every side must be odd")
        if (self.schedule == "step") != bool(self.lr_steps):
            raise ValueError("schedule `step` and lr_steps go together: give both or neither")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together: give both or neither")
        if self.mean is not None and self.std is not None and not len(self.mean) == len(self.std) in (1, 3):
            raise ValueError("mean and std need one value a channel: 1 or 3 of them")
        if self.mean is not None and self.channels is not None and len(self.mean) != self.channels:
            raise ValueError(f"mean has {len(self.mean)} values for {self.channels} channels")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    def with_overrides(self, overrides: Mapping[str, Any]) -> TrainConfig:
        """This config with some fields changed, checked as a whole.

        Raises:
            ConfigError: a field does not exist or its value is out of range; `param` is its path (`overrides.lr`).
        """
        return parse_config(self.model_dump(mode="json") | dict(overrides), "overrides")


def parse_config(fields: Mapping[str, Any], where: str = "config") -> TrainConfig:
    """A config from JSON values; text is no number and 1.5 is no count.

    Raises:
        ConfigError: see `TrainConfig.with_overrides`.
    """
    try:
        return TrainConfig.model_validate(_tuples(dict(fields)), strict=True)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False)[0]
        param = ".".join([where, *map(str, first["loc"])])
        value = "" if first["type"] in {"extra_forbidden", "missing"} or not first["loc"] else f"; got {first['input']!r:.100}"
        hint = "there is no such field: `GET /recipes/{name}` shows the schema" if first["type"] == "extra_forbidden" else first["msg"]
        raise ConfigError(f"{param}: {hint}{value}", param=param) from exc


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that strict validation asks for."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_tuples(item) for item in value)
    return value


class DatasetFacts(BaseModel):
    """What a config must know of a dataset; the counts are None until it is prepared."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """Its name."""

    num_classes: int = Field(ge=1)
    """How many classes it has."""

    class_names: tuple[str, ...]
    """Their names; a label is an index into them."""

    image_px: int = Field(ge=1)
    """Side of its square images in pixels."""

    channels: Literal[1, 3]
    """1: grey, 3: RGB."""

    flip_safe: bool
    """Whether a mirrored image still belongs to its class."""

    num_train: int | None = None
    """Images to train on."""

    num_val: int | None = None
    """Images to choose the best checkpoint by."""

    num_test: int | None = None
    """Images for the one final test."""
