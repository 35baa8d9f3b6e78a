"""The errors of aliases and of the models that they name: another part of the tree of `trainyard.errors`.

ServiceError
├── NotFound
│   └── AliasNotFound                   alias_not_found
└── Conflict
    ├── CheckpointUnusable              checkpoint_unusable
    ├── AliasMoved                      alias_moved
    └── NothingToRollBackTo             nothing_to_roll_back_to
"""

from __future__ import annotations

from trainyard.errors import Conflict, NotFound


class AliasNotFound(NotFound):
    """There is no such alias. `GET /aliases` lists them."""

    code = "alias_not_found"


class CheckpointUnusable(Conflict):
    """The checkpoint can't be loaded, or computes no numbers. Name another one."""

    code = "checkpoint_unusable"


class AliasMoved(Conflict):
    """Somebody else moved the alias at this moment. Look at it and try again."""

    code = "alias_moved"


class NothingToRollBackTo(Conflict):
    """The alias has named no other checkpoint before. Move it with `PUT /aliases/{name}`."""

    code = "nothing_to_roll_back_to"
