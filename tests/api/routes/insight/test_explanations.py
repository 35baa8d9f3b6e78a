"""`POST /explain` and `POST /activations`, through the real child process."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from alexnet_core.insight.activations import draw_activations
from alexnet_core.insight.named_layers import compute_layer
from tests.api.served import error_of
from tests.api.trained_toy import TrainedToy, to_png

PNG = {"Content-Type": "image/png"}


def read(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("method", ["grad_cam", "integrated_gradients", "occlusion"])
def test_an_answer_is_explained_by_a_heat_map_with_transparency(toy: TrainedToy, method: str) -> None:
    response = toy.served.http.post(f"/explain?method={method}", content=toy.image(), headers=PNG)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-trainyard-checkpoint"] == toy.checkpoint_id
    picture = read(response.content)
    assert (picture.mode, picture.size) == ("RGBA", (12, 12))
    assert 0 < np.asarray(picture)[..., 3].max() <= 255


def test_with_the_class_and_the_probabilities_as_json(toy: TrainedToy) -> None:
    headers = {"Accept": "application/json"}
    response = toy.served.http.post(
        "/explain?view=overlay&px=96&target=c", files={"file": ("a.png", toy.image())}, headers=headers
    )
    body = response.json()
    expected = toy.logits("test")[0].softmax(dim=0)
    assert body["object"] == "explanation"
    assert body["model"]["checkpoint"] == toy.checkpoint_id
    assert (body["model"]["job"], body["model"]["epoch"]) == (toy.job_id, 1)
    assert (body["method"], body["target"]["label"], body["target"]["index"]) == ("grad_cam", "c", 2)
    assert body["target"]["probability"] == pytest.approx(float(expected[2]), abs=1e-5)
    assert body["predictions"][0]["index"] == int(expected.argmax())
    picture = read(base64.b64decode(body["picture"].removeprefix("data:image/png;base64,")))
    assert (picture.mode, picture.size) == ("RGB", (96, 96))


def test_what_the_network_does_not_see_of_a_wide_image_is_transparent(toy: TrainedToy) -> None:
    wide = np.random.default_rng(0).integers(0, 255, (20, 60, 3)).astype(np.uint8)
    heat = np.asarray(
        read(toy.served.http.post("/explain?method=occlusion", content=to_png(wide), headers=PNG).content)
    )
    assert heat.shape == (20, 60, 4)
    assert not heat[:, :20, 3].any()
    assert not heat[:, 40:, 3].any()
    assert heat[:, 20:40, 3].any()


@pytest.mark.parametrize("layer", ["conv1", "relu3", "pool5", "fc7", "fc8"])
def test_a_layer_is_drawn_as_the_core_draws_it(toy: TrainedToy, layer: str) -> None:
    response = toy.served.http.post(f"/activations?layer={layer}&model={toy.job_id}", content=toy.image(), headers=PNG)
    assert response.status_code == 200, response.text
    pixels = np.ascontiguousarray(toy.pack.images[toy.pack.list_indices("test")[0]])
    values = compute_layer(toy.predictor.model, toy.predictor.preprocess(pixels)[None], layer)[0].numpy()
    found, expected = (np.asarray(read(data), np.int16) for data in (response.content, draw_activations(values)))
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1, "other threads may round otherwise"


@pytest.mark.parametrize(
    ("path", "status", "code", "param"),
    [
        ("/explain?target=cow", 422, "invalid_request", "target"),
        ("/explain?method=guess", 422, "invalid_request", "method"),
        ("/explain?px=5000", 422, "invalid_request", "px"),
        ("/explain?model=No%20body", 422, "invalid_request", "model"),
        ("/explain?model=nobody", 404, "alias_not_found", "model"),
        ("/explain?model=ckpt_01m867nfjbcxgh62576cf45x6p", 404, "checkpoint_not_found", None),
        ("/activations", 422, "invalid_request", "layer"),
        ("/activations?layer=conv9", 422, "invalid_request", "layer"),
    ],
)
def test_what_can_not_be_is_refused(toy: TrainedToy, path: str, status: int, code: str, param: str | None) -> None:
    error = error_of(toy.served.http.post(path, content=toy.image(), headers=PNG), status, code)
    assert param in {error["param"], None}
    if "conv9" in path:
        assert "its layers are conv1, " in error["message"]


@pytest.mark.parametrize("path", ["/explain", "/activations?layer=conv1"])
def test_what_is_no_image_is_refused(toy: TrainedToy, path: str) -> None:
    http = toy.served.http
    error_of(http.post(path, content=toy.image()[:60], headers=PNG), 422, "image_unreadable")
    error_of(http.post(path, content=b"GIF89 nonsense", headers=PNG), 415, "image_format_unsupported")
    error_of(http.post(path, content=b"x", headers={"Content-Type": "text/plain"}), 415, "unsupported_media_type")
    assert error_of(http.post(path, files={"other": ("a", b"x")}), 422, "invalid_request")["param"] == "file"
