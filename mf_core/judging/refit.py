"""What is known of a refit before anybody sees it: its error on all ratings, and its lists."""

import numpy as np

from mf_core.config import Config
from mf_core.data.ratings import Int32s, Ratings
from mf_core.data.snapshot import Snapshot
from mf_core.figures import Rule
from mf_core.judging.gate import refit_error, refit_overlap
from mf_core.models.factors import FactorModel
from mf_core.models.heads import Heads

_USERS_COMPARED = 2_000


def judge_refit(
    config: Config, snapshot: Snapshot, evaluated: Heads, refitted: Heads
) -> list[Rule]:
    """Compare the refit, which nobody has tested, with the model that was.

    Both models' lists are those for readers. Returns the rules with their outcome.
    """
    rules = [refit_overlap(config, _overlap(config, snapshot, evaluated, refitted))]
    if evaluated.rating is not None and refitted.rating is not None:
        everything = snapshot.all_ratings()
        before = _rmse(config, evaluated.rating, everything)
        after = _rmse(config, refitted.rating, everything)
        rules.insert(0, refit_error(config, rmse_before=before, rmse_after=after))
    return rules


def _rmse(config: Config, model: FactorModel, ratings: Ratings) -> float:
    """Return the RMSE of the predictions, clipped to the scale as published."""
    predicted = model.predict(ratings.user, ratings.item)
    clipped = np.clip(predicted, config.data.scale_low, config.data.scale_high)
    errors = clipped - ratings.value
    return float(np.sqrt(np.mean(errors**2)))


def _overlap(config: Config, snapshot: Snapshot, evaluated: Heads, refitted: Heads) -> float:
    """Return the share of the refit's list places whose item the evaluated list holds too."""
    users = _some_users(snapshot)
    before = _lists(config, evaluated, users)
    after = _lists(config, refitted, users)

    # Every place of one list against every place of the other; -1 is no item.
    same = before[:, :, None] == after[:, None, :]
    is_item = (before >= 0)[:, :, None]
    n_common = (same & is_item).sum()
    n_after = (after >= 0).sum()
    return float(n_common / max(1, n_after))


def _some_users(snapshot: Snapshot) -> Int32s:
    """Return evenly spaced rows of users with a rating.

    The list of the others is the popular one in both, which would say nothing of the models.
    """
    rated_users, _ = snapshot.rated()
    rated = np.flatnonzero(rated_users).astype(np.int32)
    n_compared = min(len(rated), _USERS_COMPARED)
    places = np.linspace(0, len(rated) - 1, n_compared).astype(np.int32)
    return rated[np.unique(places)]


def _lists(config: Config, heads: Heads, users: Int32s) -> Int32s:
    """Return the lists that readers would see; int32 array of shape (n_users, N)."""
    settings = config.recommend
    tiles = heads.lists.top(users, settings.top_n, settings.tile_mib)
    return np.concatenate([tile.item for tile in tiles])
