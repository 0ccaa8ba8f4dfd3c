"""Settings from a file, a form or the command line, and what is wrong with them in words."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mf_core.config.whole import Config, settings
from mf_core.errors import ConfigError
from mf_core.redaction import without_secrets

_Model = TypeVar("_Model", bound=BaseModel)

DEPLOYMENT_SECTIONS = ("sources", "trigger", "limits")
"""Sections of the settings file that are no settings of a run: see `mf_core/deployment.py`."""


def make_config(overrides: Mapping[str, Any] | None = None, base: Config | None = None) -> Config:
    """Return `base` (the shipped defaults if None) with dotted `overrides` applied.

    Strings are taken as text for text settings and as numbers or booleans elsewhere, and an empty
    one as none, so that `--set` and the trigger form share this one path.

    Raises:
        ConfigError: an unknown name, or a value out of its bounds.
    """
    nested = (base or Config()).model_dump()
    for name, value in (overrides or {}).items():
        _put(nested, name, value)
    return validated(Config, nested)


def load_config(path: str | Path | None) -> Config:
    """Return the settings of a TOML file, or the shipped defaults for None or "".

    The file has sections and names as in `Config`. Several files may be named, parted as in PATH;
    what a later one says counts.

    Raises:
        ConfigError: a file is missing or not TOML, or holds an unknown name or a value out of its
            bounds.
    """
    nested = read_settings_file(path)
    of_run = {name: nested[name] for name in nested if name not in DEPLOYMENT_SECTIONS}
    return validated(Config, of_run, f"in the settings file {path}: ")


def read_settings_file(path: str | Path | None) -> dict[str, Any]:
    """Return the tables of the settings file, nothing for None or "". Raises ConfigError."""
    nested: dict[str, Any] = {}
    for file in str(path or "").split(os.pathsep):
        if file:
            _lay_over(nested, _read_toml(file))
    return nested


def _read_toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"the settings file {path} can't be read ({error.strerror}); check MF_CONFIG, or "
            "`config` in the DAG file."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the settings file {path} is not UTF-8 text (byte {error.start + 1}); save it as "
            "UTF-8, which TOML is written in."
        ) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"the settings file {path} is not valid TOML: {error}.") from None
    except ValueError:
        raise ConfigError(
            f"the settings file {path!r} is no path to a file; check MF_CONFIG, or `config` in "
            "the DAG file."
        ) from None


def _lay_over(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Put the tables of a later file over those of an earlier one."""
    for name, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(name), dict):
            _lay_over(below[name], value)
        else:
            below[name] = value


def validated(model: type[_Model], nested: Any, where: str = "") -> _Model:
    """Return `nested` as a settings class; `where` begins the message. Raises ConfigError."""
    try:
        return model.model_validate(nested)
    except ValidationError as error:
        raise ConfigError(f"{where}{_explain(error)}") from None


def _put(nested: dict[str, Any], name: str, value: Any) -> None:
    """Set one setting by its dotted name. Raises ConfigError if there is none of that name."""
    unknown = ConfigError(f"there is no setting {name!r}; `mf config` lists all of them.")
    *path, leaf = name.split(".")
    section = nested
    for part in path:
        section = section.get(part, {})
        if not isinstance(section, dict):
            raise unknown
    if leaf not in section:
        raise unknown
    before = section[leaf]
    if isinstance(before, dict):
        # A section is no setting.
        raise unknown

    # An empty text stands for no value, but where the setting is a text itself.
    is_text = isinstance(before, str)
    section[leaf] = None if value == "" and not is_text else value


def _shown_input(value: Any) -> str:
    """Return a refused value, cut and without a URI's secrets."""
    return without_secrets(repr(value))[:80]


def _explain(error: ValidationError) -> str:
    expected = {setting.name: setting.bounds() for setting in settings()}
    problems = [_problem(found, expected) for found in error.errors()]
    return "; ".join(problems) + ". `mf config` lists every setting with its bounds."


def _problem(found: ErrorDetails, expected: Mapping[str, str]) -> str:
    """Return one thing that is wrong in words; `expected` are the bounds by a setting's name."""
    if found["type"] == "value_error":
        # From a validator above, which names the settings itself.
        return str(found["ctx"]["error"])
    name = ".".join(map(str, found["loc"]))
    if name in expected:
        return f"{name}: expected {expected[name]}, got {_shown_input(found['input'])}"
    if found["type"] == "extra_forbidden":
        return f"{name}: there is no such setting"
    return f"{name}: {found['msg']}, got {_shown_input(found['input'])}"
