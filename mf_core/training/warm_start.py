"""Warm start: which evaluated model tonight's evaluated fit may start from, and why there is none.

The comparison with the champion leaks nothing only while an evaluated model descends from evaluated models alone, whose
training rows are tonight's test rows in no case. That holds for the split protocol `hash` with the same `split_id`: a pair's
side never changes. The validation part of the training rows is chosen by a hash of the ids too (`mf_core.data.ratings.pair_draws`),
so that a start has not seen what decides when to stop.

Whatever is wrong with a start, the night goes on without it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.engine import Engine

from mf_core.config import Config
from mf_core.errors import ArtifactError
from mf_core.models.heads import load_models
from mf_core.records import StartRef
from mf_core.warehouse import lineage, transaction, versions
from mf_core.warehouse.versions import LiveModel

# The scale and the relevant ratings say what is fitted; the seed and the share choose the validation part.
_SAME = (
    "data.scale_low",
    "data.scale_high",
    "data.relevant_from",
    "train.seed",
    "train.warm_start",
    "rating_head.solver",
    "rating_head.validation_fraction",
)


def find_start(
    config: Config, engine: Engine, split_id: str, log: Callable[[str], None]
) -> StartRef | None:
    """Return the live version's evaluated model if tonight's evaluated fit may start from it.

    Else None, with a line in the log that says why not.

    Raises:
        DatabaseError: Postgres broke off.
        ArtifactStoreError: the store can't be read.
    """
    if not config.train.warm_start:
        return None
    start = None
    try:
        with transaction(engine) as connection:
            live = versions.live_model(connection)
            reason = reason_to_start_cold(config, split_id, live)
            if live and not reason:
                model = lineage.load_model_ref(connection, live.model_version, "evaluated")
                start = model.as_start()
        if start:
            # A damaged model is found here, where a cold start costs nothing.
            load_models(start)
    except ArtifactError as error:
        start = None
        reason = str(error)
    if start is None:
        log(f"a cold start: {reason}")
    else:
        log(f"a warm start from the evaluated model of version {start.model_version}")
    return start


def reason_to_start_cold(config: Config, split_id: str, live: LiveModel | None) -> str | None:
    """Return in words why nothing can be started from the `live` version; None if it can."""
    every = config.train.full_restart_every
    if live is None:
        return "no version is live"
    if config.split.protocol != "hash":
        return (
            f"under split.protocol {config.split.protocol} a rating may change sides, so version {live.model_version} may have "
            "seen tonight's test rows"
        )
    if live.split_id != split_id:
        return f"version {live.model_version} was split otherwise ({live.split_id}, tonight {split_id}): it has seen test rows"
    if live.lineage_length >= every:
        return f"version {live.model_version} is number {live.lineage_length} of its lineage (train.full_restart_every {every})"
    if not config.rating_head.chosen().takes_start:
        return f"solver {config.rating_head.solver} takes no start"
    tonight = config.model_dump(mode="json")
    for name in (*_SAME, *config.start_must_share("ranking"), *config.start_must_share("rating")):
        before, now = _value(live.config, name), _value(tonight, name)
        if before != now:
            return f"{name} is {now}, but was {before} for version {live.model_version}"
    return None


def _value(settings: Mapping[str, Any], name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
