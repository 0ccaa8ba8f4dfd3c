"""Settings that a search found, laid under those that a person has set."""

from collections.abc import Mapping
from typing import Any

from mf_core.config.reading import make_config
from mf_core.config.whole import Config, settings


def pinned(config: Config) -> frozenset[str]:
    """Return the settings, by dotted name, that differ from the shipped ones.

    A person has set them, so no search changes them.
    """
    shipped = {setting.name: setting.default for setting in settings()}
    return frozenset(
        setting.name for setting in settings(config) if setting.default != shipped[setting.name]
    )


def with_found(config: Config, found: Mapping[str, Any]) -> Config:
    """Return `config` with the settings `found` in the places that nobody has set.

    With `train.settings=fixed` it stays as it is.

    Raises:
        ConfigError: there is no such setting (any more), or the values do not go together.
    """
    if config.train.settings == "fixed":
        return config
    set_by_hand = pinned(config)
    free = {name: value for name, value in found.items() if name not in set_by_hand}
    return make_config(free, config)
