"""The pages that start a yard: what they say is done, and what is printed is what stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documentation.preparations import PREPARATIONS
from tests.documentation.reading import read_page
from trainyard.launch.queue_server import free_port

pytestmark = [pytest.mark.end_to_end, pytest.mark.documentation]


@pytest.mark.parametrize("page", [page for page, it in PREPARATIONS.items() if it.yard == "own"])
def test_a_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    read_page(page, tmp_path / "reader", free_port())
