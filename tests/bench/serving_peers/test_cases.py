"""The peers' networks are ours, and Trainyard's API finds the checkpoint."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.network.checkpoint import save_checkpoint
from bench.serving_peers import yard
from bench.serving_peers.cases import CASES, Case, draw_checkpoint, draw_image, plain_weights
from bench.serving_peers.servers.networks import BUILDERS
from trainyard.artifacts.checkpoints import get_latest, has_its_manifest
from trainyard.database.connection import Database
from trainyard.settings import Settings


@pytest.mark.parametrize("name", ["small", pytest.param("photo", marks=pytest.mark.slow)])
def test_the_peers_network_by_torchs_own_layers_answers_as_ours(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    checkpoint = draw_checkpoint(case, tmp_path)
    picture = Image.open(io.BytesIO(draw_image(case)))
    assert (picture.width, picture.height, picture.format) == (case.width_px, case.height_px, case.image_format)
    ours = Predictor.of(checkpoint)
    x_BCHW = ours.preprocessing.to_input(torch.from_numpy(np.array(picture))[None])
    theirs = BUILDERS[case.recipe](case.num_classes).eval()
    theirs.load_state_dict(plain_weights(checkpoint))
    with torch.inference_mode():
        found_BK, expected_BK = theirs(x_BCHW), ours.logits(x_BCHW)
    assert expected_BK.std() > 1, "the classes are told apart"
    torch.testing.assert_close(found_BK, expected_BK, rtol=0, atol=1e-3)


def test_a_planted_checkpoint_is_the_latest_with_all_its_files(tmp_path: Path) -> None:
    small = Case("small", "quick", {"width_multiplier": 0.1}, 10, 32, 32, "PNG", 64)
    checkpoint = draw_checkpoint(small, tmp_path / "checkpoint")
    save_checkpoint(checkpoint)
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    yard.plant(checkpoint.path, data_dir)
    database = Database(Settings(data_dir=data_dir).sqlalchemy_url)
    with database.reading() as session:
        latest = get_latest(session, "local")
    database.close()
    assert latest.weights_sha256 == checkpoint.metadata["weights_sha256"]
    folder = data_dir / latest.key
    assert has_its_manifest(folder, latest.manifest_sha256)
    assert json.loads((folder / "classes.json").read_text()) == [f"class {number}" for number in range(10)]
