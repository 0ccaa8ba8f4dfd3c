"""The trigger form, generated from `mf_core.config`, and the way back to a `Config`."""

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Param

from mf_core.config import Config, Setting, make_config, settings
from mf_core.deployment import shown_default


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
    schema = _form_schema(setting.schema)
    # `run.*` has no section of its own: so it stands in the part of the form that is open from the
    # start.
    if setting.section != "run":
        schema["section"] = _section_title(setting.section)
    # Who may see the form may not see the password of a URI of the settings file.
    shown = shown_default(setting.name, setting.default)
    return Param(shown, description=setting.description, **schema)


def _section_title(section: str) -> str:
    head, _, solver = section.partition(".")
    title = head.replace("_", " ").capitalize()
    return f"{title}: {solver}" if solver else title


def _form_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return `schema` in the subset that the form renders.

    The form picks its widget by `type`, which an `anyOf` lacks. It takes an empty text for a
    missing one, unless the type may be null.
    """
    if "anyOf" in schema:
        (variant,) = [variant for variant in schema["anyOf"] if variant["type"] != "null"]
        return {**variant, "type": [variant["type"], "null"]}

    is_free_text = schema.get("type") == "string" and "enum" not in schema
    if is_free_text and not schema.get("minLength"):
        return {**schema, "type": ["string", "null"]}
    return dict(schema)
