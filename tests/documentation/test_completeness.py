"""Every block of the documentation is run, or stands in the table of those that can't be, with the reason."""

from __future__ import annotations

import pytest

from tests.documentation.blocks import ROOT, blocks_of, commands_of
from tests.documentation.not_run import NOT_RUN, find_reason
from tests.documentation.preparations import PREPARATIONS
from tests.documentation.walk import pages


def first_lines(page: str) -> list[str]:
    """What the table may name of a page: its blocks, and the commands in them."""
    found = []
    for block in blocks_of(ROOT / page):
        found.append(block.first_line)
        if block.is_session or block.language in {"bash", "sh"}:
            found += [line for command in commands_of(block) if (line := command.first_line) != block.first_line]
    return found


@pytest.mark.parametrize("page", [page for page in pages() if page not in PREPARATIONS])
def test_a_page_that_is_not_run_says_why_of_every_block(page: str) -> None:
    for block in blocks_of(ROOT / page):
        reason = find_reason(page, block.first_line)
        assert reason, f"{block} is neither run nor in the table: prepare the page, or give the reason"


@pytest.mark.parametrize("page", PREPARATIONS)
def test_a_page_that_is_run_has_a_block_that_is(page: str) -> None:
    assert page in pages()
    assert any(not find_reason(page, block.first_line) and not block.is_output for block in blocks_of(ROOT / page))


@pytest.mark.parametrize("page", NOT_RUN)
def test_the_table_names_what_is_there_once(page: str) -> None:
    assert page in pages()
    for start in NOT_RUN[page]:
        found = [line for line in first_lines(page) if line.startswith(start)]
        assert len(found) == 1, f"{page}: {start!r} is the beginning of {found}"
