from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.api.served import wait_until
from trainyard.scheduling.workers import DeviceReading
from worker.machine import device_meter
from worker.machine.device_meter import MIB, DeviceMeter, parse_readings, read_gpus

GPUS = ["GPU-aaaa", "GPU-bbbb"]
ANSWER = """GPU-aaaa, NVIDIA H100 80GB HBM3, 81559, 9102, 62
GPU-bbbb, NVIDIA H100 80GB HBM3, 81559, 4, 0
"""
FIRST = DeviceReading("NVIDIA H100 80GB HBM3", 81559 * MIB, 9102 * MIB, 0.62)
SECOND = DeviceReading("NVIDIA H100 80GB HBM3", 81559 * MIB, 4 * MIB, 0.0)


def test_what_the_tool_prints_is_read() -> None:
    assert parse_readings(ANSWER) == {"GPU-aaaa": FIRST, "GPU-bbbb": SECOND}


@pytest.mark.parametrize(
    ("line", "reading"),
    [
        ("GPU-a, Tesla T4, 15360, 1, [N/A]", DeviceReading("Tesla T4", 15360 * MIB, 1 * MIB, None)),  # divided by MIG
        ("GPU-a, [Unknown Error], [N/A], [N/A], [N/A]", DeviceReading(None, None, None, None)),
        ("GPU-a, Orin (nvgpu), [Not Supported], [Not Supported], 101", DeviceReading("Orin (nvgpu)", None, None, 1.0)),
        ("GPU-a, , -1, nan, inf", DeviceReading(None, None, None, None)),
    ],
)
def test_what_the_driver_does_not_tell_is_not_made_up(line: str, reading: DeviceReading) -> None:
    assert parse_readings(line) == {"GPU-a": reading}


@pytest.mark.parametrize("answer", ["", "No devices were found\n", "Unable to determine the device handle, of it\n"])
def test_no_gpu_is_no_reading(answer: str) -> None:
    assert parse_readings(answer) == {}


def test_the_readings_are_those_of_the_slots_devices() -> None:
    devices = ["cuda:1", "cpu", "cuda:0", "cuda:1", "cuda:7", "mps"]
    meter = DeviceMeter(devices, GPUS, read=lambda: parse_readings(ANSWER))
    assert meter.readings() == [None] * 6
    meter.read_once()
    assert meter.readings() == [SECOND, None, FIRST, SECOND, None, None]


def test_a_reading_that_could_not_be_renewed_is_not_told_for_long() -> None:
    now = 100.0
    meter = DeviceMeter(["cuda:0"], GPUS, read=lambda: parse_readings(ANSWER), clock=lambda: now)
    meter.read_once()
    now += device_meter.FRESH_S
    assert meter.readings() == [FIRST]
    now += 0.1
    assert meter.readings() == [None]


def tool_that(path: Path, monkeypatch: pytest.MonkeyPatch, *does: str) -> None:
    tool = path / "nvidia-smi"
    tool.write_text("\n".join(["#!/bin/sh", *does]))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")


def test_the_tool_is_asked_for_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query = "uuid,name,memory.total,memory.used,utilization.gpu"
    asked = f'[ "$1" = --query-gpu={query} ] && [ "$2" = --format=csv,noheader,nounits ] || exit 1'
    tool_that(tmp_path, monkeypatch, asked, f"cat <<END\n{ANSWER}END")
    assert read_gpus() == {"GPU-aaaa": FIRST, "GPU-bbbb": SECOND}


def test_without_the_tool_or_with_a_broken_driver_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_gpus() == {}
    tool_that(tmp_path, monkeypatch, f"echo '{ANSWER}'", "exit 9")
    assert read_gpus() == {}
    monkeypatch.setattr("worker.machine.devices.NVIDIA_SMI_S", 0.2)
    tool_that(tmp_path, monkeypatch, "exec sleep 60")
    assert read_gpus() == {}


def test_a_reading_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(device_meter, "EVERY_S", 0.01)
    calls = 0

    def fail_first() -> dict[str, DeviceReading]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError
        return parse_readings(ANSWER)

    meter = DeviceMeter(["cuda:0"], GPUS, read=fail_first)
    with caplog.at_level(logging.ERROR):
        meter.start()
        wait_until(lambda: meter.readings() == [FIRST])
    meter.stop()
    assert "were not read" in caplog.text


def test_where_no_slot_has_a_gpu_nothing_is_read() -> None:
    def fail() -> dict[str, DeviceReading]:
        raise AssertionError("nothing is to be read")

    meter = DeviceMeter(["cpu", "cpu"], GPUS, read=fail)
    meter.start()
    assert meter.readings() == [None, None]
