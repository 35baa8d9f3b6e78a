"""The bodies of `/aliases`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, computed_field

from api.schemas.base import DESCRIBED, STRICT, Reference, RowView, Time
from trainyard.artifacts.naming.alias_counts import Counts
from trainyard.database.tables import Alias, Checkpoint
from trainyard.states import AliasAction, Side

Share = Annotated[float, Field(gt=0, lt=1)]


class CanaryWish(BaseModel):
    """A checkpoint that is to answer a share of the requests."""

    model_config = STRICT

    checkpoint: Reference
    """A `ckpt_…`, or whatever else `?model=` of `POST /predict` takes."""
    share: Share
    """Its share of the requests: over 0, under 1."""


class AliasPut(BaseModel):
    """What an alias is to name."""

    model_config = STRICT

    checkpoint: Reference
    """The checkpoint that answers: a `ckpt_…`, or whatever else `?model=` of `POST /predict` takes, as it is now."""
    canary: CanaryWish | None = None
    """A second checkpoint that answers a share of the requests."""
    shadow: Reference | None = None
    """A checkpoint that computes the same images after the answers, and is only compared with them."""


class AliasRollback(BaseModel):
    """Where an alias is to go back to."""

    model_config = STRICT

    version: int | None = Field(None, ge=1)
    """The move whose checkpoint is to answer again; null: undo the last change."""


class NamedCheckpoint(BaseModel):
    """A checkpoint that an alias names."""

    model_config = DESCRIBED

    checkpoint: str = Field(validation_alias="id")
    job: str = Field(validation_alias="job_id")
    epoch: int
    weights_sha256: str


class CanaryRead(NamedCheckpoint):
    """The checkpoint that answers a share of the requests."""

    share: float


class SideCounts(BaseModel):
    """What one side of an alias did since the alias's last move; up to a second old."""

    model_config = DESCRIBED

    answers: int
    """Images that it answered."""
    errors: int
    """Images that it should have answered and could not; the other side may have."""
    p50_ms: float | None
    """Half of the answers took no longer, from the image's bytes to its classes; at most 10 % too high."""
    p99_ms: float | None
    """99 of 100 answers took no longer."""

    @classmethod
    def of(cls, counts: Counts) -> Self:
        """Build it from what was counted."""
        return cls(
            answers=counts.answers,
            errors=counts.errors,
            p50_ms=counts.quantile_ms(0.5),
            p99_ms=counts.quantile_ms(0.99),
        )


class ShadowCounts(SideCounts):
    """What a shadow computed; its answers went to nobody."""

    agreed: int
    """Answers whose most probable class is that of the answer which was given."""
    agreement: float | None
    """`agreed` of `answers`."""
    dropped: int
    """Images that it left out, so that nobody waits for it."""

    @classmethod
    def of(cls, counts: Counts) -> Self:
        """See `SideCounts`."""
        return cls(
            **SideCounts.of(counts).model_dump(),
            agreed=counts.agreed,
            agreement=counts.agreed / counts.answers if counts.answers else None,
            dropped=counts.dropped,
        )


class SidesRead(BaseModel):
    """What each side of an alias did since its last move."""

    stable: SideCounts
    canary: SideCounts | None
    shadow: ShadowCounts | None


class AliasRead(BaseModel):
    """A name for a checkpoint, which can be moved."""

    model_config = DESCRIBED

    name: str
    object: Literal["alias"] = "alias"
    version: int
    """Number of its last move. It only rises, also when the alias is deleted and made anew."""
    checkpoint: str
    """Id of the checkpoint that answers."""
    job: str
    """Id of the job that made it."""
    epoch: int
    """Number of complete epochs."""
    weights_sha256: str
    """Hash of its weights."""
    canary: CanaryRead | None
    """A second checkpoint that answers a share of the requests."""
    shadow: NamedCheckpoint | None
    """A checkpoint that computes the same images and is only compared."""
    previous: str | None = Field(validation_alias="previous_id")
    """The checkpoint that a rollback goes back to, unless there is a canary or a shadow, which it ends first."""
    counts: SidesRead
    """What each side did since the last move."""
    moved_by: str
    """The owner who moved it last."""
    moved_at: Time = Field(validation_alias="updated_at")

    @computed_field  # type: ignore[prop-decorator]  # mypy: no decorator above `property`
    @property
    def links(self) -> dict[str, str]:
        """Paths to related resources."""
        here = f"/aliases/{self.name}"
        below = {name: f"{here}/{name}" for name in ("history", "rollback")}
        return {"self": here} | below | {"predict": f"/predict?model={self.name}"}

    @classmethod
    def of(cls, row: Alias, checkpoints: Mapping[str, Checkpoint], counts: Mapping[Side, Counts]) -> Self:
        """Build the alias as clients see it.

        Args:
            row: the alias.
            checkpoints: those that it names, by id.
            counts: of its sides.
        """
        stable = NamedCheckpoint.model_validate(checkpoints[row.checkpoint_id])
        canary = None if row.canary_id is None else RowView(checkpoints[row.canary_id], share=row.canary_share)
        shadow = None if row.shadow_id is None else checkpoints[row.shadow_id]
        sides = SidesRead(
            stable=SideCounts.of(counts.get(Side.STABLE, Counts())),
            canary=None if canary is None else SideCounts.of(counts.get(Side.CANARY, Counts())),
            shadow=None if shadow is None else ShadowCounts.of(counts.get(Side.SHADOW, Counts())),
        )
        return cls.model_validate(RowView(row, **stable.model_dump(), canary=canary, shadow=shadow, counts=sides))


class MoveRead(BaseModel):
    """One move of an alias. It is never changed, and stays when the alias or a checkpoint is deleted."""

    model_config = DESCRIBED

    version: int
    object: Literal["alias_move"] = "alias_move"
    action: AliasAction
    """`move`, `rollback` or `delete`."""
    checkpoint: str | None = Field(validation_alias="checkpoint_id")
    """The checkpoint that answered from then on; null: the alias was deleted."""
    canary: str | None = Field(validation_alias="canary_id")
    """The checkpoint that answered a share of the requests."""
    canary_share: float | None
    """That share."""
    shadow: str | None = Field(validation_alias="shadow_id")
    """The checkpoint that was compared."""
    restored_version: int | None
    """Of a rollback: the move whose checkpoint answers again; null: the stable one stayed, canary and shadow ended."""
    moved_by: str
    """The owner who did it."""
    request_id: str | None
    """`X-Request-ID` of the request that did it; the API's log has it too."""
    at: Time
