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


def main(target: str, *arguments: str) -> None:
    """Write the seeds, and fuzz until an option ends it or something fails."""
    folders = [Path(argument) for argument in arguments if not argument.startswith("-")]
    if not any(argument.startswith("-merge") for argument in arguments):
        from tests.fuzzing.seeds import SEEDS

        folders[0].mkdir(parents=True, exist_ok=True)
        for content in SEEDS[target]():
            (folders[0] / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
    command = f"{sys.executable} -m tests.fuzzing {target}"  # libFuzzer starts it again to merge
    atheris.Setup([command, *arguments], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
