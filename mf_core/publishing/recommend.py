"""From the fitted heads to the rows that readers get: lists, the popular list, similar items."""

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from mf_core.config import Config
from mf_core.data.ratings import Float32s, Float64s, Int32s, Ratings
from mf_core.models.baselines import recent_counts
from mf_core.models.factors import FactorModel
from mf_core.models.heads import Heads
from mf_core.models.samples import PosteriorSamples
from mf_core.models.topn import top_n
from mf_core.models.user_items import UserItems
from mf_core.provenance import result_fingerprint
from mf_core.records import ModelRef, SplitRef

POPULAR_DAYS = (7, 30)
"""Of how many last days there is a popular list; `look_ups.sql` names them too."""

# By whether a list is from the model.
_SOURCES = pa.array(["popular", "model"])


def made_of(config: Config, split: SplitRef, model: ModelRef) -> str:
    """Return the sha256 (hex) of what a version's lists are made of: data, models, settings, code.

    Items that are hidden at the time are left out: the readers' view hides them whatever a list
    holds.
    """
    parts = [
        split.snapshot_id,
        *(head.sha256 for head in model.heads.values()),
        result_fingerprint(config),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def shard_users(n_users: int, shards: int, shard: int) -> Int32s:
    """Return the user rows of one shard of `shards`; together they are all users, in order."""
    everybody = np.arange(n_users, dtype=np.int32)
    return np.array_split(everybody, shards)[shard]


def recommendation_tables(
    config: Config, heads: Heads, users: Int32s, model_version: int, generated_at: datetime
) -> Iterator[pa.Table]:
    """Yield the rows of `mf.recommendation_rows` for the given user rows, tile by tile."""
    ordering = heads.lists.ordering
    item_ids = pa.array(ordering.items.ids)
    for tile in heads.lists.top(users, _depth(config), config.recommend.tile_mib):
        row, place = np.nonzero(tile.item >= 0)
        user = tile.user[row]
        item = tile.item[row, place]
        columns = {
            "model_version": _repeated(model_version, len(row)),
            "user_id": pa.array(ordering.users.ids[tile.user]).take(row),
            "rank": place + 1,
            "item_id": item_ids.take(item),
            "score": tile.score[row, place],
            "predicted_rating": _predicted(config, heads.rating, user, item),
            "predicted_rating_sd": _standard_deviations(heads.samples, user, item),
            "source": _SOURCES.take(heads.lists.from_model[user].astype(np.int8)),
            "generated_at": _repeated(generated_at.isoformat(), len(row)),
        }
        yield pa.table(columns)


def _depth(config: Config) -> int:
    """Return the length of a stored list: what readers see, and the reserve."""
    return config.recommend.top_n + config.recommend.reserve


def _repeated(value: int | str, n: int) -> pa.Array:
    return pa.repeat(pa.scalar(value), n)


def _predicted(
    config: Config, rating: FactorModel | None, user: Int32s, item: Int32s
) -> np.ndarray:
    """Return the predicted ratings, within the scale; None (NULL) where no head predicts them."""
    if rating is None:
        return np.full(len(user), None, dtype=object)
    predicted = rating.predict(user, item)
    return np.clip(predicted, config.data.scale_low, config.data.scale_high)


def _standard_deviations(samples: PosteriorSamples | None, user: Int32s, item: Int32s) -> pa.Array:
    """Return each row's standard deviation, null where there is none."""
    if samples is None:
        return pa.nulls(len(user), pa.float64())
    deviation = samples.standard_deviation(user, item)
    return pa.array(deviation.astype(np.float64), from_pandas=True)


def popular_frames(
    config: Config, heads: Heads, ratings: Ratings, model_version: int
) -> Iterator[pd.DataFrame]:
    """Yield the rows of `mf.popular_items`: items with the most relevant ratings first.

    Of all time come all items, for users who have rated many; of the last days those that have a
    relevant rating of then.

    Args:
        config: says which ratings are relevant.
        heads: the version's two heads.
        ratings: what the lists may know of.
        model_version: the version.
    """
    of_all_time = heads.lists.relevant_counts
    yield _popular_frame(config, heads, of_all_time, days=0, model_version=model_version)
    for days in POPULAR_DAYS:
        counts = recent_counts(config.data, ratings, len(of_all_time), days)
        yield _popular_frame(config, heads, counts, days=days, model_version=model_version)


def _popular_frame(
    config: Config, heads: Heads, counts: Float64s, *, days: int, model_version: int
) -> pd.DataFrame:
    item = heads.lists.by_count(counts)
    if days:
        item = item[counts[item] > 0]
    nobody = np.full(len(item), -1, np.int32)
    return pd.DataFrame(
        {
            "model_version": model_version,
            "rank": np.arange(1, len(item) + 1),
            "item_id": heads.lists.ordering.items.ids[item],
            "score": counts[item],
            "predicted_rating": _predicted(config, heads.rating, nobody, item),
            "days": days,
        }
    )


def similar_frames(
    config: Config, ranking: FactorModel, model_version: int
) -> Iterator[pd.DataFrame]:
    """Yield the rows of `mf.similar_items`: nearest items by the cosine of the ranking factors.

    Items without factors have none.
    """
    if not config.recommend.similar_items:
        return
    n_items = len(ranking.items)
    norms = np.linalg.norm(ranking.item_factors, axis=1)
    known = np.flatnonzero(norms > 0).astype(np.int32)
    unknown = np.flatnonzero(norms == 0).astype(np.int32)

    # Items take the users' place; each is left out of its own list.
    every_item = np.arange(n_items, dtype=np.int32)
    itself = UserItems(np.arange(n_items + 1, dtype=np.int64), every_item)
    tiles = top_n(
        _cosines(ranking, norms),
        known,
        itself,
        config.recommend.similar_items,
        hidden=unknown,
        tile_mib=config.recommend.tile_mib,
    )
    for tile in tiles:
        row, place = np.nonzero(tile.item >= 0)
        yield pd.DataFrame(
            {
                "model_version": model_version,
                "item_id": ranking.items.ids[tile.user[row]],
                "rank": place + 1,
                "similar_item_id": ranking.items.ids[tile.item[row, place]],
                "score": tile.score[row, place],
            }
        )


def _cosines(ranking: FactorModel, norms: Float32s) -> FactorModel:
    """Return the model whose score of two items is the cosine of their factors."""
    unit = np.divide(
        ranking.item_factors,
        norms[:, None],
        where=norms[:, None] > 0,
        out=np.zeros_like(ranking.item_factors),
    )
    nothing = np.zeros(len(norms), np.float32)
    return FactorModel(
        mean=0.0,
        user_bias=nothing,
        item_bias=nothing,
        user_factors=unit,
        item_factors=unit,
        users=ranking.items,
        items=ranking.items,
    )
