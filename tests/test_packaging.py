"""What `pip install trainyard[client]` brings, in an environment with nothing else: no PyTorch, and it works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.conftest import database, runtime, serve, served, settings
from tests.api.served import Served, png

__all__ = ["database", "runtime", "serve", "served", "settings"]

ROOT = Path(__file__).parent.parent
OURS = ("alexnet_core", "api", "trainyard", "worker")
#: None of these is the client's business.
HEAVY = {"torch", "torchvision", "numpy", "scipy", "sqlalchemy", "fastapi", "celery", "matplotlib", "openvino", "onnx"}
USE = """
import sys
from trainyard import Client

with Client(sys.argv[1]) as client:
    job = client.train("digits", overrides={"epochs": 2}, name="bare")
    assert job.data.progress.epochs == 2
    assert [each.id for each in client.iter_jobs()][0] == job.id
    answer = client.predict(sys.argv[2], model=sys.argv[3])
    print(answer.predictions[0].label)
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs' folder of a virtual environment in which only `trainyard[client]` was installed."""
    folder = tmp_path_factory.mktemp("bare")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in OURS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True, timeout=120)
    programs = folder / "venv" / "bin"
    command = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--constraint", str(ROOT / "constraints.txt"), f"{source}[client]"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr
    return programs


def run(command: Path, *args: str, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run(
        [str(command), *args], capture_output=True, text=True, check=False, env=env, cwd=folder, timeout=120
    )


@pytest.mark.slow
def test_the_client_alone_brings_little_and_works(bare: Path, served: Served, tmp_path: Path) -> None:
    job_id = served.add_job()
    served.add_checkpoint(job_id, 1)
    (tmp_path / "bright.png").write_bytes(png(255))
    listed = run(bare / "python", "-m", "pip", "list", "--format=freeze", folder=tmp_path).stdout
    installed = {line.partition("==")[0].lower() for line in listed.splitlines()}
    assert {"trainyard", "httpx", "pydantic"} <= installed
    assert not HEAVY & installed
    size = sum(path.stat().st_size for path in (bare.parent / "lib").rglob("*") if path.is_file())
    assert size < 80e6, f"{size / 1e6:.0f} MB"
    done = run(bare / "python", "-c", USE, served.url, str(tmp_path / "bright.png"), job_id, folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "bright\n"), done.stderr
    done = run(bare / "trainyard", "jobs", "--url", served.url, folder=tmp_path)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3), done.stderr
    done = run(bare / "trainyard", "predict", "bright.png", "--csv", "--url", served.url, folder=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[1].split(",")[:2]) == (0, ["0", "bright.png"]), done.stderr


@pytest.mark.slow
def test_what_needs_a_yard_says_what_to_install(bare: Path, tmp_path: Path) -> None:
    for command in ("up", "demo", "api", "worker", "migrate", "reconcile"):
        done = run(bare / "trainyard", command, folder=tmp_path)
        assert (done.returncode, "pip install 'trainyard[yard]'" in done.stderr) == (2, True), (command, done.stderr)
        assert len(done.stderr.splitlines()) == 1
    done = run(bare / "trainyard", "doctor", "--url", "http://127.0.0.1:1", folder=tmp_path)
    assert (done.returncode, "this is a client" in done.stdout) == (0, True), done.stdout + done.stderr
