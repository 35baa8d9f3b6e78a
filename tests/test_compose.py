"""The rules of the compose file and the Dockerfiles, checked by parsing: no engine is needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainyard.settings import Settings

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
IMAGES = {"redis:7-alpine", "postgres:16", "python:3.11-slim"}
DOCKERFILES = sorted((ROOT / "deploy").glob("Dockerfile*"))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_known_image_and_a_healthcheck(name: str) -> None:
    service = SERVICES[name]
    if "image" in service:
        assert service["image"] in IMAGES
    else:
        assert (ROOT / service["build"]["dockerfile"]).exists()
    assert "healthcheck" in service or service.get("restart") == "no"


def test_every_setting_in_it_exists() -> None:
    keys = {key for service in SERVICES.values() for key in service.get("environment", {})}
    known = {f"TRAINYARD_{name.upper()}" for name in Settings.model_fields}
    assert {key for key in keys if key.startswith("TRAINYARD_")} <= known


@pytest.mark.parametrize("secret", ["TRAINYARD_ADMIN_KEY", "POSTGRES_PASSWORD", "REDIS_PASSWORD"])
def test_a_secret_is_required(secret: str) -> None:
    assert set(re.findall(rf"\$\{{{secret}(.)", TEXT)) == {":"}
    assert f"${{{secret}:-" not in TEXT


def test_the_api_is_published_on_this_machine_only_and_waits_for_the_migration() -> None:
    assert SERVICES["api"]["ports"] == ["${TRAINYARD_PUBLISH:-127.0.0.1:8000}:8000"]
    for name in ("api", "worker", "worker-gpu"):
        assert SERVICES[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_keeps_the_rules(path: Path) -> None:
    text = path.read_text()
    assert set(re.findall(r"^FROM (\S+)", text, re.M)) <= IMAGES
    assert re.search(r"^USER (?!root)", text, re.M)
    assert not re.search(r"# syntax=|apt-get|curl|<<|--upgrade|:latest", text)
