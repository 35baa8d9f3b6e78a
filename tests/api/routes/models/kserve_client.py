"""Asks a server with KServe's own client, in an environment that holds it, and prints what came of it as JSON.

`python kserve_client.py URL MODEL IMAGE`
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def ask(url: str, model: str, image: bytes) -> dict[str, object]:
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
    found: dict[str, object] = {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model_ready": await client.is_model_ready(url, model),
    }
    text = InferInput("image", [1], "BYTES", data=[base64.b64encode(image).decode()])
    binary = InferInput("pixels", [1, 4, 4, 3], "UINT8")
    binary.set_data_from_numpy(np.full((1, 4, 4, 3), 51, np.uint8), binary_data=True)
    values = InferInput("values", [1, 3, 8, 8], "FP32")
    values.set_data_from_numpy(np.full((1, 3, 8, 8), 0.25, np.float32), binary_data=False)
    for name, given in (("text", text), ("binary", binary), ("values", values)):
        request = InferRequest(model_name=model, request_id=name, infer_inputs=[given])
        answer = await client.infer(url, request, model_name=model)
        outputs = {output.name: np.asarray(output.as_numpy()).tolist() for output in answer.outputs}
        labels = [it.decode() if isinstance(it, bytes) else it for it in outputs["labels"]]
        found[name] = {"id": answer.id, "probabilities": outputs["probabilities"], "labels": labels}
    try:
        await client.infer(url, InferRequest("nobody", [text]), model_name="nobody")
    except Exception as exc:
        found["refusal"] = str(exc)
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_bytes()))))
