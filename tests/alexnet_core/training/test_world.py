"""Several processes on one machine, over gloo: real ones, started with the variables that torchrun sets."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet_core.errors import ConfigError
from alexnet_core.network.checkpoint import load_checkpoint
from alexnet_core.training.loop import Run
from alexnet_core.training.run_spec import RunSpec
from alexnet_core.training.world import World, join
from tests.alexnet_core.killing import ROOT
from tests.alexnet_core.several import SHARED, STEPS, STOPS, TOWERS, Recorder
from tests.alexnet_core.toy import CONFIG, QuietHooks, write_toy_pack
from tests.processes import children_of

Results = list[dict[str, Any]]


def start(scenario: str, folder: Path, size: int = 2) -> list[subprocess.Popen[str]]:
    """The processes of a run."""
    write_toy_pack(folder / "toy")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.alexnet_core.several", scenario, str(folder)]
    pipe = subprocess.PIPE
    return [
        subprocess.Popen(
            command, cwd=ROOT, env=os.environ | shared | {"RANK": str(rank)}, stdout=pipe, stderr=pipe, text=True
        )
        for rank in range(size)
    ]


def finish(scenario: str, folder: Path, size: int = 2) -> Results:
    """What each process found."""
    processes = start(scenario, folder, size)
    try:
        for process in processes:
            _, errors = process.communicate(timeout=240)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return [json.loads((folder / f"{scenario}-{rank}.json").read_text()) for rank in range(size)]


def train_alone(folder: Path, world: World | None = None, **overrides: Any) -> tuple[Run, Recorder]:
    hooks = Recorder()
    base = TOWERS if world else SHARED
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pack = write_toy_pack(folder / "toy")
        run = Run(RunSpec(base.with_overrides(overrides), pack, 7, folder / "alone"), hooks, world=world)
        run.train()
    finally:
        torch.set_num_threads(threads)
    return run, hooks


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return finish("data", tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return finish("towers", tmp_path_factory.mktemp("towers"))


def test_two_processes_follow_the_losses_of_one(shared: Results, tmp_path: Path) -> None:
    _, alone = train_alone(tmp_path)
    found = shared[0]["whole"]
    assert len(found["losses"]) == STEPS
    assert found["losses"] == pytest.approx([point.train_loss for point in alone.points], rel=2e-5)
    assert found["norms"] == pytest.approx([point.gradient_norm for point in alone.points], rel=1e-3)
    for ours, theirs in zip(found["epochs"], alone.epochs, strict=True):
        assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=1e-3)


@pytest.mark.parametrize("kind", ["shared", "towers"])
def test_processes_give_the_same_bits_again_and_when_stopped_anywhere(
    kind: str, request: pytest.FixtureRequest
) -> None:
    results = request.getfixturevalue(kind)[0]
    whole = results["whole"]
    assert whole["outcome"] == "succeeded"
    assert results["again"]["sha"] == whole["sha"]
    for after in STOPS:
        stopped, resumed = results[f"stopped-{after}"], results[f"resumed-{after}"]
        assert (stopped["outcome"], stopped["losses"]) == ("stopped", whole["losses"][: stopped["step"]])
        assert (resumed["sha"], resumed["test"]) == (whole["sha"], whole["test"])
        assert resumed["losses"] == whole["losses"][stopped["step"] :]


@pytest.mark.parametrize("kind", ["shared", "towers"])
def test_a_wish_to_stop_of_either_process_ends_both_at_the_same_step(kind: str, request: pytest.FixtureRequest) -> None:
    first, second = request.getfixturevalue(kind)
    for after in STOPS[:3]:
        assert first[f"stopped-{after}"]["step"] == second[f"stopped-{after}"]["step"] == after
        assert first[f"stopped-{after}"]["sha"] == second[f"stopped-{after}"]["sha"]


def test_only_the_first_process_reports(shared: Results) -> None:
    first, second = (results["whole"] for results in shared)
    assert (first["was_told"], second["was_told"]) == (True, False)
    assert (second["losses"], second["epochs"]) == ([], [])
    assert second["sha"] == first["sha"]


def test_processes_draw_different_dropout_and_stay_equal(shared: Results) -> None:
    first, second = (results["dropout"] for results in shared)
    assert first["sha"] == second["sha"]


def test_time_trouble_and_a_full_disk_end_both_processes_alike(shared: Results) -> None:
    for results in shared:
        assert (results["timed"]["outcome"], results["timed"]["step"]) == ("max_runtime", 1)
        assert (results["diverged"], results["full"]) == ("diverged", "disk_full")


def test_the_number_of_processes_is_part_of_the_environment(shared: Results, towers: Results) -> None:
    assert shared[0]["environment"]["world_size"] == 2
    assert towers[0]["whole"]["environment"]["towers"] is True


def test_a_batch_norm_is_refused_where_processes_cannot_share_its_statistics(shared: Results) -> None:
    assert [results["batch_norm"] for results in shared] == ["config_invalid"] * 2


def test_three_processes_add_up_in_the_same_order_after_a_stop(tmp_path: Path) -> None:
    results = finish("three", tmp_path, size=3)  # with two, any order gives the same
    assert {result["resumed-1"]["sha"] for result in results} == {results[0]["whole"]["sha"]}


def test_towers_in_two_processes_have_the_plain_networks_logits_and_gradients(towers: Results) -> None:
    for results in towers:
        assert len(results["differences"]) == 4
        assert max(results["differences"].values()) < 1e-10


@pytest.mark.parametrize("optimiser", ["sgd_lr_in_velocity", "adamw"])
def test_towers_on_two_devices_follow_the_losses_of_one(optimiser: str, tmp_path: Path) -> None:
    run, found = train_alone(tmp_path / "two", two_cpus(), optimiser=optimiser)
    plain, alone = train_alone(tmp_path / "one", World(), optimiser=optimiser)
    losses = [[point.train_loss for point in hooks.points] for hooks in (found, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert found.points[-1].gradient_norm == pytest.approx(alone.points[-1].gradient_norm, rel=1e-3)
    assert run.state.last_checkpoint is not None
    assert plain.state.last_checkpoint is not None
    again = Run(  # a checkpoint of towers is one of the plain network: that goes on from it
        RunSpec(run.spec.config, run.spec.pack, 7, tmp_path / "again", resume_from=run.state.last_checkpoint[1]),
        QuietHooks(),
    )
    assert again.train().step == plain.state.counts.step
    assert again.state.difference is not None, "it says why its bits may be others"


@pytest.mark.usefixtures("one_thread")  # as the run before it
def test_towers_that_lost_their_best_checkpoint_test_the_weights_that_they_trained(tmp_path: Path) -> None:
    """A run that is stopped after its last epoch, and goes on to nothing but its test."""
    run, _ = train_alone(tmp_path, two_cpus())
    assert run.state.last_checkpoint is not None
    copy = tmp_path / "elsewhere" / run.state.last_checkpoint[1].name
    shutil.copytree(run.state.last_checkpoint[1], copy)  # the new run looks for the best epoch in its own folder
    hooks = Recorder()
    again = Run(
        RunSpec(run.spec.config, run.spec.pack, 7, tmp_path / "again", resume_from=copy), hooks, world=two_cpus()
    )
    before = {name: value.clone() for name, value in again.state.model.state_dict().items()}
    assert again.train().test is not None
    assert hooks.warnings == ["checkpoint_corrupt"], "the last weights are tested in place of the best"
    trained = load_checkpoint(copy).weights
    assert all(torch.equal(value, trained[name]) for name, value in again.state.model.state_dict().items())
    assert not torch.equal(before["features.conv1.weight"], trained["features.conv1.weight"])


def two_cpus() -> World:
    with join({}, "cpu,cpu") as world:
        return world


def test_two_processes_with_towers_follow_the_losses_of_one(towers: Results, tmp_path: Path) -> None:
    _, alone = train_alone(tmp_path, World())
    assert towers[0]["whole"]["losses"] == pytest.approx([point.train_loss for point in alone.points], rel=1e-4)


def test_a_killed_process_does_not_leave_the_other_running(tmp_path: Path) -> None:
    first, second = start("endless", tmp_path)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "training\n"
        second.send_signal(signal.SIGKILL)
        _, errors = first.communicate(timeout=120)
        assert first.returncode != 0
        assert "onnection" in errors, errors
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("environment", "device", "towers"),
    [
        ({}, "cpu", True),
        ({}, "cpu,cpu,cpu", False),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "cpu,cpu", True),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "cuda:1", False),
    ],
)
def test_devices_that_fit_no_world_are_refused(environment: dict[str, str], device: str, towers: bool) -> None:
    with pytest.raises(ConfigError, match="device"), join(environment, device, towers=towers):
        pass


@pytest.mark.parametrize("overrides", [{}, {"groups": 2, "norm": "none", "precision": "fp16"}])
def test_towers_need_two_groups_and_no_loss_scale(overrides: dict[str, Any], tmp_path: Path) -> None:
    spec = RunSpec(CONFIG.with_overrides(overrides), write_toy_pack(tmp_path / "toy"), 7, tmp_path)
    with pytest.raises(ConfigError, match="two towers"):
        Run(spec, QuietHooks(), world=two_cpus())


def test_shares_are_disjoint_whole_and_weigh_as_much_as_they_have_images() -> None:
    from alexnet_core.training.world import Processes

    for size, count in ((2, 33), (3, 33), (4, 6), (3, 2), (5, 1)):
        processes = [Processes.__new__(Processes) for _ in range(size)]
        for rank, process in enumerate(processes):
            process.rank, process.size = rank, size
        shares = [process.share_of(count) for process in processes]
        busy = [index for share in shares if share.weight for index in range(count)[share.rows]]
        assert busy == list(range(count))
        assert sum(share.weight for share in shares) == pytest.approx(size)
        assert all(len(range(count)[share.rows]) >= 1 for share in shares)


def test_torchrun_trains_towers_from_the_command_line(tmp_path: Path) -> None:
    write_toy_pack(tmp_path / "toy")
    overrides = ("groups=2", "norm=lrn", "widths=[8,8,8,8,8]", "fc_widths=[16,16]", "epochs=2", "batch_size=50")
    finished = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "alexnet_core",
         "train", "--towers", "--dataset", "toy", "--out", "run",
         *[word for pair in overrides for word in ("--override", pair)]],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("epoch    2") == finished.stdout.count("weights ") == 1
    [last] = (tmp_path / "run").glob("epoch-00000004-*")
    assert "features.conv2.weight" in load_checkpoint(last).weights


def test_the_death_of_a_process_is_told_in_one_line_with_how_to_go_on(tmp_path: Path) -> None:
    write_toy_pack(tmp_path / "toy")
    overrides = ("groups=2", "norm=lrn", "widths=[8,8,8,8,8]", "fc_widths=[16,16]", "epochs=400", "batch_size=50")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "alexnet_core", "train", "--dataset", "toy", "--out", "run"]
    command += [word for pair in overrides for word in ("--override", pair)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("epoch    2"):
                break
        [second] = [pid for pid in children_of(running.pid) if b"RANK=1" in variables_of(pid)]
        os.kill(second, signal.SIGKILL)
        _, errors = running.communicate(timeout=120)
    assert running.returncode != 0
    [told] = re.findall(
        r"another process of this run has ended, so this one ends too; go on with (.+)$", errors, re.MULTILINE
    )
    words = shlex.split(told)
    assert words[:3] == ["--dataset", "toy", "--resume"]
    assert load_checkpoint(tmp_path / words[3], state=True).metadata["epoch"] >= 2


def variables_of(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
