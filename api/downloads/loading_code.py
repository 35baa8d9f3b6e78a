"""The Python code of a model card: how a downloaded checkpoint answers for an image, without this package.

A test runs each of them on a real download.
"""

from __future__ import annotations

_PREPARE = '''\
import base64
import json
import sys

import numpy as np
from PIL import Image

classes = json.load(open("classes.json"))
how = json.load(open("preprocessing.json"))


def prepare(path):
    """The network's input for an image: channels first, standardised."""
    image = Image.open(path).convert("L" if how["channels"] == 1 else "RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    size = how["resize_px"] or how["image_px"]
    bands = [band.convert("F").resize((size, size), Image.Resampling.BILINEAR) for band in image.split()]
    x = np.stack([np.asarray(band) for band in bands])
    if how.get("mean_image"):
        x = x - np.frombuffer(base64.b64decode(how["mean_image"]), "<f4").reshape(x.shape)
    edge = (size - how["image_px"]) // 2
    x = x[:, edge : edge + how["image_px"], edge : edge + how["image_px"]]
    mean, std = (np.float32(how[name]).reshape(-1, 1, 1) for name in ("mean", "std"))
    return (x - mean) / std


'''
_PROBABILITIES = """\
shares = np.exp(logits - logits.max())
shares /= shares.sum()
"""
_SHOW = "print([(classes[i], round(float(shares[i]), 4)) for i in np.argsort(-shares)[:5]])\n"

_CODE = {
    "onnx": "import onnxruntime\n"
    + _PREPARE
    + 'session = onnxruntime.InferenceSession("model.onnx")\n'
    + '[[logits]] = session.run(["logits"], {"input": prepare(sys.argv[1])[None]})\n'
    + _PROBABILITIES
    + _SHOW,
    "torch_export": "import torch\n"
    + _PREPARE
    + 'network = torch.export.load("model.pt2").module()\n'
    + "with torch.inference_mode():\n"
    + "    logits = network(torch.from_numpy(prepare(sys.argv[1]))[None])[0].numpy()\n"
    + _PROBABILITIES
    + _SHOW,
    "keras": "import h5py\n"
    + _PREPARE
    + 'names = {}\nexec(h5py.File("model.weights.h5").attrs["model_source"], names)  # Keras code: read it before\n'
    + 'names["model"].load_weights("model.weights.h5")\n'
    + "x = prepare(sys.argv[1]).transpose(1, 2, 0)[None]  # channels last\n"
    + 'shares = names["model"].predict(x, verbose=0)[0]\n'
    + _SHOW,
}
_NEEDS = {
    "onnx": "onnxruntime, numpy and Pillow",
    "torch_export": "torch, numpy and Pillow",
    "keras": "keras with any backend, h5py, numpy and Pillow",
}


def describe_loading(form: str, checkpoint_id: str) -> list[str]:
    """Return the lines of Markdown that say how a download in this format is used."""
    if form == "safetensors":
        return [
            "With Trainyard's package `alexnet_core`, which needs no server:",
            "",
            "```",
            f"python -m alexnet_core predict {checkpoint_id} image.png",
            "```",
            "",
            "The tensors alone, by name, need safetensors and numpy; `config.json` says what network they belong to:",
            "",
            "```python",
            "from safetensors.numpy import load_file",
            "",
            'for name, values in load_file("weights.safetensors").items():',
            "    print(name, values.shape)",
            "```",
        ]
    return [
        f"`python predict.py image.png` in this folder, with the code below as `predict.py`. It needs {_NEEDS[form]}.",
        "",
        "```python",
        *_order_imports(_CODE[form]).splitlines(),
        "```",
    ]


def _order_imports(code: str) -> str:
    """Move the import of the format's own library, which stands first, to the others."""
    first, _, rest = code.partition("\n")
    return rest.replace("import numpy as np\n", f"import numpy as np\n{first}\n", 1)
