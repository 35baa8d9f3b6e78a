from __future__ import annotations

import json
import tarfile
from pathlib import Path

from tests.api.served import Served
from tests.trainyard.commands.conftest import Run


def test_checkpoints_are_listed_with_the_best_one_marked(served: Served, run: Run, trained: str) -> None:
    lines = run("checkpoints", "last").stdout.splitlines()
    assert [line.split()[2:4] for line in lines[1:]] == [["epoch", "*"], ["epoch", "1"]]
    assert json.loads(run("checkpoints", "--json").stdout) == served.http.get("/checkpoints").json()["data"]
    assert len(run("checkpoints", "-n", "1").stdout.splitlines()) == 2


def test_a_job_without_a_checkpoint_says_so(served: Served, run: Run) -> None:
    job = served.add_job()
    assert "no checkpoints yet" in run("checkpoints").stdout
    done = run("download", job)
    assert (done.exit_code, "no checkpoint yet" in done.stderr) == (1, True)


def test_the_best_checkpoint_of_a_job_is_downloaded(served: Served, run: Run, trained: str, tmp_path: Path) -> None:
    best = served.http.get(f"/jobs/{trained}").json()["best"]["checkpoint"]
    done = run("download", trained, "--to", str(tmp_path))
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / best}.tar\n"), done.output
    with tarfile.open(tmp_path / f"{best}.tar") as archive:
        assert "weights.safetensors" in {Path(name).name for name in archive.getnames()}
    file = tmp_path / "mine.tar"
    told = json.loads(run("download", best, "--to", str(file), "--json").stdout)
    assert told == {"checkpoint": best, "file": str(file), "size_bytes": file.stat().st_size}


def test_a_download_that_is_refused_leaves_no_file(run: Run, tmp_path: Path) -> None:
    done = run("download", "ckpt_nothing", "--to", str(tmp_path))
    assert (done.exit_code, "checkpoint_not_found" in done.stderr) == (1, True)
    assert not list(tmp_path.glob("*.tar*"))
    assert not list(tmp_path.glob(".ckpt*"))
