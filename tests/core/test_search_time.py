"""The search under protocols whose test rows are late ones: what it tries, and what it finds."""

import numpy as np
import pytest

from mf_core.config import Config, make_config
from mf_core.data.ratings import IdMap, Ratings, id_map
from mf_core.judging.popularity import POPULAR_HALF_LIFE
from mf_core.records import FoundSettings
from mf_core.training.ranking_candidates import recent_candidates
from mf_core.training.search import search_settings
from mf_core.training.search_rows import SearchRows

RECENT = "ranking_head.recent_half_life"
DAY = 86_400


def settings(protocol: str) -> Config:
    """Return settings that are fitted in no time."""
    return make_config(
        {
            "split.protocol": protocol,
            "ranking_head.n_factors": 8,
            "ranking_head.iterations": 4,
            "train.device": "cpu",
        }
    )


def ids(n: int) -> IdMap:
    """Return the ids 000 to n - 1."""
    return id_map(f"{number:03d}" for number in range(n))


def changing_tastes() -> SearchRows:
    """Return users who rate six items of one group, and then six of another, on a day each."""
    rng = np.random.default_rng(0)
    user, item, day = [], [], []
    for number in range(300):
        first, second = rng.choice(6, 2, replace=False)
        of_groups = [10 * group + rng.permutation(10)[:6] for group in (first, second)]
        user += [number] * 12
        item += list(np.concatenate(of_groups))
        day += list(rng.integers(1, 1000) + np.arange(12))
    times = (np.array(day) * DAY).astype(np.uint32)
    value = np.full(len(user), 5, np.float32)
    ratings = Ratings(np.array(user, np.int32), np.array(item, np.int32), value, times)
    return SearchRows(ratings, ids(300), ids(60))


def found_by(config: Config, rows: SearchRows) -> FoundSettings:
    """Return what a search finds for the ranking head."""
    return search_settings(config, rows, begin_at=None, log=print, heads=["ranking"])


def test_where_tastes_change_the_last_ratings_are_found_to_count_more() -> None:
    found = found_by(settings("leave_last"), changing_tastes())

    assert found.settings[RECENT] == 5


def test_where_popularity_turns_over_a_half_life_is_found_with_its_figures() -> None:
    rng = np.random.default_rng(1)
    # Each user rates ten items on one day; what is popular moves on from day to day.
    day = np.repeat(rng.integers(1, 100, 400), 10)
    item = np.clip(np.round(rng.normal(day / 2, 4)), 0, 59).astype(np.int32)
    user = np.repeat(np.arange(400, dtype=np.int32), 10)
    value = np.full(len(user), 5, np.float32)
    ratings = Ratings(user, item, value, (day * DAY).astype(np.uint32))
    rows = SearchRows(ratings, ids(400), ids(60))
    found = found_by(settings("temporal"), rows)

    days = found.settings[POPULAR_HALF_LIFE]
    assert "NDCG@10 of the popular list" in found.grounds
    shown = [trial for trial in found.trials if trial["head"] == "popularity"]
    assert [trial["settings"].get(POPULAR_HALF_LIFE) for trial in shown] == [None, 24, 12, 6, 3]
    best = max(shown, key=lambda trial: trial["value"])
    assert best["settings"] == {POPULAR_HALF_LIFE: days}


@pytest.mark.parametrize(
    ("protocol", "n"), [("hash", 0), ("given", 0), ("temporal", 0), ("leave_last", 2)]
)
def test_recency_is_tried_where_each_users_last_ratings_judge(protocol: str, n: int) -> None:
    dated = changing_tastes().train
    undated = Ratings(dated.user, dated.item, dated.value)

    assert len(recent_candidates(settings(protocol), dated)) == n
    assert recent_candidates(settings(protocol), undated) == []
