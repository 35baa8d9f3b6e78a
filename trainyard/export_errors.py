"""The errors of converted downloads: a part of the tree of `trainyard.errors`.

ServiceError
├── Conflict
│   └── ExportUnsupported               export_unsupported
└── Unavailable
    └── ExportFailed                    export_failed
"""

from __future__ import annotations

from trainyard.errors import Conflict, Unavailable


class ExportUnsupported(Conflict):
    """This format can't say what the network does. Download the checkpoint in another one."""

    code = "export_unsupported"


class ExportFailed(Unavailable):
    """The checkpoint could not be converted just now. Try again in a moment, or download it as it is."""

    code = "export_failed"
