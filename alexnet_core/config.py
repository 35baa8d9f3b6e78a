"""What a run *is*: the hyper-parameters, validated once, and the facts about a dataset. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from alexnet_core.errors import ConfigError


def _list_to_tuple(value: object) -> object:
    """JSON has no tuples: take a list for one, however deep."""
    return tuple(_list_to_tuple(item) for item in value) if isinstance(value, list | tuple) else value


Width = Annotated[int, Field(ge=1, le=8192)]
Kernel = Annotated[int, Field(ge=1, le=15)]
ByteValue = Annotated[float, Field(ge=0, le=255)]
ByteDeviation = Annotated[float, Field(gt=0, le=255)]
LearningRate = Annotated[float, Field(gt=0, le=10)]
LrStep = Annotated[tuple[Annotated[int, Field(ge=0, le=1000)], LearningRate], BeforeValidator(_list_to_tuple)]

_FROZEN = ConfigDict(
    frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True
)


class TrainConfig(BaseModel):
    """A complete set of hyper-parameters. The seed is not one of them: it belongs to the job."""

    model_config = _FROZEN

    widths: Annotated[tuple[Width, Width, Width, Width, Width], BeforeValidator(_list_to_tuple)]
    """Maps of the five convolutions."""
    kernels: Annotated[tuple[Kernel, Kernel, Kernel, Kernel, Kernel], BeforeValidator(_list_to_tuple)]
    """Kernel sides of the five convolutions, in pixels; odd where `padding` is `same`."""
    conv1_stride: int = Field(default=1, ge=1, le=8)
    """Stride of the first convolution, in pixels; the others have 1."""
    padding: Literal["same", "tf_same"] = "same"
    """`same`: kernel // 2 on every side. `tf_same`: TensorFlow's rule, the odd pixel goes after."""
    fc_widths: Annotated[tuple[Width, Width], BeforeValidator(_list_to_tuple)]
    """Units of the two hidden fully connected layers."""
    activation: Literal["relu"] = "relu"
    """After every convolution and hidden fully connected layer."""
    norm: Literal["none", "batch"] = "none"
    """`batch`: batch normalisation between each convolution, then without bias, and its activation."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Probability of dropping a unit after each hidden fully connected layer, in training only."""
    init: Literal["notes", "torch", "he_normal"] = "torch"
    """`notes`: U(-.05, .05) in convolutions, Glorot uniform in fully connected layers, biases 0."""

    image_px: int = Field(ge=8, le=512)
    """Side of the network's square input, in pixels; images are resized to it."""
    channels: Literal[1, 3] | None = None
    """Colour channels of the network's input. None: the dataset's own."""
    mean: Annotated[tuple[ByteValue, ...] | None, BeforeValidator(_list_to_tuple)] = None
    """Mean by channel that is subtracted, in 0..255 units. None: that of the dataset's training split."""
    std: Annotated[tuple[ByteDeviation, ...] | None, BeforeValidator(_list_to_tuple)] = None
    """Deviation by channel that is divided by, in 0..255 units. None: that of the dataset's training split."""

    optimiser: Literal["sgd", "keras_sgd", "adamw"] = "sgd"
    """`keras_sgd` keeps the learning rate inside the velocity; it differs from `sgd` right after a change of it."""
    lr: LearningRate = Field(default=0.01)
    """Learning rate; the highest one of a schedule that warms up."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of both kinds of SGD."""
    nesterov: bool = False
    """Look ahead along the velocity; of both kinds of SGD, needs momentum."""
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """On kernels and matrices, not on biases and norms."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that is spread over all classes; in the training loss only."""
    batch_size: int = Field(ge=1, le=1024)
    """Images a step."""
    epochs: int = Field(ge=1, le=1000)
    """Passes over the training split."""

    schedule: Literal["constant", "step", "cosine", "one_cycle"] = "constant"
    """How the learning rate changes. `cosine` and `one_cycle` (linear) stretch with `epochs`; `step` has `lr_steps`."""
    lr_steps: Annotated[tuple[LrStep, ...], BeforeValidator(_list_to_tuple)] = Field(default=(), max_length=100)
    """For `step`: pairs of the first epoch (from 0) at which a learning rate holds, and that rate. Not scaled."""
    warmup_fraction: float = Field(default=0.0, ge=0, le=0.9)
    """Share of the run over which `cosine` and `one_cycle` rise to `lr`."""

    flip: bool = False
    """Mirror half of the training images left to right. Only where the classes allow it."""
    shift_px: float = Field(default=0.0, ge=0, le=64)
    """Shift each axis by a uniform draw in (-this, this) input pixels, bilinear; what is uncovered becomes 0."""
    rotate_deg: float = Field(default=0.0, ge=0, le=180)
    """Turn by a uniform draw in (-this, this) degrees."""
    scale: float = Field(default=0.0, ge=0, le=0.5)
    """Zoom by a uniform draw in (1 - this, 1 + this)."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training. `auto`: bf16 where the device is fast in it, else fp32."""
    interval_steps: int | None = Field(default=None, ge=1, le=1_000_000)
    """Steps between two points of the training curve. None: chosen from the length of the run."""
    validate_on: Literal["validation", "test"] = "validation"
    """The split that chooses the best checkpoint. `test` is what some published runs did; results are marked so."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.padding == "same" and any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError(
                f"kernels {list(self.kernels)} must be odd where padding is same; use tf_same for even ones"
            )
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std are given together, or neither")
        for values in (self.mean, self.std):
            if values is not None and len(values) != (self.channels or len(self.mean or ())):
                raise ValueError("mean and std need one value a channel, as many as channels says")
            if values is not None and len(values) not in (1, 3):
                raise ValueError(f"mean and std have {len(values)} values; give 1 or 3")
        return self

    def with_overrides(self, overrides: Mapping[str, Any]) -> TrainConfig:
        """This configuration with some values replaced, validated anew.

        Raises:
            ConfigError: a name is unknown or a value is out of range; `param` is its dotted path below `overrides`.
        """
        return _validate({**self.model_dump(), **overrides})


def _validate(values: dict[str, Any]) -> TrainConfig:
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        param = ".".join(["overrides", *(str(part) for part in first["loc"])])
        raise ConfigError(_explain(param, first), param=param) from exc


def _explain(param: str, error: Any) -> str:
    if error["type"] == "extra_forbidden":
        names = ", ".join(TrainConfig.model_fields)
        return f"{param} is not a setting of a recipe; there are: {names}"
    reason = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return f"{param} do not fit together: {reason}"
    limits = _limits(str(error["loc"][0]))
    return f"{param} is {repr(error['input'])[:80]}: {reason}{f' (allowed: {limits})' if limits else ''}"


def _limits(name: str) -> str:
    """The range of a number in words; empty where a field has none."""
    field = TrainConfig.model_fields.get(name)
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [
        (sign, getattr(item, key, None)) for item in (field.metadata if field else []) for key, sign in signs.items()
    ]
    return ", ".join(f"{sign} {bound}" for sign, bound in bounds if bound is not None)


class DatasetFacts(BaseModel):
    """What a recipe and a user need to know about a dataset. Counts are None until it is prepared."""

    model_config = _FROZEN

    name: str
    """The dataset's name, as in `digits`."""
    num_classes: int = Field(ge=1)
    """Number of classes."""
    class_names: Annotated[tuple[str, ...], BeforeValidator(_list_to_tuple)]
    """One name a class, in the order of the labels."""
    image_px: int = Field(ge=1)
    """Side of the stored square images, in pixels."""
    channels: Literal[1, 3]
    """1 grey, 3 red, green, blue."""
    flip_safe: bool
    """Whether a mirrored image still shows its class."""
    num_train: int | None = None
    """Images of the training split."""
    num_val: int | None = None
    """Images of the validation split."""
    num_test: int | None = None
    """Images of the test split."""

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        if len(self.class_names) != self.num_classes:
            raise ValueError(f"{len(self.class_names)} class_names for {self.num_classes} classes")
        return self
