"""What a run *is*: the hyper-parameters, validated once, and the facts about a dataset. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from alexnet_core.errors import ConfigError
from alexnet_core.option_refusals import explain, refuse_idle
from alexnet_core.option_types import (
    ByteDeviation,
    ByteValue,
    FreezableLrStep,
    Kernel,
    LayerFactor,
    LayerOrder,
    LearningRate,
    LrStep,
    NormalisedLayer,
    OddSize,
    Width,
    list_to_tuple,
)

_FROZEN = ConfigDict(
    frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True
)


class TrainConfig(BaseModel):
    """A complete set of hyper-parameters. The seed is not one of them: it belongs to the job."""

    model_config = _FROZEN

    # --- the network ---

    widths: Annotated[tuple[Width, Width, Width, Width, Width], BeforeValidator(list_to_tuple)]
    """Maps of the five convolutions, before `width_multiplier`."""
    kernels: Annotated[tuple[Kernel, Kernel, Kernel, Kernel, Kernel], BeforeValidator(list_to_tuple)]
    """Kernel sides of the five convolutions, in pixels; odd unless `padding` is `tf_same`."""
    conv1_stride: int = Field(default=1, ge=1, le=8)
    """Stride of the first convolution, in pixels; the others have 1."""
    fc_widths: Annotated[tuple[Width, Width], BeforeValidator(list_to_tuple)]
    """Units of the two hidden fully connected layers, before `width_multiplier`."""
    width_multiplier: float = Field(default=1.0, gt=0, le=4)
    """Factor on `widths` and `fc_widths`, rounded to multiples of `groups`, at least that."""
    groups: Literal[1, 2] = 1
    """2: conv2, conv4 and conv5 see only their own half of the maps, as on the paper's two GPUs."""
    padding: Literal["same", "tf_same", "ceil", "valid", "pad_2"] = "same"
    """How conv1 and the pools treat the border. The other convolutions keep the size.

    `same`: pads kernel // 2 on every side. `tf_same`: TensorFlow's rule; an odd pixel goes after. `ceil`: no padding
    before, sizes round up, so that 224 px give 55 (the 2012 code). `valid`: no padding, conv1 rounds down and pools
    round up, so that 227 px give 55 (Caffe). `pad_2`: pads 2 around conv1, pools round down (torchvision)."""
    pooling: Literal["overlapping", "plain"] = "overlapping"
    """Max pooling after conv1, conv2 and conv5 with stride 2: `overlapping` over 3x3, `plain` over 2x2 pixels."""
    pool5_px: int | None = Field(default=None, ge=1, le=16)
    """Average conv5's pooled maps to this side before the first fully connected layer. None: use them as they are."""
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    """The function after every convolution and hidden fully connected layer."""
    conv1_order: LayerOrder = "activate_normalise_pool"
    """The order of conv1's activation, response norms and pool. The paper activates first; the 2012 run activates last;
    cuda-convnet's CIFAR-10 nets normalise last."""
    conv2_order: LayerOrder = "activate_normalise_pool"
    """The same for conv2."""
    norm: Literal["none", "batch", "lrn", "lrn_2012_code", "lrn_caffe"] = "none"
    """`batch`: a batch norm between each convolution, which then has no bias, and its activation. `lrn…`: a local
    response norm across the maps of conv1 and conv2. `lrn` has the form that the paper prints (`lrn_alpha` times the
    sum), `lrn_2012_code` and `lrn_caffe` that of its code and of Caffe (`lrn_alpha` times the sum divided by
    `lrn_size`); Caffe's `lrn_k` is 1."""
    lrn_size: OddSize = 5
    """How many neighbouring maps a response norm across maps sums over; an odd number."""
    lrn_k: float | None = Field(default=None, ge=0.01, le=100)
    """The constant of a response norm across maps. None: 2 as in the paper, or 1 with `lrn_caffe`."""
    lrn_alpha: float = Field(default=1e-4, ge=0, le=10)
    """The factor on the squares of a response norm across maps."""
    lrn_beta: float = Field(default=0.75, gt=0, le=2)
    """The power of a response norm across maps."""
    lrn_within_tower: bool = False
    """Normalise the first half of the maps separately from the second half; needs `groups` 2."""
    map_norm_layers: Annotated[tuple[NormalisedLayer, ...], BeforeValidator(list_to_tuple)] = Field(
        default=(), max_length=2
    )
    """The convolutions (`conv1`, `conv2`) with a second response norm after the norm across maps. It normalises over a
    square of neighbouring pixels within each map."""
    map_norm_size: OddSize = 5
    """The side of that square in pixels; an odd number."""
    map_norm_k: float = Field(default=2.0, ge=0.01, le=100)
    """The constant of the norm within maps."""
    map_norm_alpha: float = Field(default=1e-3, ge=0, le=10)
    """The factor on the sum of squares of the norm within maps, which is divided by the square's number of pixels."""
    map_norm_beta: float = Field(default=0.75, gt=0, le=2)
    """The power of the norm within maps."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Probability of dropping a unit at each hidden fully connected layer, in training only."""
    dropout_place: Literal["after", "before"] = "after"
    """`after` each hidden fully connected layer (the paper), or `before` it, on its input (torchvision)."""
    dropout_form: Literal["inverted", "2012"] = "inverted"
    """`inverted`: kept values are scaled up in training. `2012`: they are not; all are scaled down afterwards."""
    init: Literal["torch", "paper", "paper_run", "caffe", "uniform", "he_normal", "glorot"] = "torch"
    """Initial weights. `paper`: N(0, .01), biases 1 in conv2, conv4, conv5, fc6, fc7. `paper_run`: the same, but .03 in
    conv3 to conv5. `caffe`: N(0, .01), .005 in fc6 and fc7, the same biases .1. `uniform`: U(-.05, .05) in
    convolutions, Glorot uniform in fully connected layers. `he_normal`, `glorot`: in all layers, biases 0. `torch`:
    PyTorch's own."""

    # --- its input ---

    image_px: int = Field(ge=8, le=512)
    """Side of the network's square input, in pixels."""
    resize_px: int | None = Field(default=None, ge=8, le=768)
    """Side to which the square in an image's middle is resized before `image_px` is cut out. None: `image_px`."""
    channels: Literal[1, 3] | None = None
    """Colour channels of the network's input. None: the dataset's own."""
    standardise: Literal["mean_std", "mean", "pixel_mean"] = "mean_std"
    """`mean_std`: subtract the mean and divide by the deviation. `mean`: only subtract it (the paper: raw values of
    0..255). `pixel_mean`: subtract the mean of each pixel of the resized training images, before anything is cut out,
    as Caffe does."""
    mean: Annotated[tuple[ByteValue, ...] | None, BeforeValidator(list_to_tuple)] = None
    """Mean of each channel, which is subtracted, in 0..255 units. None: that of the dataset's training split."""
    std: Annotated[tuple[ByteDeviation, ...] | None, BeforeValidator(list_to_tuple)] = None
    """Deviation of each channel, to divide by, in 0..255 units. None: that of the dataset's training split."""

    # --- the update rule ---

    optimiser: Literal["sgd", "sgd_lr_in_velocity", "adamw"] = "sgd"
    """`sgd`: PyTorch's. `sgd_lr_in_velocity`: the paper's and Keras', v <- m v - lr (g + decay w); w <- w + v. The two
    differ just after a change of the learning rate."""
    lr: LearningRate = Field(default=0.01)
    """Learning rate; for a schedule that warms up, the highest one. `multistep` uses `lr_steps` instead."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of both kinds of SGD."""
    nesterov: bool = False
    """Look ahead along the velocity (Nesterov), for both kinds of SGD; needs momentum."""
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """Share of a weight that is added to its gradient (`adamw`: subtracted from it, times the learning rate)."""
    decay_biases: bool = False
    """Whether `weight_decay` applies to biases and batch norms too."""
    bias_lr_factor: float = Field(default=1.0, ge=0, le=100)
    """Factor on the learning rate of biases; Caffe's solver has 2."""
    bias_lr: LearningRate | None = None
    """Learning rate of biases at every step, independent of the schedule (the 2012 run). A frozen layer's biases are
    frozen too. None: the weights' learning rate times `bias_lr_factor`."""
    layer_lr_factors: Annotated[tuple[LayerFactor, ...], BeforeValidator(list_to_tuple)] = Field(
        default=(), max_length=8
    )
    """Pairs of a layer (`conv1` to `fc8`) and a factor on its learning rate and that of its batch norm. 0 freezes both,
    and the norm's statistics."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that is spread over all classes; in the training loss only."""
    batch_size: int = Field(ge=1, le=1024)
    """Images in a step."""
    epochs: int = Field(ge=1, le=1000)
    """Passes over the training split, at most."""
    early_stop_patience: int | None = Field(default=None, ge=1, le=1000)
    """End the run when the validation accuracy has not risen for this number of epochs. None: never."""

    # --- the learning rate over time ---

    schedule: Literal["constant", "multistep", "plateau", "cosine", "one_cycle"] = "constant"
    """`multistep` follows `lr_steps`; `plateau` lowers the rate when the validation error stops improving (the paper's
    rule); `cosine` and `one_cycle` (linear) extend over all `epochs`."""
    lr_steps: Annotated[tuple[LrStep, ...], BeforeValidator(list_to_tuple)] = Field(default=(), max_length=100)
    """For `multistep`: pairs of a learning rate's first epoch (from 0) and that rate; not scaled with `epochs`."""
    conv1_lr_steps: Annotated[tuple[FreezableLrStep, ...], BeforeValidator(list_to_tuple)] = Field(
        default=(), max_length=100
    )
    """The same for conv1 only, with any schedule, from the first of these epochs on; 0 freezes it (the 2012 run)."""
    plateau_patience: int = Field(default=5, ge=1, le=1000)
    """For `plateau`: epochs without a lower validation error before the learning rate is lowered."""
    plateau_factor: float = Field(default=0.1, gt=0, lt=1)
    """For `plateau`: the factor by which the learning rate is lowered."""
    plateau_drops: int = Field(default=3, ge=0, le=10)
    """For `plateau`: how often it is lowered at most. The run ends at the next plateau."""
    warmup_fraction: float = Field(default=0.0, ge=0, le=0.9)
    """Share of the run in which `cosine` and `one_cycle` rise to `lr`."""

    # --- changes to the training images ---

    flip: bool = False
    """Mirror half of the training images left to right. Only for classes that a mirror image does not change."""
    shift_px: float = Field(default=0.0, ge=0, le=64)
    """Shift each axis by a uniform draw in (-this, this) input pixels, bilinear; uncovered pixels become 0."""
    border: Literal["blend", "cut"] = "blend"
    """What a shifted, rotated or zoomed image has between its last line of pixels and the next position outside.
    `blend`: a mixture of the pixel and 0. `cut`: 0, as in Keras and SciPy."""
    shift_whole: bool = False
    """Shift only by whole pixels, all distances within `shift_px` equally often. Images stay as sharp as in a test."""
    rotate_deg: float = Field(default=0.0, ge=0, le=180)
    """Rotate by a uniform draw in (-this, this) degrees."""
    scale: float = Field(default=0.0, ge=0, le=0.5)
    """Zoom by a uniform draw in (1 - this, 1 + this)."""
    random_crop: bool = False
    """Cut `image_px` out at a random place of the resized image, not its centre; needs a larger `resize_px`."""
    random_resized_crop: float | None = Field(default=None, gt=0, le=1)
    """Resize a random part of the stored image to `image_px`. The part has from this share of the area to all of it,
    and a width of 3/4 to 4/3 of its height (torchvision's training has .08). None: don't."""
    erase: float = Field(default=0.0, ge=0, le=1)
    """Probability that a rectangle of a training image, .02 to .4 of its area, becomes 0 (random erasing)."""
    colour_std: float = Field(default=0.0, ge=0, le=2)
    """Standard deviation of a random factor for each principal component of the training pixels' colours (as fractions
    of 255). Factor times component times its variance is added to a whole image; the paper has .1."""
    colour_form: Literal["paper", "2012_code"] = "paper"
    """`paper`: add as above. `2012_code`: use the component's deviation instead of its variance, add to the image minus
    the mean, and divide the sum by 1 + `colour_std`."""
    colour_until_epoch: int | None = Field(default=None, ge=0, le=1000)
    """The epoch (from 0) from which colours are no longer changed. None: never."""

    # --- how it is computed and judged ---

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of training and validation. `auto`: the faster of bf16 and fp32, as measured on this CPU; on a GPU bf16
    if it has instructions for it. `fp16`: only on a GPU."""
    interval_steps: int | None = Field(default=None, ge=1, le=1_000_000)
    """Steps between two points of the training curve. None: chosen from the length of the run."""
    validate_on: Literal["validation", "test", "none"] = "validation"
    """What chooses the best epoch. `validation`: the images that are held back; if a dataset has none, the test images,
    with a warning. `test`: the test images, as in some published runs; results are marked. `none`: nothing, the last
    epoch counts. With `test` and `none` the validation images are trained on too."""
    test_crops: Literal[1, 10] = 1
    """Views of a test image whose probabilities are averaged: its centre, or centre and corners with their mirror
    images (the paper). If images are not cut, the corners are those of a frame of one pixel around the image."""

    @property
    def conv_channels(self) -> tuple[int, ...]:
        """The number of maps of each of the five convolutions as they are built."""
        return tuple(self._scale(width) for width in self.widths)

    @property
    def fc_units(self) -> tuple[int, ...]:
        """The number of units of the two hidden fully connected layers as they are built."""
        return tuple(self._scale(width) for width in self.fc_widths)

    def _scale(self, width: int) -> int:
        return max(1, round(width * self.width_multiplier / self.groups)) * self.groups

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.padding != "tf_same" and any(kernel % 2 == 0 for kernel in self.kernels[1:]):
            raise ValueError(f"kernels {list(self.kernels)} must be odd after conv1; use padding tf_same for even ones")
        if self.padding == "same" and self.kernels[0] % 2 == 0:
            raise ValueError(f"conv1's kernel {self.kernels[0]} must be odd if padding is same")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if self.resize_px is not None and self.resize_px < self.image_px:
            raise ValueError(f"resize_px {self.resize_px} is below image_px {self.image_px}")
        if self.random_crop and (self.resize_px or self.image_px) == self.image_px:
            raise ValueError("random_crop needs a resize_px above image_px")
        if self.random_crop and self.random_resized_crop is not None:
            raise ValueError("random_crop and random_resized_crop exclude each other: leave one of them out")
        if self.random_resized_crop is not None and self.standardise == "pixel_mean":
            raise ValueError("standardise pixel_mean does not work with random_resized_crop: use mean")
        if self.shift_whole and self.shift_px < 1:
            raise ValueError(f"shift_whole needs a shift_px of at least 1, not {self.shift_px}")
        if self.colour_std and self.channels == 1:
            raise ValueError("colour_std needs 3 channels")
        self._check_norms()
        if self.validate_on == "none" and (self.schedule == "plateau" or self.early_stop_patience is not None):
            raise ValueError(
                "validate_on none gives no validation results, which schedule plateau and early_stop_patience need"
            )
        if self.bias_lr is not None and self.bias_lr_factor != 1:
            raise ValueError("bias_lr replaces bias_lr_factor: leave one of them out")
        self._check_statistics()
        return self

    def _check_norms(self) -> None:
        for name in ("conv1_order", "conv2_order"):
            order = getattr(self, name)
            if self.norm == "batch" and order != "activate_normalise_pool":
                raise ValueError(f"{name} {order} does not work with a batch norm")
        if self.lrn_within_tower and self.groups != 2:
            raise ValueError("lrn_within_tower needs groups 2")
        if len(set(self.map_norm_layers)) < len(self.map_norm_layers):
            raise ValueError(f"map_norm_layers {list(self.map_norm_layers)} names a layer twice")

    def _check_statistics(self) -> None:
        if self.standardise == "mean_std" and (self.mean is None) != (self.std is None):
            raise ValueError("give both mean and std, or neither")
        if self.standardise != "mean_std" and self.std is not None:
            raise ValueError(f"std has no effect if standardise is {self.standardise}")
        if self.standardise == "pixel_mean" and self.mean is not None:
            raise ValueError("mean has no effect if standardise is pixel_mean")
        for values in (self.mean, self.std):
            if values is not None and len(values) != (self.channels or len(self.mean or ())):
                raise ValueError("mean and std need one value for each of the channels")
            if values is not None and len(values) not in (1, 3):
                raise ValueError(f"mean and std have {len(values)} values; give 1 or 3")

    def with_overrides(self, overrides: Mapping[str, Any]) -> TrainConfig:
        """Return this configuration with some values replaced, after validating it again.

        Raises:
            ConfigError: a name is unknown or a value is out of range; `param` is its dotted path below `overrides`.
        """
        config = _validate({**self.model_dump(), **overrides})
        refuse_idle(overrides, self, config)
        if config.schedule == "multistep" and not config.lr_steps:
            raise ConfigError(
                "overrides.schedule is multistep, which follows lr_steps, but these are empty: override them too",
                param="overrides.schedule",
            )
        begins = any(start == 0 for start, _ in config.lr_steps)
        if config.schedule == "multistep" and begins and "lr" in overrides and "lr_steps" not in overrides:
            raise ConfigError(
                f"overrides.lr has no effect if schedule is multistep and lr_steps ({list(config.lr_steps)}) begin "
                "at epoch 0: override lr_steps, or set schedule to constant too",
                param="overrides.lr",
            )
        return config


def _validate(values: dict[str, Any]) -> TrainConfig:
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        param = ".".join(["overrides", *(str(part) for part in first["loc"])])
        raise ConfigError(explain(param, first, TrainConfig.model_fields), param=param) from exc


class DatasetFacts(BaseModel):
    """The facts about a dataset that recipes and users need. Counts are None until it is prepared."""

    model_config = _FROZEN

    name: str
    """The dataset's name, as in `digits`."""
    num_classes: int = Field(ge=1)
    """Number of classes."""
    class_names: Annotated[tuple[str, ...], BeforeValidator(list_to_tuple)]
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
