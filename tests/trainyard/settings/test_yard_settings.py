from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.settings import Settings
from trainyard.settings.documented_settings import DocumentedSettings


def test_every_setting_is_documented() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_setting_is_of_one_group() -> None:
    names: list[str] = []
    for group in Settings.__bases__:
        assert issubclass(group, DocumentedSettings)
        names += group.model_fields
    assert sorted(names) == sorted(Settings.model_fields)


def test_settings_survive_the_way_through_an_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, admin_key="k" * 20, slots=2, testing=True, lease_ttl_s=4)
    assert "k" * 20 not in repr(settings)
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings
