"""KServe's own client, in an environment of its own: it wants other versions of what this one holds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.api.aliased import Three
from tests.api.served import png
from tests.own_environment import make_separate_environment

CLIENT = Path(__file__).parent / "kserve_client.py"
KSERVE = "kserve>=0.14,<1"


@pytest.fixture(scope="module")
def kserve_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_separate_environment(tmp_path_factory.mktemp("kserve"), KSERVE) / "python"


@pytest.mark.slow
def test_kserves_client(kserve_python: Path, three: Three, tmp_path: Path) -> None:
    served, _, (first, _, _) = three
    image = tmp_path / "bright.png"
    image.write_bytes(png(255))
    done = subprocess.run(
        [kserve_python, CLIENT, served.url, first, image], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["live"], found["ready"], found["model_ready"]) == (True, True, True)
    assert found["text"] == {"id": "text", "probabilities": [[1.0, 0.0, 0.0]], "labels": ["bright"]}
    assert found["binary"]["probabilities"][0] == pytest.approx([0.2, 0.8, 0.0])
    assert found["values"]["probabilities"][0] == pytest.approx([0.25, 0.75, 0.0])
    assert "there is no alias 'nobody'" in found["refusal"]
