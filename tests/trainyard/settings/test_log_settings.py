from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trainyard.settings import Settings


def test_failpoints_need_testing_and_a_level_is_known() -> None:
    wrongs: list[dict[str, Any]] = [{"failpoints": "a=b"}, {"log_level": "LOUD"}]
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            Settings(**wrong)
    assert Settings(log_level="debug").log_level == "DEBUG"
    assert Settings(failpoints="a=b,c=d", testing=True).failpoint_values == {"a": "b", "c": "d"}
