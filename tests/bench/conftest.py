"""The benchmarks are no installed package: they are found from the repository's root, as when they are run from it."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
