"""Builds the preview of a training run from its config and the facts about its dataset, without torch."""

from __future__ import annotations

from alexnet_core.config import TrainConfig
from alexnet_core.network.costs import compute_costs
from alexnet_core.network.geometry import LayerShape, describe
from alexnet_core.training.plan import choose_split, count_steps, count_training_images
from alexnet_core.training.schedule import learning_rate
from api.previews.run_times import Estimate, Plan
from api.schemas.runs.previews import Basis, LayerRead, PreviewRead, SecondsRead, WarningRead

MAX_RATES = 200


def build_preview(plan: Plan, estimate: Estimate | None) -> PreviewRead:
    """Build the preview.

    Args:
        plan: recipe, complete config and dataset.
        estimate: of the time; None: there is none.

    Raises:
        ConfigError: such a network can't be built, or the dataset has nothing to validate on, which the config needs.
    """
    layers = describe(plan.config, plan.facts.num_classes, plan.channels)
    images = count_training_images(plan.config, plan.facts)
    steps_per_epoch = None if images is None else count_steps(plan.config, images)
    return PreviewRead(
        recipe=plan.recipe,
        config=plan.config.model_dump(mode="json"),
        steps=None if steps_per_epoch is None else steps_per_epoch * plan.config.epochs,
        steps_per_epoch=steps_per_epoch,
        num_parameters=sum(layer.num_parameters for layer in layers),
        layers=[_describe_layer(layer) for layer in layers],
        lr=[] if steps_per_epoch is None else _list_rates(plan.config, steps_per_epoch),
        memory_bytes=compute_costs(plan.config, plan.facts.num_classes, plan.channels).memory_bytes,
        seconds=None if estimate is None else _describe_estimate(estimate),
        warnings=[WarningRead(param=param, message=message) for param, message in _list_warnings(plan, images)],
    )


def _describe_layer(layer: LayerShape) -> LayerRead:
    is_map = not layer.name.startswith("fc")
    shape = [layer.channels, layer.size_px, layer.size_px] if is_map else [layer.channels]
    return LayerRead(name=layer.name, shape=shape, parameters=layer.num_parameters)


def _list_rates(config: TrainConfig, steps_per_epoch: int) -> list[tuple[int, float]]:
    """List the learning rate at evenly spaced steps, the first and the last among them, as if nothing lowered it."""
    steps = steps_per_epoch * config.epochs
    count = min(steps, MAX_RATES)
    places = [round(number * (steps - 1) / max(1, count - 1)) for number in range(count)]
    return [(place + 1, learning_rate(config, place, steps_per_epoch)) for place in places]


def _describe_estimate(estimate: Estimate) -> SecondsRead:
    devices = ", ".join(estimate.devices) or "an unknown device"
    jobs = "1 finished job" if estimate.num_runs == 1 else f"{estimate.num_runs} finished jobs"
    match estimate.basis:
        case Basis.MEASURED:
            text = f"Measured on {jobs} with this recipe, network, batch and precision, on {devices}."
        case Basis.SCALED:
            text = f"A rough figure: {jobs} of other networks on {devices}, scaled by the number of multiplications."
        case Basis.MACHINE:
            text = (
                "A very rough figure from the number of multiplications and this machine's speed in a matrix product: "
                "no job has finished yet."
            )
    low, high = (float(f"{value:.2g}") for value in (estimate.low_s, estimate.high_s))
    return SecondsRead(low=low, high=high, basis=estimate.basis, explanation=text)


def _list_warnings(plan: Plan, images: int | None) -> list[tuple[str, str]]:
    config, facts = plan.config, plan.facts
    warnings: list[tuple[str, str]] = []
    if images is None:
        warnings.append(
            ("dataset", f"{facts.name} is not prepared yet: the number of its images, and of steps, is not known")
        )
    else:
        _, trouble = choose_split(config, facts)
        if trouble is not None:
            warnings.append(("overrides.validate_on", trouble.message))
        if images < config.batch_size:
            text = f"batch_size {config.batch_size} is more than the {images} training images: every epoch is one step"
            warnings.append(("overrides.batch_size", text))
    if config.schedule == "plateau":
        text = "the learning rate is shown as it is until the validation error stops falling: then it is lowered"
        warnings.append(("overrides.schedule", text))
    if config.early_stop_patience is not None or config.schedule == "plateau":
        param = "overrides.schedule" if config.early_stop_patience is None else "overrides.early_stop_patience"
        warnings.append((param, "the run may end before its last epoch, so that it takes less time"))
    if config.flip and not facts.flip_safe:
        text = f"flip mirrors training images, and {facts.name} is said to have classes that a mirror image changes"
        warnings.append(("overrides.flip", text))
    return warnings
