"""What all parameter blocks share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

VoxelSide = Annotated[float, Field(ge=0.005, le=50)]
"""In mm; a number in metres or micrometres is outside of it."""
Spacing = tuple[VoxelSide, VoxelSide, VoxelSide]
GridSide = Annotated[int, Field(ge=16, multiple_of=8)]
Grid = tuple[GridSide, GridSide, GridSide]

NO_EFFECT_ON_RESULTS: dict[str, JsonValue] = {"affects_results": False}
"""``json_schema_extra`` of a field whose change leaves every result as it is, and so makes none out of date."""


class Parameters(BaseModel):
    """Base of all parameter blocks: immutable, and strict about unknown keys.

    Every field has a description with its unit. The message of a model's own validator begins with the name of
    the field that it is about and a colon, so that the check of a whole environment can name it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
