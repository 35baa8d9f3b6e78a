"""Weights for Keras and from Keras, with the real Keras 3 on its PyTorch backend."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from alexnet_core.config import TrainConfig
from alexnet_core.errors import CheckpointCorrupt, CheckpointIncompatible, ConfigError, ExportUnsupported
from alexnet_core.export.keras import write_keras
from alexnet_core.export.keras_reader import _find_layers, _open, read_keras
from alexnet_core.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from alexnet_core.recipes import get_recipe
from tests.alexnet_core.networks import CLASSES, NARROW, assert_same_answers, inputs_of, logits_of, make_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras and numpy 2

NOTES = get_recipe("notes-cifar10").config
NARROW_NOTES = NOTES.with_overrides(NARROW)


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Keras, without a folder in the user's home."""
    os.environ |= {"KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path_factory.mktemp("keras"))}
    return pytest.importorskip("keras")


def notes_model(keras: Any, config: TrainConfig = NOTES) -> Any:
    """The notes' network as one writes it in Keras, for images of any size; it answers with probabilities."""
    layers = keras.layers
    conv, full = config.conv_channels, config.fc_units
    return keras.Sequential(
        [
            layers.Input((config.image_px, config.image_px, 3)),
            layers.Conv2D(conv[0], (11, 11), strides=(4, 4), padding="same", activation="relu"),
            layers.MaxPooling2D((3, 3), strides=(2, 2), padding="same"),
            layers.Conv2D(conv[1], (5, 5), padding="same", activation="relu"),
            layers.MaxPooling2D((3, 3), strides=(2, 2), padding="same"),
            layers.Conv2D(conv[2], (3, 3), padding="same", activation="relu"),
            layers.Conv2D(conv[3], (3, 3), padding="same", activation="relu"),
            layers.Conv2D(conv[4], (3, 3), padding="same", activation="relu"),
            layers.MaxPooling2D((3, 3), strides=(2, 2), padding="same"),
            layers.Flatten(),
            layers.Dense(full[0], activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(full[1], activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


def answers(model: Any, x_BCHW: Tensor) -> Tensor:
    """Keras' probabilities of channels-first images."""
    with torch.no_grad():
        return torch.as_tensor(model(x_BCHW.permute(0, 2, 3, 1).contiguous(), training=False)).cpu()


def model_in(keras: Any, path: Path) -> Any:
    """The model of an exported file, made from the text that lies in it."""
    with h5py.File(path) as file:
        names: dict[str, Any] = {}
        exec(file.attrs["model_source"], names)
    names["model"].load_weights(path)
    return names["model"]


def test_keras_loads_the_whole_network_of_the_notes_into_its_own_and_answers_the_same(
    keras: Any, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint("notes-cifar10")
    write_keras(checkpoint, tmp_path / "notes.weights.h5")
    model = notes_model(keras)
    assert model.count_params() == 21_622_154
    model.load_weights(tmp_path / "notes.weights.h5")
    x_BCHW = inputs_of(checkpoint)
    assert_same_answers(answers(model, x_BCHW).log(), logits_of(checkpoint, x_BCHW).log_softmax(1))


VARIANTS: list[dict[str, Any]] = [
    {"recipe": "quick", "channels": 1},
    {"recipe": "small-images"},
    {"recipe": "torchvision"},
    {"recipe": "notes-cifar10", "image_px": 45, "kernels": (8, 4, 2, 3, 4), "dropout_form": "2012"},
    {"recipe": "notes-cifar10", "norm": "batch", "activation": "tanh", "conv1_order": "activate_normalise_pool"},
    {"recipe": "notes-cifar10", "conv1_order": "pool_activate_normalise", "pool5_px": 1},
    {"recipe": "quick", "padding": "ceil", "conv1_stride": 2, "image_px": 46, "activation": "sigmoid"},
    {"recipe": "quick", "padding": "valid", "pooling": "plain", "image_px": 27},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: " ".join(str(value) for value in variant.values()))
def test_the_model_described_in_the_file_answers_the_same(keras: Any, tmp_path: Path, variant: dict[str, Any]) -> None:
    checkpoint = make_checkpoint(**{"width_multiplier": 0.2, **variant})
    write_keras(checkpoint, tmp_path / "a.weights.h5")
    x_BCHW = inputs_of(checkpoint)
    found_BK = answers(model_in(keras, tmp_path / "a.weights.h5"), x_BCHW)
    assert_same_answers(found_BK.log(), logits_of(checkpoint, x_BCHW).log_softmax(1))


@pytest.mark.parametrize(
    ("variant", "says"),
    [
        (
            {"recipe": "paper-2012"},
            "norm1 is a local response norm, which Keras does not have: use onnx or torch_export",
        ),
        ({"recipe": "notes-cifar10", "groups": 2}, "conv2 has 2 groups, .*: use onnx or torch_export"),
        ({"recipe": "quick", "activation": "tanh"}, "pool1 has padding .*: use onnx or torch_export"),
        ({"recipe": "notes-cifar10", "pool5_px": 3}, "average5 averages 1 to 3, .*: use onnx or torch_export"),
    ],
)
def test_what_keras_cannot_compute_is_refused_with_what_to_use(
    tmp_path: Path, variant: dict[str, Any], says: str
) -> None:
    with pytest.raises(ExportUnsupported, match=says):
        write_keras(make_checkpoint(**{**NARROW, **variant}), tmp_path / "a.weights.h5")
    assert list(tmp_path.iterdir()) == []


# --- from Keras ---


def draw_weights(model: Any) -> None:
    """Values of which each matters."""
    generator = np.random.default_rng(5)
    for layer in model.layers:
        shapes = [array.shape for array in layer.get_weights()]
        if len(shapes) == 4:  # a batch norm, with variances so small that epsilon counts
            ranges = ((0.1, 0.2), (-0.1, 0.1), (-0.01, 0.01), (0.001, 0.02))
            layer.set_weights([generator.uniform(*pair, shape) for pair, shape in zip(ranges, shapes, strict=True)])
        elif shapes:
            kernel = generator.normal(0, np.sqrt(2 / np.prod(shapes[0][:-1])), shapes[0])
            layer.set_weights([kernel, *(generator.normal(0, 0.2, shape) for shape in shapes[1:])])


@pytest.fixture(scope="module")
def trained(keras: Any) -> Any:
    """A narrow model of the notes that Keras has trained for a step, so that it keeps the state of an optimiser too."""
    model = notes_model(keras, NARROW_NOTES)
    draw_weights(model)
    model.compile(optimizer=keras.optimizers.SGD(0.001, momentum=0.9), loss="sparse_categorical_crossentropy")
    model.train_on_batch(np.random.default_rng(0).normal(size=(20, 32, 32, 3)).astype("float32"), np.arange(20) % 10)
    return model


SAVERS: dict[str, Callable[[Any, Path], None]] = {
    "a.weights.h5": lambda model, path: model.save_weights(path),
    "a.keras": lambda model, path: model.save(path),
    "alexnet.h5": lambda model, path: model.save(path),
}


@pytest.mark.parametrize("name", SAVERS)
def test_a_checkpoint_of_keras_weights_answers_as_keras_does(trained: Any, tmp_path: Path, name: str) -> None:
    SAVERS[name](trained, tmp_path / name)
    save_checkpoint(read_keras(tmp_path / name, NARROW_NOTES, CLASSES, tmp_path / "imported"))
    checkpoint = load_checkpoint(tmp_path / "imported")
    x_BCHW = inputs_of(checkpoint)
    assert_same_answers(answers(trained, x_BCHW).log(), logits_of(checkpoint, x_BCHW).log_softmax(1))
    assert checkpoint.preprocessing.mean == NOTES.mean
    assert checkpoint.metadata["imported_from"] == name


def test_maps_of_several_pixels_come_from_keras_in_our_order(keras: Any, tmp_path: Path) -> None:
    config = NARROW_NOTES.with_overrides({"image_px": 96})  # leaves 3x3 before fc6; 32 px leave one
    model = notes_model(keras, config)
    draw_weights(model)
    model.save_weights(tmp_path / "a.weights.h5")
    checkpoint = read_keras(tmp_path / "a.weights.h5", config, CLASSES, tmp_path / "x")
    x_BCHW = inputs_of(checkpoint)
    assert_same_answers(answers(model, x_BCHW).log(), logits_of(checkpoint, x_BCHW).log_softmax(1))


@pytest.mark.parametrize(
    "variant",
    [{"recipe": "notes-cifar10"}, {"recipe": "notes-cifar10", "image_px": 96}, {"recipe": "quick", "channels": 1}],
    ids=lambda variant: " ".join(str(value) for value in variant.values()),
)
def test_there_and_back_gives_the_same_bits(tmp_path: Path, variant: dict[str, Any]) -> None:
    checkpoint = make_checkpoint(**NARROW, **variant)
    write_keras(checkpoint, tmp_path / "a.weights.h5")
    mean = {"mean": checkpoint.preprocessing.mean, "std": checkpoint.preprocessing.std}
    config = checkpoint.config.with_overrides({"channels": checkpoint.preprocessing.channels, **mean})
    again = read_keras(tmp_path / "a.weights.h5", config, CLASSES, tmp_path / "again", batch_norm_epsilon=1e-5)
    assert again.metadata["weights_sha256"] == checkpoint.metadata["weights_sha256"]
    assert again.preprocessing == checkpoint.preprocessing


def test_more_than_nine_layers_of_a_class_keep_their_order(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        for number in range(12):
            name = f"dense_{number}" if number else "dense"
            file[f"layers/{name}/vars/0"] = np.full((1, 1), number, dtype=np.float32)
    with _open(tmp_path / "a.weights.h5") as file:
        assert [float(layer.arrays[0][0, 0]) for layer in _find_layers(file)] == list(range(12))


def test_batch_norms_with_keras_own_epsilon_answer_the_same(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    config = NOTES.with_overrides({"widths": [8] * 5, "fc_widths": [16, 16], "norm": "batch"})
    stack = [layers.Input((32, 32, 3))]
    for number, kernel in enumerate(config.kernels, start=1):
        stride = 4 if number == 1 else 1
        stack.append(layers.Conv2D(8, kernel, strides=stride, padding="same", use_bias=False))
        stack += [layers.BatchNormalization(), layers.ReLU()]
        if number in (1, 2, 5):
            stack.append(layers.MaxPooling2D(3, strides=2, padding="same"))
    stack += [layers.Flatten(), layers.Dense(16, "relu"), layers.Dense(16, "relu"), layers.Dense(10)]
    model = keras.Sequential(stack)
    draw_weights(model)
    model.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(ConfigError, match="epsilon"):
        read_keras(tmp_path / "a.weights.h5", config, CLASSES, tmp_path / "x")
    checkpoint = read_keras(tmp_path / "a.weights.h5", config, CLASSES, tmp_path / "x", batch_norm_epsilon=0.001)
    x_BCHW = inputs_of(checkpoint)
    assert_same_answers(answers(model, x_BCHW), logits_of(checkpoint, x_BCHW))
    wrong = read_keras(tmp_path / "a.weights.h5", config, CLASSES, tmp_path / "x", batch_norm_epsilon=1e-5)
    assert not torch.allclose(answers(model, x_BCHW), logits_of(wrong, x_BCHW), atol=1e-2)


# --- files that are not as they should be ---


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    write_keras(make_checkpoint("notes-cifar10", **NARROW), tmp_path / "good.weights.h5")
    return tmp_path / "good.weights.h5"


def read(path: Path, config: TrainConfig = NARROW_NOTES) -> Checkpoint:
    return read_keras(path, config, CLASSES, path.parent / "imported")


KERNEL = "layers/conv2d/vars/0"


def link_elsewhere(file: h5py.File, other: Path) -> None:
    file[KERNEL] = h5py.ExternalLink(str(other), KERNEL)


def link_softly(file: h5py.File, other: Path) -> None:
    file[KERNEL] = h5py.SoftLink("/layers/conv2d_1/vars/0")


def keep_outside(file: h5py.File, other: Path) -> None:
    (other.parent / "outside.bin").write_bytes(bytes(11 * 11 * 3 * 10 * 4))
    outside = [(str(other.parent / "outside.bin"), 0, h5py.h5f.UNLIMITED)]
    file.create_dataset(KERNEL, (11, 11, 3, 10), dtype="float32", external=outside)


def map_elsewhere(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((11, 11, 3, 10), dtype="float32")
    layout[...] = h5py.VirtualSource(str(other), KERNEL, shape=(11, 11, 3, 10))
    file.create_virtual_dataset(KERNEL, layout)


def write_texts(file: h5py.File, other: Path) -> None:
    file[KERNEL] = np.full((11, 11, 3, 10), b"text")


def write_infinity(file: h5py.File, other: Path) -> None:
    file[KERNEL] = np.full((11, 11, 3, 10), np.inf, dtype=np.float32)


def write_a_group(file: h5py.File, other: Path) -> None:
    file.create_group(KERNEL)


@pytest.mark.parametrize(
    "damage",
    [link_elsewhere, link_softly, keep_outside, map_elsewhere, write_texts, write_infinity, write_a_group],
    ids=lambda damage: damage.__name__,
)
def test_arrays_that_are_no_plain_numbers_of_the_file_are_refused(
    exported: Path, tmp_path: Path, damage: Callable[[h5py.File, Path], None]
) -> None:
    bad = tmp_path / "bad.weights.h5"
    bad.write_bytes(exported.read_bytes())
    with h5py.File(bad, "a") as file:
        del file[KERNEL]
        damage(file, exported)
    with pytest.raises(CheckpointCorrupt, match=re.escape(str(bad))):
        read(bad)


def test_an_array_that_claims_to_be_huge_is_never_read(exported: Path) -> None:
    with h5py.File(exported, "a") as file:
        del file[KERNEL]
        file.create_dataset(KERNEL, (1 << 12, 1 << 12, 3, 1 << 20), dtype="float32", chunks=True)
    with pytest.raises(CheckpointIncompatible, match="conv1 has the shape"):
        read(exported)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_run(exported: Path, tmp_path: Path) -> None:
    trap = pickle.dumps(Trap(tmp_path / "sprung"))
    with h5py.File(exported, "a") as file:
        file.attrs["model_config"] = np.void(trap)
        file.attrs["model_source"] = f"open({str(tmp_path / 'sprung')!r}, 'w')"
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.write(exported, "model.weights.h5")
        archive.writestr("config.json", trap)
        archive.writestr("../../sprung", trap)
    read(exported)
    read(tmp_path / "a.keras")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut off", pickle.dumps({"a": 1})])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(CheckpointCorrupt, match=r"a\.h5 can't be read as Keras weights"):
        read(tmp_path / "a.h5")


def test_a_cut_off_file_is_refused(exported: Path) -> None:
    whole = exported.read_bytes()
    for size_bytes in range(1000, len(whole), len(whole) // 7):
        exported.write_bytes(whole[:size_bytes])
        with pytest.raises(CheckpointCorrupt):
            read(exported)


def test_a_damaged_compressed_archive_is_refused(exported: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(exported, "model.weights.h5")
    whole = (tmp_path / "a.keras").read_bytes()
    for place in range(100, len(whole) - 200, len(whole) // 5):
        (tmp_path / "a.keras").write_bytes(whole[:place] + b"\xff" * 40 + whole[place + 40 :])
        with pytest.raises(CheckpointCorrupt, match=r"a\.keras can't be read"):
            read(tmp_path / "a.keras")


def test_a_keras_archive_without_weights_or_with_too_many_is_refused(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(CheckpointCorrupt, match=r"model\.weights\.h5"):
        read(tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "b.keras", "w") as archive:
        archive.write(exported, "model.weights.h5")
    monkeypatch.setattr("alexnet_core.export.keras_reader._MAX_ARCHIVED_BYTES", 1000)
    with pytest.raises(CheckpointCorrupt, match="save only the weights"):
        read(tmp_path / "b.keras")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"widths": [10, 26, 38, 38, 27]}, r"conv5 has the shape \[3, 3, 38, 26\] in the file, and \[3, 3, 38, 27\]"),
        ({"image_px": 64}, r"fc6 has the shape"),
        ({"fc_widths": [400, 410]}, r"fc6 has the shape"),
    ],
)
def test_weights_of_another_network_are_refused_with_the_layer(
    exported: Path, overrides: dict[str, Any], says: str
) -> None:
    widths = {"widths": NARROW_NOTES.conv_channels, "fc_widths": NARROW_NOTES.fc_units, "width_multiplier": 1.0}
    with pytest.raises(CheckpointIncompatible, match=says):
        read(exported, NARROW_NOTES.with_overrides({**widths, **overrides}))


def test_missing_layers_and_biases_and_unknown_orders_are_refused(exported: Path) -> None:
    with h5py.File(exported, "a") as file:
        file.move("layers/conv2d_3", "layers/my_conv")
    with pytest.raises(CheckpointIncompatible, match="conv2d, my_conv"):
        read(exported)
    with h5py.File(exported, "a") as file:
        del file["layers/my_conv"]
    with pytest.raises(CheckpointIncompatible, match="the file has 4 of the kind convolution, and the network 5"):
        read(exported)


def test_a_bias_that_is_missing_is_refused(exported: Path) -> None:
    with h5py.File(exported, "a") as file:
        del file["layers/dense_1/vars/1"]
    with pytest.raises(CheckpointIncompatible, match="fc7 has no bias in the file"):
        read(exported)


def test_how_the_input_was_standardised_must_be_said(exported: Path) -> None:
    with pytest.raises(ConfigError, match="override mean and std") as caught:
        read(exported, NARROW_NOTES.with_overrides({"mean": None, "std": None}))
    assert caught.value.param == "overrides.mean"
    grey = NARROW_NOTES.with_overrides({"channels": None, "mean": [120.0], "std": [60.0]})
    with pytest.raises(ConfigError, match="3 channels: give mean and std one value each, not 1 and 1") as caught:
        read(exported, grey)
    assert caught.value.param == "overrides.mean"
