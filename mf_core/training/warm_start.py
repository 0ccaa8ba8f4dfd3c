"""Warm start: which evaluated model tonight's evaluated fit may start from, or why there is none.

The comparison with the champion is fair only if no ancestor of the candidate was fitted on
tonight's test rows. So an evaluated model may descend from evaluated models alone, and only under
the split protocol `hash` with the same `split_id`, where a (user, item) pair never changes sides.
The validation part of the training rows is chosen by a hash of the ids too
(`mf_core.data.ratings.pair_draws`), so a start has not seen the rows that decide when to stop.

Settings that forbid every start are refused by `Config`. Whatever else is wrong with a start, the
night continues without it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.engine import Engine

from mf_core.config import Config, Head
from mf_core.errors import ArtifactError
from mf_core.models.heads import load_models
from mf_core.records import StartRef
from mf_core.warehouse import history, lineage, transaction
from mf_core.warehouse.history import LiveModel

# The scale and the relevant ratings say what is fitted. The seed and the share choose the
# validation part.
_SAME = (
    "data.scale_low",
    "data.scale_high",
    "data.relevant_from",
    "data.kind",
    "train.seed",
    "train.warm_start",
)
_SAME_OF_HEAD: Mapping[Head, tuple[str, ...]] = {
    "rating": ("rating_head.solver", "rating_head.validation_fraction"),
    "ranking": (),
}


def find_start(
    config: Config,
    engine: Engine,
    split_id: str,
    log: Callable[[str], None],
    *,
    search: bool = False,
) -> StartRef | None:
    """Return the live version's evaluated model if tonight's evaluated fit may start from it.

    Otherwise return None, and log a line that says why not. `config` are the settings in force;
    with `search` the training finds others first.

    Raises:
        DatabaseError: Postgres broke off.
        ArtifactStoreError: the store can't be read.
    """
    if not config.train.warm_start:
        return None
    with transaction(engine) as connection:
        live = history.live_model(connection)
    reason = reason_to_start_cold(config, split_id, live)
    if search and not reason:
        reason = "tonight's training searches for its settings"
    if live is None or reason:
        log(f"a cold start: {reason}")
        return None

    try:
        start = _undamaged_start(engine, live.model_version)
    except ArtifactError as error:
        log(f"a cold start: {error}")
        return None
    log(f"a warm start from the evaluated model of version {start.model_version}")
    return start


def _undamaged_start(engine: Engine, model_version: int) -> StartRef:
    """Return a version's evaluated model as one to start from.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    with transaction(engine) as connection:
        model = lineage.load_model_ref(connection, model_version, "evaluated")
    start = model.as_start()
    # Damage is found here, where a cold start costs nothing, and not in the middle of the training.
    load_models(start)
    return start


def reason_to_start_cold(config: Config, split_id: str, live: LiveModel | None) -> str | None:
    """Return in words why nothing can be started from the `live` version; None if it can."""
    if live is None:
        return "no version is live"

    version = f"version {live.model_version}"
    if live.split_id != split_id:
        return (
            f"{version} was split otherwise ({live.split_id}, tonight {split_id}), so it has seen "
            "test rows"
        )

    every = config.train.full_restart_every
    if live.lineage_length >= every:
        return (
            f"{version} is number {live.lineage_length} of its lineage, and "
            f"train.full_restart_every is {every}"
        )
    return _reason_in_settings(config, live)


def _reason_in_settings(config: Config, live: LiveModel) -> str | None:
    """Return in words which setting the live version does not share; None if it shares all."""
    tonight = config.model_dump(mode="json")
    names = list(_SAME)
    for head in config.heads():
        names += [*_SAME_OF_HEAD[head], *config.start_must_share(head)]
    for name in names:
        now = _value(tonight, name)
        before = _value(live.config, name)
        if before != now:
            return f"{name} is {now}, but was {before} for version {live.model_version}"
    return None


def _value(settings: Mapping[str, Any], name: str) -> Any:
    """Return a setting by its dotted name; None where older code stored none."""
    value: Any = settings
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
