"""Every setting as one record, with its bounds in words for people."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mf_core.config.field import Shapes, ShapesMark


@dataclass(frozen=True)
class Setting:
    """One leaf of the configuration.

    Attributes:
        name: dotted path.
        section: the path without its last part.
        default: the value, from the configuration that was asked.
        schema: JSON schema, without default and description.
        description: what it means, for people.
        shapes: what it shapes.
    """

    name: str
    section: str
    default: Any
    schema: dict[str, Any]
    description: str
    shapes: Shapes

    def bounds(self) -> str:
        """Return the setting's type and bounds in words, such as `integer from 1 to 512`."""
        return bounds(self.schema)

    def help(self) -> str:
        """Return what people are told who fill in a form: meaning, bounds, and when it counts."""
        sentences = [self.description]
        # A switch shows what it takes, and so does a choice.
        if self.schema.get("type") != "boolean" and "enum" not in self.schema:
            sentences.append(f"Takes: {self.bounds()}.")
        head, _, solver = self.section.partition(".")
        if solver:
            sentences.append(f"Counts with {head}.solver={solver} only.")
        return " ".join(sentences)


# JSON schema's words, and those for people.
_TYPES = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "null": "empty",
}
_LIMITS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "exclusiveMaximum": "below",
}


def bounds(schema: Mapping[str, Any]) -> str:
    """Return a JSON schema's type and bounds in words."""
    alternatives = schema.get("anyOf")
    if isinstance(alternatives, list):
        return ", or ".join(map(bounds, alternatives))
    values = schema.get("enum")
    if isinstance(values, list):
        return ", ".join(map(str, values))

    words = [_TYPES[str(schema["type"])]]
    for key, word in _LIMITS.items():
        if key in schema:
            # All digits and no exponent, as people would type it.
            words.append(f"{word} {schema[key]:.10g}")
    if "minLength" in schema or "maxLength" in schema:
        words.append(_length(schema))
    if "pattern" in schema:
        words.append(f"of the form {schema['pattern']}")
    return " ".join(words)


def _length(schema: Mapping[str, Any]) -> str:
    """Return how long a text may be, in words."""
    least = schema.get("minLength", 0)
    if "maxLength" in schema:
        return f"of {least} to {schema['maxLength']} characters"
    return f"of {least} characters or more"


def leaves(section: BaseModel, prefix: str = "") -> Iterator[Setting]:
    """Yield every setting of `section` and of the sections in it, in order."""
    schema = _schema_of(type(section))
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        full_name = f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from leaves(value, prefix=f"{full_name}.")
            continue
        said_elsewhere = ("default", "description", "title")
        leaf = schema["properties"][name]
        yield Setting(
            name=full_name,
            section=full_name.rpartition(".")[0],
            default=value,
            schema={key: leaf[key] for key in leaf if key not in said_elsewhere},
            description=field.description or "",
            shapes=_what_shapes(full_name, field),
        )


@cache
def _schema_of(section: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a section, which takes Pydantic some milliseconds to make."""
    return section.model_json_schema()


def _what_shapes(name: str, field: FieldInfo) -> Shapes:
    marks = [mark.what for mark in field.metadata if isinstance(mark, ShapesMark)]
    if len(marks) != 1:
        raise TypeError(
            f"the setting {name} does not say what it shapes; define it with `setting(..., "
            f"shapes=...)`, one of {', '.join(get_args(Shapes))}"
        )
    return marks[0]
