"""The trigger form, generated from `mf_core.config`, and the way back from the form's values to a `Config`."""

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Param

from mf_core.config import Config, Setting, make_config, settings


def trigger_params(base: Config) -> dict[str, Param]:
    """Return one Param per setting, named by its dotted path, with `base` as the defaults."""
    return {setting.name: _param(setting) for setting in settings(base)}


def config_from_params(params: Mapping[str, Any]) -> Config:
    """Return the settings that a run was triggered with.

    Raises:
        ConfigError: an unknown name, or a value out of its bounds.
    """
    text_names = {setting.name for setting in settings() if setting.schema.get("type") == "string"}
    # The form sends null for a text field that somebody emptied.
    return make_config(
        {
            name: "" if value is None and name in text_names else value
            for name, value in params.items()
        }
    )


def _param(setting: Setting) -> Param:
    # `run.*` has no section of its own, so that it stands in the part of the form that is open from the start.
    section = {} if setting.section == "run" else {"section": _section_title(setting.section)}
    return Param(
        setting.default, description=setting.description, **_form_schema(setting.schema), **section
    )


def _section_title(section: str) -> str:
    head, _, solver = section.partition(".")
    title = head.replace("_", " ").capitalize()
    return f"{title}: {solver}" if solver else title


def _form_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return `schema` in the subset that the form renders.

    The form picks its widget by `type`, which an `anyOf` lacks; and it holds an empty text to be missing, unless the type
    may be null.
    """
    if "anyOf" in schema:
        variants = [variant for variant in schema["anyOf"] if variant["type"] != "null"]
        (variant,) = variants
        return {**variant, "type": [variant["type"], "null"]}
    if schema.get("type") == "string" and "enum" not in schema and not schema.get("minLength"):
        return {**schema, "type": ["string", "null"]}
    return dict(schema)
