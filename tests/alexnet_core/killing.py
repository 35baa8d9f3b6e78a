"""Kills a process in the middle of its file work, at every place where a kill makes a difference.

`python -m tests.alexnet_core.killing checkpoint|pack|race SOURCE TARGET` imports what it needs once, then forks a child
for each place to die at. A child works in a folder of its own below TARGET, which is named after that place. In a race
the child only stops there, while another writer does the same work from start to end, and then goes on.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OPERATIONS = frozenset({"open", "os.mkdir", "os.rename"})
SURVIVED = "survived"  # in the name of the folder of the one child that had no place left to die at


def kill_everywhere(what: str, source: Path, target: Path) -> list[Path]:
    """Run this module in a fresh interpreter.

    Returns:
        The folder of each child; the last one is that of the child that lived.
    """
    target.mkdir()
    command = [sys.executable, "-m", "tests.alexnet_core.killing", what, str(source), str(target)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    return sorted(target.iterdir())


def die_before_operation(number: int, folder: Path, deadly: signal.Signals = signal.SIGKILL) -> None:
    """Kill (or stop) this process just before it opens, makes or renames its n-th file or folder below a folder."""
    left = number

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in OPERATIONS and str(arguments[0]).startswith(str(folder)):
            if left == 0:
                os.kill(os.getpid(), deadly)
            left -= 1

    sys.addaudithook(look)


def die_at_file_size(size_bytes: int) -> None:
    """Have the kernel kill this process when it writes past that place of any one file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


def fork(work: Callable[[], object], *, meanwhile: Callable[[], object] | None = None) -> bool:
    """Do the work in a child; when it stops, do something else and have it go on.

    Returns:
        Whether the child did its work without being killed or stopped.
    """
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as exc:
            print(repr(exc), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, os.WUNTRACED)
    was_stopped = os.WIFSTOPPED(status)
    if was_stopped:
        try:
            assert meanwhile is not None
            meanwhile()
        finally:
            os.kill(pid, signal.SIGCONT)
            _, status = os.waitpid(pid, 0)
    exit_code = os.waitstatus_to_exitcode(status)
    assert exit_code in {0, -signal.SIGKILL, -signal.SIGXFSZ}, exit_code
    return exit_code == 0 and not was_stopped


def kill_saves(source: Path, target: Path) -> None:
    """Source is a folder with one checkpoint; each child saves the next one beside a copy of it."""
    import torch

    from alexnet_core.failpoints import Failpoints
    from alexnet_core.network.checkpoint import load_checkpoint, save_checkpoint

    torch.set_num_threads(1)
    previous = load_checkpoint(next(source.iterdir()), state=True)
    weights = {name: value + 1 if value.is_floating_point() else value for name, value in previous.weights.items()}
    following = replace(previous, weights=weights)
    saved = save_checkpoint(replace(following, path=target / "sizes" / "whole"))
    shutil.rmtree(target / "sizes")

    def die_at(num_bytes: int) -> Failpoints:
        return Failpoints({f"checkpoint_byte_{num_bytes}": "kill9"})

    sizes = [entry["size"] for entry in saved.files.values()]
    ends = {sum(sizes[: number + 1]) for number in range(len(sizes))} | {saved.size_bytes}
    spread = {1 + round(part * (saved.size_bytes - 1) / 24) for part in range(25)}
    for num_bytes in sorted(ends | spread | {end + 1 for end in ends if end < saved.size_bytes}):
        root = target / f"bytes-{num_bytes:06d}"
        shutil.copytree(source, root)
        checkpoint = replace(following, path=root / "epoch-00000014-e1")
        assert not fork(lambda: save_checkpoint(checkpoint, failpoints=die_at(num_bytes))), num_bytes  # noqa: B023
    for number in count():
        root = target / f"operation-{number:02d}"
        shutil.copytree(source, root)
        checkpoint = replace(following, path=root / "epoch-00000014-e1")

        def save() -> None:
            die_before_operation(number, root)  # noqa: B023
            save_checkpoint(checkpoint)  # noqa: B023

        if fork(save):
            root.rename(target / SURVIVED)
            return


def kill_packs(source: Path, target: Path) -> None:
    """Source is a pack; each child writes the same one into a folder of its own."""
    from alexnet_core.data.pack import open_pack

    pack = open_pack(source)
    largest = max(path.stat().st_size for path in source.iterdir())
    for part in range(24):
        size_bytes = round(part * largest / 24)
        root = make_folder(target / f"bytes-{size_bytes:06d}")

        def write_until_full() -> None:
            die_at_file_size(size_bytes)  # noqa: B023
            write_again(pack, root / "pack")  # noqa: B023

        assert not fork(write_until_full), size_bytes
    for number in count():
        root = make_folder(target / f"operation-{number:02d}")

        def write() -> None:
            die_before_operation(number, root)  # noqa: B023
            write_again(pack, root / "pack")  # noqa: B023

        if fork(write):
            root.rename(target / SURVIVED)
            return


def race_packs(source: Path, target: Path) -> None:
    """Source is a pack; each child stops while another writer writes the same pack to the same place."""
    from alexnet_core.data.pack import open_pack

    pack = open_pack(source)
    for number in count():
        root = make_folder(target / f"operation-{number:02d}")

        def write() -> None:
            die_before_operation(number, root, signal.SIGSTOP)  # noqa: B023
            write_again(pack, root / "pack")  # noqa: B023

        def write_meanwhile() -> None:
            if (root / "pack").exists():  # noqa: B023
                open_pack(root / "pack").verify()  # noqa: B023
            write_again(pack, root / "pack").verify()  # noqa: B023

        if fork(write, meanwhile=write_meanwhile):
            root.rename(target / SURVIVED)
            return


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


def write_again(pack: Any, path: Path) -> Any:
    """The same pack at another place."""
    from alexnet_core.data.pack_draft import write_pack

    return write_pack(
        path,
        name=pack.name,
        class_names=pack.class_names,
        images_NHWC=pack.images,
        labels_N=pack.labels,
        split_N=pack.split,
        flip_safe=pack.facts.flip_safe,
    )


if __name__ == "__main__":
    {"checkpoint": kill_saves, "pack": kill_packs, "race": race_packs}[sys.argv[1]](
        Path(sys.argv[2]), Path(sys.argv[3])
    )
