"""From two fitted heads to the rows that readers get: lists, the popular list, and similar items."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from mf_core.baselines import popularity
from mf_core.config import Config
from mf_core.evaluate import align, unlisted_items
from mf_core.factors import FactorModel
from mf_core.gate import Rule
from mf_core.ratings import Float64s, Int32s, Ratings, concatenate
from mf_core.samples import PosteriorSamples
from mf_core.snapshot import Snapshot
from mf_core.topn import Seen, TopN, seen_items, top_n, with_popular_fallback

_USERS_COMPARED = 2_000


@dataclass(frozen=True)
class Recommender:
    """Both heads in the snapshot's row numbers, and all that is known of users' ratings.

    Attributes:
        rating: predicts ratings.
        ordering: orders the lists.
        from_model: boolean array of shape (n_users,); False where the list is the popular one.
        popularity: float64 array of shape (n_items,), relevant ratings per item, of both sides.
        seen: items that a user has rated, on either side.
        hidden: int32 array of item rows that nobody may see, or that no list may hold (`unlisted_items`).
        rated: boolean array of shape (n_users,); False for a user who is there for attributes only.
        samples: kept samples of the rating head, in the same row numbers; None: there are none.
    """

    rating: FactorModel
    ordering: FactorModel
    from_model: np.ndarray
    popularity: Float64s
    seen: Seen
    hidden: Int32s
    rated: np.ndarray
    samples: PosteriorSamples | None


def all_ratings(snapshot: Snapshot) -> Ratings:
    """Return the ratings of both sides."""
    return concatenate([snapshot.train, snapshot.test])


def make_recommender(
    config: Config,
    snapshot: Snapshot,
    rating: FactorModel,
    ranking: FactorModel,
    hidden_ids: list[str],
    samples: PosteriorSamples | None = None,
) -> Recommender:
    """Put together what the lists are made from; `samples` must be in the snapshot's row numbers."""
    ratings = all_ratings(snapshot)
    counts = popularity(ratings, len(snapshot.items), config.data.relevant_from)
    rating, ranking = (align(model, snapshot.users, snapshot.items) for model in (rating, ranking))
    by_ranking = config.recommend.rank_by == "ranking"
    hidden = snapshot.items.rows(hidden_ids)
    has_factors = np.asarray(ranking.user_factors.any(axis=1))
    return Recommender(
        rating=rating,
        ordering=with_popular_fallback(ranking, counts) if by_ranking else rating,
        from_model=has_factors if by_ranking else np.ones_like(has_factors),
        popularity=counts,
        seen=seen_items(ratings, len(snapshot.users)),
        hidden=np.union1d(hidden[hidden >= 0], unlisted_items(config, snapshot)),
        rated=snapshot.rated()[0],
        samples=samples,
    )


def shard_users(n_users: int, shards: int, shard: int) -> Int32s:
    """Return the user rows of one shard of `shards`; together they are all users, in order."""
    return np.array_split(np.arange(n_users, dtype=np.int32), shards)[shard]


def recommendation_frames(
    config: Config,
    recommender: Recommender,
    users: Int32s,
    model_version: int,
    generated_at: datetime,
) -> Iterator[pd.DataFrame]:
    """Yield the rows of `mf.recommendation_rows` for the given user rows, tile by tile."""
    depth = config.recommend.top_n + config.recommend.reserve
    tiles = top_n(
        recommender.ordering,
        users,
        recommender.seen,
        depth,
        hidden=recommender.hidden,
        tile_mib=config.recommend.tile_mib,
    )
    for tile in tiles:
        yield _frame(config, recommender, tile, model_version, generated_at)


def _frame(
    config: Config, recommender: Recommender, tile: TopN, model_version: int, generated_at: datetime
) -> pd.DataFrame:
    row, place = np.nonzero(tile.item >= 0)
    user, item = tile.user[row], tile.item[row, place]
    predicted = recommender.rating.predict(user, item)
    return pd.DataFrame(
        {
            "model_version": model_version,
            "user_id": recommender.rating.users.ids[user],
            "rank": place + 1,
            "item_id": recommender.rating.items.ids[item],
            "score": tile.score[row, place],
            "predicted_rating": np.clip(predicted, config.data.scale_low, config.data.scale_high),
            "predicted_rating_sd": _standard_deviations(recommender.samples, user, item),
            "source": np.where(recommender.from_model[user], "model", "popular"),
            "generated_at": generated_at.isoformat(),
        }
    )


def _standard_deviations(
    samples: PosteriorSamples | None, user: Int32s, item: Int32s
) -> np.ndarray:
    """Return each row's standard deviation, or None (NULL) where there is none; object array of shape (n,)."""
    if samples is None:
        return np.full(len(user), None, dtype=object)
    deviation = samples.standard_deviation(user, item)
    return np.where(np.isnan(deviation), np.array(None, dtype=object), deviation)


def popular_frame(config: Config, recommender: Recommender, model_version: int) -> pd.DataFrame:
    """Return the rows of `mf.popular_items`: the most popular items that are not hidden, ties by item id."""
    depth = config.recommend.top_n + config.recommend.reserve
    visible = np.setdiff1d(np.arange(len(recommender.popularity)), recommender.hidden)
    chosen = visible[np.argsort(-recommender.popularity[visible], kind="stable")][:depth]
    predicted = recommender.rating.predict(
        np.full(len(chosen), -1, np.int32), chosen.astype(np.int32)
    )
    return pd.DataFrame(
        {
            "model_version": model_version,
            "rank": np.arange(1, len(chosen) + 1),
            "item_id": recommender.rating.items.ids[chosen],
            "score": recommender.popularity[chosen],
            "predicted_rating": np.clip(predicted, config.data.scale_low, config.data.scale_high),
        }
    )


def similar_frames(
    config: Config, ranking: FactorModel, model_version: int
) -> Iterator[pd.DataFrame]:
    """Yield the rows of `mf.similar_items`: cosine of the ranking factors; items without factors have none."""
    norms = np.linalg.norm(ranking.item_factors, axis=1)
    known = np.flatnonzero(norms > 0).astype(np.int32)
    unit = np.divide(
        ranking.item_factors,
        norms[:, None],
        where=norms[:, None] > 0,
        out=np.zeros_like(ranking.item_factors),
    )
    nothing = np.zeros(len(norms), np.float32)
    cosines = FactorModel(0.0, nothing, nothing, unit, unit, ranking.items, ranking.items)
    itself = Seen(np.arange(len(norms) + 1, dtype=np.int64), np.arange(len(norms), dtype=np.int32))
    unknown = np.flatnonzero(norms == 0).astype(np.int32)
    depth = config.recommend.similar_items
    for tile in (
        top_n(cosines, known, itself, depth, hidden=unknown, tile_mib=config.recommend.tile_mib)
        if depth
        else ()
    ):
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


def judge_refit(
    config: Config, snapshot: Snapshot, evaluated: Recommender, refitted: Recommender
) -> list[Rule]:
    """Compare the refit, which nobody has tested, with the model that was: error on the same rows, and overlap of the lists."""
    everything = all_ratings(snapshot)
    before, after = (_rmse(config, made.rating, everything) for made in (evaluated, refitted))
    limit = config.gate.max_refit_error_ratio * before
    text = f"RMSE of the refit on all ratings {after:.4f}, at most {limit:.4f} allowed (evaluated model {before:.4f})"
    error = Rule("refit_error", after <= limit, text, after, limit)
    overlap, least = _overlap(config, evaluated, refitted), config.gate.min_refit_overlap
    text = f"the refit's lists share {overlap:.0%} of their items with the evaluated ones, {least:.0%} needed"
    return [error, Rule("refit_overlap", overlap >= least, text, overlap, least)]


def _rmse(config: Config, model: FactorModel, ratings: Ratings) -> float:
    predicted = np.clip(
        model.predict(ratings.user, ratings.item), config.data.scale_low, config.data.scale_high
    )
    return float(np.sqrt(np.mean((predicted - ratings.value) ** 2)))


def _overlap(config: Config, evaluated: Recommender, refitted: Recommender) -> float:
    # Lists of users without a rating are the popular one in both, which would say nothing of the models.
    candidates = np.flatnonzero(refitted.rated).astype(np.int32)
    users = candidates[
        np.unique(
            np.linspace(0, len(candidates) - 1, min(len(candidates), _USERS_COMPARED)).astype(
                np.int32
            )
        )
    ]
    settings = config.recommend

    def lists_of(made: Recommender) -> Int32s:
        tiles = top_n(
            made.ordering,
            users,
            made.seen,
            settings.top_n,
            hidden=made.hidden,
            tile_mib=settings.tile_mib,
        )
        return np.concatenate([tile.item for tile in tiles])

    lists = [lists_of(made) for made in (evaluated, refitted)]
    common = (lists[0][:, :, None] == lists[1][:, None, :]) & (lists[0] >= 0)[:, :, None]
    return float(common.sum() / max(1, (lists[1] >= 0).sum()))
