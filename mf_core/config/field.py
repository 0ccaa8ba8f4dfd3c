"""How one setting is defined: its default, bounds and description, and what it shapes."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

Shapes = Literal["model", "lists", "verdict", "nothing"]
"""What a setting shapes: the fitted factors, the lists that readers see, or the judgement on both.

`nothing` is for what changes only how a run gets there: where ratings come from, on which device,
in how many pieces.
"""


@dataclass(frozen=True)
class ShapesMark:
    """The mark that `setting` leaves on a field."""

    what: Shapes


def setting(default: Any, *, shapes: Shapes, description: str, **bounds: Any) -> Any:
    """Return a field of a settings class: pydantic's `Field`, and what the setting shapes."""
    field: FieldInfo = Field(default, description=description, **bounds)
    # Metadata stays out of the JSON schema, which the trigger form shows to people.
    field.metadata.append(ShapesMark(shapes))
    return field


class Section(BaseModel):
    """A class of settings: they don't change, and a name that is none is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
