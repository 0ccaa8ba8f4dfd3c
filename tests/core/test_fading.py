"""How much less an older rating counts: popularity by days, a user's list by his later ratings."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from mf_core.config import Config, make_config
from mf_core.data.fading import fading, is_recent, recency, require_times
from mf_core.data.ratings import UNDATED, IdMap, Ratings, id_map
from mf_core.data.snapshot import Snapshot
from mf_core.errors import QualityError
from mf_core.judging.popularity import choose_popular_half_life, half_lives
from mf_core.models.baselines import popularity_model, relevant_counts
from mf_core.models.lists import list_maker

DAY = 86_400
TODAY = 20_000 * DAY


def ratings_at(
    *times: int, user: list[int] | None = None, item: list[int] | None = None
) -> Ratings:
    """Return a relevant rating at each of the times."""
    nothing = [0] * len(times)
    return Ratings(
        np.array(user or nothing, np.int32),
        np.array(item or nothing, np.int32),
        np.full(len(times), 5, np.float32),
        np.array(times, np.uint32),
    )


def seconds(text: str) -> int:
    """Return the epoch seconds of midnight UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def faded(ratings: Ratings, days: float) -> list[float]:
    """Return what the ratings count."""
    left = fading(ratings, days)
    assert left is not None
    assert left.dtype == np.float32
    return left.tolist()


def test_a_rating_counts_half_every_half_life() -> None:
    ratings = ratings_at(TODAY, TODAY - DAY, TODAY - 3 * DAY, TODAY - DAY // 2)

    assert faded(ratings, 1) == pytest.approx([1, 1 / 2, 1 / 8, 2**-0.5])
    assert faded(ratings, 3) == pytest.approx([1, 2 ** (-1 / 3), 1 / 2, 2 ** (-1 / 6)])


def test_the_last_days_are_those_before_the_latest_rating() -> None:
    week = 7 * DAY
    ratings = ratings_at(TODAY, TODAY - week + 1, TODAY - week, UNDATED, TODAY - 40 * DAY)

    assert is_recent(ratings, 7).tolist() == [True, True, False, False, False]
    assert is_recent(ratings, 30).tolist() == [True, True, True, False, False]
    assert not is_recent(dataclasses.replace(ratings, rated_at=None), 30).any()
    assert not is_recent(ratings_at(UNDATED, UNDATED), 30).any()
    assert is_recent(ratings_at(), 7).tolist() == []


def test_the_29th_of_february_is_a_day() -> None:
    leap = ratings_at(seconds("2020-03-01"), seconds("2020-02-28"))
    plain = ratings_at(seconds("2019-03-01"), seconds("2019-02-28"))

    assert faded(leap, 1) == [1, 1 / 4]
    assert faded(plain, 1) == [1, 1 / 2]


def test_the_latest_of_the_given_ratings_is_today() -> None:
    ratings = ratings_at(TODAY, TODAY - DAY, TODAY - 2 * DAY)
    older = ratings.take(np.array([1, 2]))

    assert faded(older, 1) == [1, 1 / 2]
    assert faded(ratings_at(TODAY, TODAY), 1) == [1, 1]


def test_an_undated_rating_is_as_old_as_the_oldest() -> None:
    assert faded(ratings_at(TODAY, UNDATED, TODAY - 2 * DAY), 1) == [1, 1 / 4, 1 / 4]


def test_ratings_of_another_age_all_count_a_millionth() -> None:
    ratings = ratings_at(TODAY, TODAY - 20 * DAY, 1)

    assert faded(ratings, 1) == [1, 2**-20, 2**-20]


@pytest.mark.parametrize("fade", [fading, recency])
def test_without_a_half_life_or_times_all_count_the_same(fade: Any) -> None:
    dated = ratings_at(TODAY, 5)
    undated = dataclasses.replace(dated, rated_at=None)

    assert fade(dated, None) is None
    assert fade(undated, 3) is None


def test_nothing_dated_and_nothing_at_all_do_not_fade() -> None:
    nothing = ratings_at()

    assert fading(ratings_at(UNDATED, UNDATED), 1) is None
    assert fading(nothing, 1) is None
    left = recency(nothing, 1)
    assert left is not None
    assert len(left) == 0


def test_a_rating_fades_by_what_its_user_has_rated_later() -> None:
    # User 0 rated the second item last; user 1 rated two at once, and one at an unknown time.
    ratings = ratings_at(
        TODAY - 9, TODAY, 7, TODAY - 99, TODAY - 99, UNDATED, user=[0, 0, 0, 1, 1, 1]
    )
    left = recency(ratings, 2)

    assert left is not None
    assert left.dtype == np.float32
    later = np.array([1, 0, 2, 0, 0, 2])
    assert left == pytest.approx(0.1 + 0.9 * 2.0 ** (-later / 2))


def test_recency_does_not_depend_on_the_order_of_the_rows() -> None:
    rng = np.random.default_rng(0)
    times = rng.integers(1, 50, 500).astype(np.uint32)
    user = rng.integers(0, 20, 500).astype(np.int32)
    item = np.arange(500, dtype=np.int32)
    ratings = Ratings(user, item, np.ones(500, np.float32), times)
    left = recency(ratings, 3)
    shuffle = rng.permutation(500)
    shuffled = recency(ratings.take(shuffle), 3)

    assert left is not None
    assert shuffled is not None
    assert shuffled.tolist() == left[shuffle].tolist()
    for row in range(0, 500, 50):
        later = ((user == user[row]) & (times > times[row])).sum()
        assert left[row] == pytest.approx(0.1 + 0.9 * 2.0 ** (-later / 3))


def with_half_life(days: float | None, protocol: str = "temporal") -> Config:
    """Return settings with a half-life of popularity."""
    return make_config(
        {
            "data.popular_half_life_days": days,
            "split.protocol": protocol,
        }
    )


def hits() -> Snapshot:
    """Return ten old likes of item 0, four new ones of item 1, one of another age of item 2."""
    times = [TODAY - 30 * DAY] * 10 + [TODAY] * 4 + [5]
    item = [0] * 10 + [1] * 4 + [2]
    train = ratings_at(*times, user=list(range(15)), item=item)
    users = id_map(f"u{number:02d}" for number in range(16))
    return Snapshot(users, id_map("abcd"), train, train.take(np.zeros(15, dtype=bool)))


def test_the_popular_list_and_the_baseline_fade_alike() -> None:
    snapshot = hits()
    for days, order in ((None, [0, 1, 2]), (10, [1, 0, 2]), (1, [1, 0, 2]), (300, [0, 1, 2])):
        config = with_half_life(days)
        baseline = popularity_model(config.data, snapshot)
        _, rated = snapshot.rated()
        ranking = dataclasses.replace(baseline, item_bias=np.zeros(4, np.float32))
        lists = list_maker(config, ranking, ranking, snapshot.train, rated_items=rated)

        # User 15 has rated nothing, so the popular list is his: as a table, and by the scores.
        assert lists.by_count(lists.relevant_counts)[:10].tolist() == order
        [tile] = lists.top(np.array([15], np.int32), 3, tile_mib=1)
        assert tile.item.tolist() == [order]
        assert np.argsort(-baseline.item_bias[:3]).tolist() == order


def test_only_relevant_ratings_count_but_any_can_be_the_latest() -> None:
    snapshot = hits()
    train = snapshot.train
    low = train.value.copy()
    low[10:14] = 1
    counts = relevant_counts(with_half_life(30).data, dataclasses.replace(train, value=low), 4)

    assert counts.tolist() == pytest.approx([5, 0, 2**-20, 0], rel=1e-6)


@pytest.mark.parametrize("name", ["data.popular_half_life_days", "ranking_head.recent_half_life"])
def test_ratings_without_times_can_not_fade(name: str) -> None:
    undated = dataclasses.replace(ratings_at(5, 6), rated_at=None)

    with pytest.raises(QualityError, match=rf"{name} is 7, but no rating has a time\. Set source"):
        require_times(make_config({name: 7}), undated)
    require_times(make_config({name: 7}), ratings_at(5, UNDATED))
    require_times(Config(), undated)


def drifting(turns: bool, n_users: int = 600) -> tuple[Ratings, IdMap, IdMap]:
    """Return twelve ratings of each user in 100 days; what is popular turns over, or stays."""
    rng = np.random.default_rng(5)
    user = np.repeat(np.arange(n_users, dtype=np.int32), 12)
    day = np.repeat(rng.integers(0, 100, n_users), 12)
    centre = day / 2 if turns else np.full(len(day), 25)
    item = np.clip(np.round(rng.normal(centre, 4)), 0, 49).astype(np.int32)
    times = (TODAY + day * DAY).astype(np.uint32)
    ratings = Ratings(user, item, np.full(len(user), 5, np.float32), times)
    return (
        ratings,
        id_map(f"{u:04d}" for u in range(n_users)),
        id_map(f"{i:02d}" for i in range(50)),
    )


def test_a_half_life_is_found_where_popularity_turns_over() -> None:
    train, users, items = drifting(turns=True)
    found, figures = choose_popular_half_life(with_half_life(None), train, users, items, seed=0)
    name, days = next(iter(found.items()))

    assert name == "data.popular_half_life_days"
    assert days in half_lives(train)
    assert figures[days] == max(figures.values()) > figures[None] + 0.2
    make_config(found)


def test_none_is_found_where_popularity_stays() -> None:
    train, users, items = drifting(turns=False)
    found, figures = choose_popular_half_life(with_half_life(None), train, users, items, seed=0)

    assert found == {}
    assert len(figures) == 5


@pytest.mark.parametrize(("protocol", "days"), [("hash", None), ("given", None), ("temporal", 9.0)])
def test_nothing_is_tried_on_drawn_rows_nor_against_a_persons_word(
    protocol: str, days: float | None
) -> None:
    train, users, items = drifting(turns=True)

    assert choose_popular_half_life(
        with_half_life(days, protocol), train, users, items, seed=0
    ) == ({}, {})


def test_nothing_is_tried_without_times_or_within_days() -> None:
    train, users, items = drifting(turns=True)
    undated = dataclasses.replace(train, rated_at=None)
    one_day = dataclasses.replace(train, rated_at=np.full(len(train), TODAY, np.uint32))
    disliked = dataclasses.replace(train, value=np.ones(len(train), np.float32))

    for ratings in (undated, one_day, disliked):
        assert choose_popular_half_life(with_half_life(None), ratings, users, items, seed=0) == (
            {},
            {},
        )
    assert half_lives(train) == [25, 12, 6, 3]
