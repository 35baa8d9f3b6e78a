"""All hostile and odd archives, by name."""

from __future__ import annotations

from tests.hostile_datasets.archives import ARCHIVES
from tests.hostile_datasets.case import Case
from tests.hostile_datasets.contents import CONTENTS
from tests.hostile_datasets.images import IMAGES

CASES: dict[str, Case] = ARCHIVES | IMAGES | CONTENTS
