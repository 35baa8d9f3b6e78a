"""Fuzzes a target by coverage, with Atheris (`pip install atheris`, which is no requirement of the tests).

    python -m tests.fuzzing archive|image FOLDER [options of libFuzzer, as -max_total_time=300]

The folder gets the seeds and all inputs that reach new code. What fails is written to the working folder as `crash-…`.
`python -m tests.fuzzing archive|image KEPT -merge=1 FOLDER` copies the smallest inputs that
together reach the same code.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["alexnet_core", "PIL", "zipfile", "tarfile", "gzip", "csv", "json"]):
    from tests.fuzzing.targets import TARGETS


def main(target: str, folder: Path, *options: str) -> None:
    """Write the seeds, and fuzz until an option ends it or something fails."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any(option.startswith("-merge") for option in options):
        from tests.fuzzing.seeds import SEEDS

        for content in SEEDS[target]():
            (folder / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
    atheris.Setup(["fuzzing", *options[:1], str(folder), *options[1:]], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
