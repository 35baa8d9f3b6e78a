"""The bodies of `/recipes`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, computed_field

from api.schemas.base import DESCRIBED


class RecipeRead(BaseModel):
    """A named, complete set of hyper-parameters."""

    model_config = DESCRIBED

    name: str
    object: Literal["recipe"] = "recipe"
    title: str
    description: str
    source: str
    """Where its numbers come from."""
    config: dict[str, Any]
    """The complete training options."""
    num_parameters: int | None
    """Number of trained values; null if such a network can't be built."""
    num_classes: int
    """What `num_parameters` was counted for."""
    channels: int
    """What `num_parameters` was counted for."""
    config_schema: dict[str, Any] | None = None
    """JSON schema of `config`; only in the answer for a single recipe."""

    @computed_field  # type: ignore[prop-decorator]  # mypy: no decorator above `property`
    @property
    def links(self) -> dict[str, str]:
        """Paths to related resources."""
        return {"self": f"/recipes/{self.name}"}
