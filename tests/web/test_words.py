"""The page has a sentence for every code that the server can send: `web/src/words.ts` against the enums."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest

from trainyard.jobs.failures import FAILURES
from trainyard.scheduling.queue_view import WaitsFor
from trainyard.scheduling.workers import WorkerState
from trainyard.states import DatasetState, ShownState

WORDS = (Path(__file__).parents[2] / "web/src/words.ts").read_text()


def keys_of(table: str) -> set[str]:
    """The keys of one of the tables in words.ts."""
    body = re.split(rf"^export const {table}\b.*= {{\n", WORDS, maxsplit=1, flags=re.M)[1].partition("\n};")[0]
    return set(re.findall(r"^  (\w+):", body, re.M))


@pytest.mark.parametrize(
    ("table", "codes"),
    [("STATES", ShownState), ("WAITS", WaitsFor), ("WORKERS", WorkerState), ("DATASETS", DatasetState)],
)
def test_every_value_of_an_enum_has_its_words(table: str, codes: type[StrEnum]) -> None:
    assert keys_of(table) == {code.value for code in codes}


def test_every_failure_has_its_sentence_and_its_fix() -> None:
    assert keys_of("FAILURES") == set(FAILURES)


def test_what_a_running_job_does_has_its_words() -> None:
    """The values of `state_reason` while a job runs, as the reference lists them."""
    reference = (Path(__file__).parents[2] / "docs/reference/http.md").read_text()
    [row] = re.findall(r"^\| `state_reason` \| (.*)$", reference, re.M)
    told = set(re.findall(r"`(\w+)`", row.partition("While it runs: ")[2]))
    assert told
    assert told <= keys_of("DOES")
