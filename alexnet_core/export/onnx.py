"""Exports to ONNX: a file for onnxruntime, Triton, OpenVINO, TensorRT and browsers.

The graph is built by hand, because the network is a single row of a dozen kinds of layers. `torch.onnx.export` needs
another package (onnxscript), and splits a local response norm into some ten operators, where ONNX has one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alexnet_core.errors import ExportUnsupported
from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.export.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Convolution,
    Dropout,
    Flatten,
    FullyConnected,
    Layer,
    MapNorm,
    MaxPool,
    Padding,
    ResponseNorm,
    Scale,
    list_layers,
)
from alexnet_core.inference.averages import average_shares
from alexnet_core.network.checkpoint import Checkpoint
from alexnet_core.network.response_forms import ResponseForm

if TYPE_CHECKING:
    import onnx

INPUT, OUTPUT = "input", "logits"
OPSET = 17  #: has all operators in their final form; runtimes since 2022 read it
_IR_VERSION = 8  # what opset 17 came with
_MAX_BYTES = (1 << 31) - 1  # of a protocol buffer
_OPERATORS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}


def write_onnx(checkpoint: Checkpoint, target: Path) -> None:
    """Write the network from input_BCHW, standardised float32 with any B, to logits_BK.

    Raises:
        ExportUnsupported: a layer is not known here, or the weights are larger than the format allows.
    """
    target.write_bytes(build_onnx(checkpoint).SerializeToString())


def build_onnx(checkpoint: Checkpoint) -> onnx.ModelProto:
    """Build and check the model. Its metadata has `class_names`, `preprocessing` and `weights_sha256`.

    Raises:
        ExportUnsupported: a layer is not known here, or the weights are larger than the format allows.
    """
    import onnx

    size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in checkpoint.weights.values())
    if size_bytes > _MAX_BYTES:
        raise ExportUnsupported(
            f"an ONNX file holds 2 GB, and the weights have {size_bytes / 1e9:.1f} GB: use torch_export"
        )
    how = checkpoint.preprocessing
    graph = _Graph()
    for layer in list_layers(Predictor.of(checkpoint).model, how.image_px):
        graph.add(layer)
    graph.nodes[-1].output[0] = OUTPUT
    float32 = onnx.TensorProto.FLOAT
    input_BCHW = onnx.helper.make_tensor_value_info(INPUT, float32, ["batch", how.channels, how.image_px, how.image_px])
    output_BK = onnx.helper.make_tensor_value_info(OUTPUT, float32, ["batch", len(checkpoint.class_names)])
    model = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "alexnet", [input_BCHW], [output_BK], graph.weights),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        producer_name="alexnet_core",
        ir_version=_IR_VERSION,
    )
    metadata = {
        "class_names": json.dumps(checkpoint.class_names),
        "preprocessing": how.model_dump_json(),
        "weights_sha256": str(checkpoint.metadata.get("weights_sha256", "")),
    }
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """A row of nodes, each of which reads the output of the one before it."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, layer: Layer) -> None:
        match layer:
            case Convolution(name, module, kernel, stride, padding):
                inputs = self._tensors(name, weight=module.weight, bias=module.bias)
                self._node("Conv", name, inputs, group=module.groups, **_window(kernel, stride, padding))
            case BatchNorm(name, module):
                inputs = self._tensors(
                    name, weight=module.weight, bias=module.bias, mean=module.running_mean, var=module.running_var
                )
                self._node("BatchNormalization", name, inputs, epsilon=module.eps)
            case ResponseNorm():
                self._add_response_norm(layer)
            case MapNorm(name, form):
                self._add_map_norm(name, form)
            case Activation(name, function):
                self._node(_OPERATORS[function], name)
            case MaxPool(name, kernel, stride, padding):
                self._node("MaxPool", name, **_window(kernel, stride, padding))
            case AveragePool():
                self._add_average(layer)
            case Flatten(name):
                self._node("Flatten", name, axis=1)
            case Scale(name, factor):
                self._node("Mul", name, [self._constant(f"{name}.factor", np.array(factor, dtype=np.float32))])
            case FullyConnected(name, module):
                inputs = self._tensors(name, weight=module.weight, bias=module.bias)
                self._node("Gemm", name, inputs, transB=1)
            case Dropout():
                pass  # in training only

    def _add_response_norm(self, layer: ResponseNorm) -> None:
        """Add one LRN operator.

        Parts of the maps that must not affect each other are turned into separate images for it.
        """
        name, form, side = layer.name, layer.form, layer.size_px
        if form.size % 2 == 0:
            raise ExportUnsupported(f"{name} looks at {form.size} maps, and ONNX's at an odd number of them")
        if layer.groups > 1:
            self._reshape(f"{name}.parts", [-1, layer.channels // layer.groups, side, side])
        alpha = form.alpha * form.size  # ONNX divides it by the size
        self._node("LRN", name, size=form.size, alpha=alpha, beta=form.beta, bias=form.k)
        if layer.groups > 1:
            self._reshape(f"{name}.whole", [-1, layer.channels, side, side])

    def _add_map_norm(self, name: str, form: ResponseForm) -> None:
        """Divide by (k + alpha * average of the squares)^beta; values outside the map count as 0."""
        before = self._last()
        around = Padding(form.size // 2, form.size // 2)
        self._node("Mul", f"{name}.squares", [before])
        self._node("AveragePool", f"{name}.means", **_window(form.size, 1, around), count_include_pad=1)
        for operator, part, value in (("Mul", "alpha", form.alpha), ("Add", "k", form.k), ("Pow", "beta", form.beta)):
            self._node(
                operator, f"{name}.{part}", [self._constant(f"{name}.{part}.value", np.array(value, dtype=np.float32))]
            )
        self._node("Div", name, [before], others_first=True)

    def _reshape(self, name: str, shape: list[int]) -> None:
        self._node("Reshape", name, [self._constant(f"{name}.shape", np.array(shape, dtype=np.int64))])

    def _last(self) -> str:
        return str(self.nodes[-1].output[0]) if self.nodes else INPUT

    def _add_average(self, layer: AveragePool) -> None:
        """Average over columns, then over rows, as products with matrices, which is correct for windows of any size."""
        if layer.size_px == layer.out_px:
            return
        shares = average_shares(layer.size_px, layer.out_px)
        columns, rows = f"{layer.name}.columns", f"{layer.name}.rows"
        self._node("MatMul", f"{layer.name}.over_columns", [self._constant(columns, shares.T.copy())])
        self._node("MatMul", layer.name, [self._constant(rows, shares)], others_first=True)

    def _node(
        self, operator: str, name: str, others: Sequence[str] = (), *, others_first: bool = False, **how: Any
    ) -> None:
        import onnx

        inputs = [*others, self._last()] if others_first else [self._last(), *others]
        self.nodes.append(onnx.helper.make_node(operator, inputs, [f"{name}.out"], name=name, **how))

    def _tensors(self, layer: str, **tensors: Tensor | None) -> list[str]:
        present = {part: tensor for part, tensor in tensors.items() if tensor is not None}
        return [
            self._constant(f"{layer}.{part}", tensor.detach().cpu().contiguous().numpy())
            for part, tensor in present.items()
        ]

    def _constant(self, name: str, values: NDArray[np.float32] | NDArray[np.int64]) -> str:
        import onnx

        self.weights.append(onnx.numpy_helper.from_array(values, name))
        return name


def _window(kernel: int, stride: int, padding: Padding) -> dict[str, Any]:
    pads = [padding.before, padding.before, padding.after, padding.after]
    return {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "pads": pads}
