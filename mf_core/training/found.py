"""Which found settings hold tonight, and whether the training searches for new ones.

`split` decides, since it has the database; the search itself is in the trainer's process
(`mf_core.training.search`), and `evaluate` puts on record what it has found.
"""

from collections.abc import Callable, Mapping

from sqlalchemy.engine import Engine

from mf_core.config import Config, with_found
from mf_core.errors import ConfigError
from mf_core.records import FoundSettings, ModelRef
from mf_core.warehouse import found as finds
from mf_core.warehouse import transaction

_MOVED = 1.5
"""The shape of the ratings has moved where a number of it is so many times as large, or small."""


def find_found(
    config: Config,
    engine: Engine,
    run_key: str,
    shape: Mapping[str, int],
    log: Callable[[str], None],
) -> tuple[FoundSettings | None, bool]:
    """Return the found settings that hold, or that a search begins at, and whether to search.

    The log says which hold, or why a search is due.

    Args:
        config: the settings of the run.
        engine: the warehouse.
        run_key: name of the run.
        shape: `n_ratings`, `n_users` and `n_items` of the training side.
        log: called with lines for people.

    Raises:
        DatabaseError: Postgres broke off.
    """
    if config.train.settings == "fixed":
        return None, False
    with transaction(engine) as connection:
        found = finds.latest(connection, basis(config))
        began = finds.versions_since(connection, found, run_key) if found else 0
    if found and not _fits(config, found):
        found = None
    reason = reason_to_search(config, found, shape, began)
    if reason:
        log(f"settings: a search is due: {reason}")
        return found, True
    if found:
        log(f"settings: {found.sentence()}: {found.values()}")
    return found, False


def basis(config: Config) -> str:
    """Return the fingerprint (sha256, hex) of the run's own settings that found ones rest on."""
    return config.fingerprint("model")


def _fits(config: Config, found: FoundSettings) -> bool:
    """Say whether settings that were found, maybe by older code, still go with those of the run."""
    try:
        with_found(config, found.settings)
    except ConfigError:
        return False
    return True


def reason_to_search(
    config: Config, found: FoundSettings | None, shape: Mapping[str, int], versions_since: int
) -> str | None:
    """Return in words why a search is due; None if it is not."""
    if found is None:
        return "none were found yet under these settings of the run"
    for name, now in shape.items():
        before = getattr(found, name)
        if not before / _MOVED <= now <= before * _MOVED:
            what = name.removeprefix("n_")
            return f"{now:,} {what} to train on, {before:,} when the last ones were found"
    every = config.train.search_every
    # Tonight's version is not among them yet.
    if versions_since + 1 >= every:
        return f"the last ones hold for {every} versions (train.search_every)"
    return None


def in_force(config: Config, model: ModelRef) -> Config:
    """Return the settings that a model was fitted with: those of the run, and the found ones.

    Raises:
        ConfigError: they do not go together.
    """
    return with_found(config, model.found.settings) if model.found else config
