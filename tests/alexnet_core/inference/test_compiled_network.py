"""The precision is measured once for each kind of network, and the process stays without torch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from alexnet_core.inference import compiled_network
from alexnet_core.inference.compiled_network import Compiler
from alexnet_core.inference.mapped_file import Scratch
from alexnet_core.network.checkpoint import save_checkpoint
from tests.alexnet_core.inference.test_graph import store
from tests.alexnet_core.networks import NARROW, make_checkpoint


@pytest.mark.parametrize(("ratio", "expected"), [(2.0, "bf16"), (1.05, "fp32"), (0.3, "fp32")])
def test_the_faster_precision_is_taken_if_it_is_worth_it(
    monkeypatch: pytest.MonkeyPatch, ratio: float, expected: str
) -> None:
    monkeypatch.setattr(compiled_network, "_measure", lambda networks: {"fp32": 1.0, "bf16": ratio})
    network = Compiler(threads=1).compile(store(make_checkpoint("quick", **NARROW)))
    assert network.precision.name == expected
    assert network.precision.speed == {"fp32": 1.0, "bf16": ratio}


def test_a_second_checkpoint_of_the_same_kind_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    def measure(networks: object) -> dict[str, float]:
        measured.append(1)
        return {"fp32": 1.0, "bf16": 0.5}

    monkeypatch.setattr(compiled_network, "_measure", measure)
    compiler = Compiler(threads=1)
    for _ in range(2):
        compiler.compile(store(make_checkpoint("quick", **NARROW)))
    compiler.compile(store(make_checkpoint("quick", width_multiplier=0.2)))
    assert len(measured) == 2


def test_what_was_measured_is_images_a_second() -> None:
    network = Compiler(threads=1).compile(store(make_checkpoint("quick", **NARROW)))
    assert set(network.precision.speed) == {"fp32", "bf16"}
    assert all(10 < speed < 1e6 for speed in network.precision.speed.values())


def test_torch_is_not_imported() -> None:
    code = "import sys, alexnet_core.inference.compiled_network; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_a_batch_may_have_any_strides() -> None:
    network = Compiler(1, "fp32").compile(store(make_checkpoint("quick", **NARROW)))
    channels, side = network.transform.channels, network.transform.image_px
    random = np.random.default_rng(1)
    for images in (1, 3, 8, 1):
        values_BHWC = random.normal(size=(images, side, side, channels)).astype(np.float32)
        as_decoded_BCHW = values_BHWC.transpose(0, 3, 1, 2)  # so is what is stacked from decoded images
        assert not as_decoded_BCHW.flags.c_contiguous
        expected_BK = network.logits(np.ascontiguousarray(as_decoded_BCHW))
        for _ in range(20):
            assert np.array_equal(network.logits(as_decoded_BCHW), expected_BK)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_in_a_mapped_file_give_the_same_bits(tmp_path: Path, precision: str) -> None:
    checkpoint = make_checkpoint("quick")
    folder = save_checkpoint(replace(checkpoint, path=tmp_path / "epoch-00000001-e0")).path
    in_memory = Compiler(1, precision).load(folder)
    mapped = Compiler(1, precision, scratch=Scratch(tmp_path)).load(folder)
    (folder / "weights.safetensors").write_bytes(b"")  # as if somebody cut it while its network serves
    random = np.random.default_rng(1)
    channels, side = mapped.transform.channels, mapped.transform.image_px
    for images in (1, 3, 8, 16, 64):
        x_BCHW = random.normal(size=(images, channels, side, side)).astype(np.float32)
        assert np.array_equal(mapped.logits(x_BCHW), in_memory.logits(x_BCHW))


def test_the_weights_are_in_memory_once(tmp_path: Path) -> None:
    checkpoint = make_checkpoint("notes-cifar10")
    folder = save_checkpoint(replace(checkpoint, path=tmp_path / "epoch-00000001-e0")).path
    code = (
        "import sys; from pathlib import Path; from alexnet_core.inference.compiled_network import Compiler\n"
        "from alexnet_core.inference.mapped_file import Scratch\n"
        "def held(): return 1024 * sum(int(line.split()[1]) for line in open('/proc/self/status')"
        " if line.startswith(('RssAnon:', 'RssFile:', 'RssShmem:')))\n"
        "folder = Path(sys.argv[1]); compiler = Compiler(1, 'fp32', Scratch(folder.parent) if sys.argv[2] else None)\n"
        "before = held(); network = compiler.load(folder); print(held() - before)"
    )
    grew = [
        int(subprocess.run([sys.executable, "-c", code, folder, how], check=True, capture_output=True).stdout)
        for how in ("", "mapped")
    ]
    weights_bytes = (folder / "weights.safetensors").stat().st_size
    assert grew[0] - grew[1] > 0.8 * weights_bytes, grew


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="there is one core to be on")
def test_the_thread_that_computes_may_be_on_any_core() -> None:
    network = Compiler(1, "fp32").compile(store(make_checkpoint("quick")))
    begun, over = Event(), Event()

    def compute() -> None:
        while not over.is_set():
            network.warm([16])
            begun.set()

    thread = Thread(target=compute)
    thread.start()
    try:
        assert begun.wait(30)
        assert thread.native_id is not None
        seen = set()
        for _ in range(500):
            time.sleep(0.001)  # in which it may compute
            seen.add(frozenset(os.sched_getaffinity(thread.native_id)))
    finally:
        over.set()
        thread.join()
    assert seen == {frozenset(os.sched_getaffinity(0))}
