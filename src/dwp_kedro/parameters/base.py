"""What all parameter blocks share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Spacing = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
GridSide = Annotated[int, Field(ge=16, multiple_of=8)]
Grid = tuple[GridSide, GridSide, GridSide]


class Parameters(BaseModel):
    """Base of all parameter blocks: immutable, and strict about unknown keys.

    Every field has a description with its unit. The message of a model's own validator begins with the name of
    the field that it is about and a colon, so that the check of a whole environment can name it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
