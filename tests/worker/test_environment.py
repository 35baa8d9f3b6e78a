"""What a child that computes is told by its environment."""

from __future__ import annotations

import pytest

from worker.trainer import scrubbed_environment


def test_a_child_waits_briefly_and_has_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    environment = scrubbed_environment(threads=2)
    names = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    assert [environment[name] for name in names] == ["2", "PASSIVE", "10000"]


def test_a_child_gets_no_key_or_address_of_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "TRAINYARD_ADMIN_KEY": "k",
        "TRAINYARD_DATABASE_URL": "postgresql://u:p@h/d",
        "AWS_SECRET_ACCESS_KEY": "s",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    environment = scrubbed_environment(threads=1)
    assert not secrets.keys() & environment.keys()
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
