"""Inputs that fuzzing found, which together reach all the code that it reached, get an answer and cost little.

CONTRIBUTING.md says how to fuzz again.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fuzzing.seeds import SEEDS
from tests.fuzzing.targets import TARGETS

CORPUS = Path(__file__).parents[2] / "fuzzing" / "corpus"
MAX_CPU_S = 2


@pytest.mark.filterwarnings("ignore")  # decoders warn of damage
@pytest.mark.parametrize("target", TARGETS)
def test_what_fuzzing_found_has_an_answer(target: str) -> None:
    files = sorted((CORPUS / target).iterdir())
    assert len(files) > 100
    contents = {path.name: path.read_bytes() for path in files}
    contents |= {f"seed {number}": content for number, content in enumerate(SEEDS[target]())}
    for name, content in contents.items():
        began = time.process_time()
        try:
            TARGETS[target](content)
        except Exception as exc:
            exc.add_note(f"the input is {name} of the target {target}")
            raise
        assert time.process_time() - began < MAX_CPU_S, name


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 300_000
