"""The trigger form, generated from `mf_core.config`, and the way back to a `Config`.

The form's own number field changes what a person types, and says nothing: a number out of bounds
becomes the bound, a word becomes the default. So numbers have text fields, which leave them as they
are. Whatever a field lets through, the first task of the run refuses by name.
"""

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Param

from mf_core.config import Config, Setting, make_config, settings
from mf_core.deployment import shown_default

# They take several URIs, one a line, which a field of one line would run together.
_SEVERAL_LINES = ("source.uri", "source.test_uri")


def trigger_params(base: Config) -> dict[str, Param]:
    """Return one Param per setting, named by its dotted path, with `base` as the defaults."""
    return {setting.name: _param(setting) for setting in settings(base)}


def config_from_params(params: Mapping[str, Any]) -> Config:
    """Return the settings that a run was triggered with.

    Raises:
        ConfigError: an unknown name, or a value out of its bounds.
    """
    values = dict(params)
    for setting in settings():
        # The form sends null for a text field that somebody emptied.
        is_text = setting.schema.get("type") == "string"
        if is_text and values.get(setting.name, "") is None:
            values[setting.name] = ""
    return make_config(values)


def _param(setting: Setting) -> Param:
    schema = _form_schema(setting)
    if setting.name in _SEVERAL_LINES:
        schema["format"] = "multiline"
    # `run.*` has no section of its own: so it stands in the part of the form that is open from the
    # start.
    if setting.section != "run":
        schema["section"] = _section_title(setting.section)
    # Who may see the form may not see the password of a URI of the settings file.
    shown = shown_default(setting.name, setting.default)
    return Param(shown, description=setting.help(), **schema)


def _section_title(section: str) -> str:
    head, _, solver = section.partition(".")
    title = head.replace("_", " ").capitalize()
    return f"{title}: {solver}" if solver else title


def _form_schema(setting: Setting) -> dict[str, Any]:
    """Return the setting's schema in the subset that the form renders.

    The form picks its widget by `type`, which an `anyOf` lacks. It takes an empty text for a
    missing one, unless the type may be null.
    """
    schema = setting.schema
    variants = schema.get("anyOf", [schema])
    (variant,) = [dict(variant) for variant in variants if variant["type"] != "null"]
    may_be_null = len(variants) > 1

    kind = variant["type"]
    if kind in NUMBERS:
        variant |= number_as_text(kind, setting.default)
    elif kind == "string" and "enum" not in variant and not variant.get("minLength"):
        may_be_null = True
    types = variant["type"] if isinstance(variant["type"], list) else [variant["type"]]
    if may_be_null:
        types = [*types, "null"]
    return {**variant, "type": types if len(types) > 1 else types[0]}


# What may be typed into a text field for a number. A number that a REST call sends is held against
# the schema's bounds instead, and neither holds for the other.
NUMBERS = {
    "integer": r"^[+-]?[0-9]+$",
    "number": r"^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?$",
}


def number_as_text(kind: str, default: float | None) -> dict[str, Any]:
    """Return the part of a schema that makes a text field of a number's.

    The form takes the first of the types, and with examples it is a field of one line that offers
    them: here, the way back to the default.
    """
    examples = [] if default is None else [f"{default}"]
    return {"type": ["string", kind], "pattern": NUMBERS[kind], "examples": examples}
