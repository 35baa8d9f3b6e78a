"""What is said of a run that goes on in another place."""

from __future__ import annotations

from alexnet_core.environment import explain_difference

HERE = {"torch": "2.14.1", "device_type": "cpu", "cpu_capability": "AVX512", "num_threads": 4, "precision": "fp32"}


def test_the_same_place_makes_no_difference() -> None:
    assert explain_difference(HERE, dict(HERE)) is None


def test_what_changed_is_named_and_nothing_else() -> None:
    message = explain_difference(HERE | {"num_threads": 2, "precision": "bf16"}, HERE)
    assert message is not None
    assert message.endswith(": threads: 2 before, 4 now; precision: bf16 before, fp32 now")


def test_a_gpu_always_makes_a_difference() -> None:
    gpu = HERE | {"device_type": "cuda"}
    assert "a GPU adds up in another order each time" in str(explain_difference(gpu, gpu))
    assert "kind of device: cuda before, cpu now" in str(explain_difference(gpu, HERE))


def test_an_environment_that_nobody_wrote_down_makes_a_difference() -> None:
    assert "threads: none before, 4 now" in str(explain_difference(None, HERE))
