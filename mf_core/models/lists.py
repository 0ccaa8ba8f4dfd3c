"""What a list is: which head orders it, who gets the popular one, and what no list may hold.

The judge, the readers' lists, `mf tune` and `mf backtest` all make their lists here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mf_core.config import Config
from mf_core.data.ratings import Float32s, Float64s, Int32s, Ratings
from mf_core.models.baselines import relevant_counts
from mf_core.models.factors import FactorModel, divided, score_spread
from mf_core.models.topn import TopN, top_n
from mf_core.models.user_items import UserItems, items_by_user

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ListMaker:
    """Makes lists; all rows are those of one snapshot. It is equal to itself only.

    Attributes:
        ordering: scores items; the best come first.
        seen: items left out of each user's list, since the user has rated them.
        left_out: int32 array of item rows that no list holds.
        relevant_counts: float64 array of shape (n_items,), relevant ratings per item, older ones
            faded: what the popular list is ordered by.
        from_model: boolean array of shape (n_users,); False where the list is the popular one.
    """

    ordering: FactorModel
    seen: UserItems
    left_out: Int32s
    relevant_counts: Float64s
    from_model: Mask

    def top(self, users: Int32s, n: int, tile_mib: int) -> Iterator[TopN]:
        """Yield the lists of `n` places of the user rows `users`, in tiles of `tile_mib` MiB."""
        return top_n(
            self.ordering,
            users,
            self.seen,
            n,
            hidden=self.left_out,
            tile_mib=tile_mib,
        )

    def by_count(self, counts: Float64s) -> Int32s:
        """Return the item rows that lists may hold by their counts, the highest first.

        Args:
            counts: float64 array of shape (n_items,); ties go by item id.
        """
        every_item = np.arange(len(counts))
        listed = np.setdiff1d(every_item, self.left_out)

        # Item rows are sorted by id, and a stable sort keeps that order among equal counts.
        order = np.argsort(-counts[listed], kind="stable")
        return listed[order].astype(np.int32)


def list_maker(
    config: Config,
    rating: FactorModel | None,
    ranking: FactorModel,
    known: Ratings,
    *,
    rated_items: Mask,
    hidden: Int32s | None = None,
) -> ListMaker:
    """Return what makes the lists of a version.

    Args:
        config: `recommend.rank_by` names the head that orders, `recommend.rating_weight` how much
            the other one counts beside it, `data` what counts as relevant, and how that
            fades.
        rating: the rating head; None where there is none, and the ranking head orders alone.
        ranking: the ranking head, in the same rows.
        known: ratings that the lists may know of. Their items are not listed again, and the
            popular list counts them.
        rated_items: boolean array of shape (n_items,), items with a rating on either side. Others
            are left out where the ranking head orders: it has no factors for them, and their score
            of 0 would come before negative ones.
        hidden: int32 array of further item rows that no list may hold.
    """
    n_users = len(ranking.users)
    n_items = len(ranking.items)
    counts = relevant_counts(config.data, known, n_items)
    left_out = np.empty(0, np.int32) if hidden is None else hidden

    if config.recommend.rank_by == "rating" and rating is not None:
        ordering = rating
        from_model = np.ones(n_users, dtype=bool)
    else:
        with_ratings = ranking
        if rating is not None:
            weight = config.recommend.rating_weight
            with_ratings = with_predicted_ratings(ranking, rating, weight, rated_items)
        ordering = with_popular_fallback(with_ratings, counts)
        from_model = _has_factors(ranking)
        unrated = np.flatnonzero(~rated_items)
        left_out = np.union1d(left_out, unrated).astype(np.int32)

    return ListMaker(
        ordering=ordering,
        seen=items_by_user(known, n_users),
        left_out=left_out,
        relevant_counts=counts,
        from_model=from_model,
    )


def with_predicted_ratings(
    ranking: FactorModel, rating: FactorModel, weight: float, listed: Mask
) -> FactorModel:
    """Return `ranking` with the predicted ratings as more of its factors.

    The ranking head tells what a user chooses, the rating head what the user likes of it. The
    ratings are taken in standard deviations of each user's predictions over the listed items, times
    those of the ranking head's scores: a user without ranking factors gets zero factors here too.

    Args:
        ranking, rating: both heads, in the same rows.
        weight: of the ratings.
        listed: boolean array of shape (n_items,), the items that lists may hold.
    """
    if not weight or not listed.any():
        return ranking

    # The item biases are one more column.
    user = np.column_stack([rating.user_factors, np.ones_like(rating.user_bias)])
    item = np.column_stack([rating.item_factors, rating.item_bias])
    spread = score_spread(ranking.user_factors, ranking.item_factors[listed])
    scale = weight * divided(spread, score_spread(user, item[listed]))
    return replace(
        ranking,
        user_factors=np.hstack([ranking.user_factors, user * scale.astype(np.float32)[:, None]]),
        item_factors=np.hstack([ranking.item_factors, item]),
    )


def with_popular_fallback(model: FactorModel, counts: Float64s) -> FactorModel:
    """Return `model` with one more factor that gives a user without factors the popular list.

    Args:
        model: the ranking head.
        counts: float64 array of shape (n_items,), relevant ratings per item.
    """
    user_column: Float32s = (~_has_factors(model)).astype(np.float32)[:, None]
    item_column: Float32s = counts.astype(np.float32)[:, None]
    return replace(
        model,
        user_factors=np.hstack([model.user_factors, user_column]),
        item_factors=np.hstack([model.item_factors, item_column]),
    )


def _has_factors(model: FactorModel) -> Mask:
    return np.asarray(model.user_factors.any(axis=1))
