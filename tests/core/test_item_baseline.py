"""EASE as a baseline: both ways of solving it, who takes part, and what its lists hold."""

import numpy as np
import psutil
import pytest

from mf_core.config import make_config
from mf_core.data.ratings import Ratings, id_map
from mf_core.data.snapshot import Snapshot, sort_ratings
from mf_core.judging import item_item
from mf_core.judging.item_item import ItemItemLists, item_item_lists
from mf_core.judging.metrics import list_quality
from mf_core.models.baselines import popularity_model, relevant_counts
from mf_core.models.lists import ListMaker
from mf_core.models.user_items import items_by_user

CONFIG = make_config()


def snapshot(n_users: int, n_items: int, share: float = 0.3) -> Snapshot:
    """Users who like the items of their own kind, of four."""
    rng = np.random.default_rng(1)
    user, item = np.nonzero(rng.random((n_users, n_items)) < share)
    likes = user % 4 == item % 4
    value = np.where(likes, rng.integers(4, 6, len(user)), rng.integers(1, 3, len(user)))
    ratings = sort_ratings(
        Ratings(user.astype(np.int32), item.astype(np.int32), value.astype(np.float32))
    )
    is_test = rng.random(len(ratings)) < 0.3
    return Snapshot(
        users=id_map(f"{number:04d}" for number in range(n_users + 1)),
        items=id_map(f"{number:04d}" for number in range(n_items + 1)),
        train=ratings.take(~is_test),
        test=ratings.take(is_test),
    )


def popular_lists(rows: Snapshot) -> ListMaker:
    """The popular list for everybody."""
    return ListMaker(
        ordering=popularity_model(CONFIG.data, rows),
        seen=items_by_user(rows.train, len(rows.users)),
        left_out=np.array([3], np.int32),
        relevant_counts=relevant_counts(CONFIG.data, rows.train, len(rows.items)),
        from_model=np.ones(len(rows.users), bool),
    )


def ndcg(lists: ListMaker, rows: Snapshot) -> float:
    quality = list_quality(lists, rows.test, CONFIG.data, cutoff=10)
    return float(quality.ndcg.sum() / quality.judged.sum())


@pytest.mark.parametrize(("n_users", "n_items"), [(60, 90), (90, 60)])
def test_scores_are_those_of_the_closed_form(n_users: int, n_items: int) -> None:
    """By fewer users than items and by fewer items than users: B = I - P diag(1 / P_ii)."""
    rows = snapshot(n_users, n_items)
    lists = item_item_lists(CONFIG, rows, popular_lists(rows))
    x = lists.model.rows.toarray().astype(np.float64)
    assert len(x) == n_users
    inverse = np.linalg.inv(x.T @ x + lists.model.ridge * np.eye(x.shape[1]))
    weights = np.eye(x.shape[1]) - inverse / np.diagonal(inverse)
    assert np.diagonal(weights) == pytest.approx(np.zeros(len(weights)), abs=1e-9)
    unseen = x == 0
    found = lists.model.scores(lists.model.rows)
    assert found[unseen] == pytest.approx((x @ weights)[unseen], abs=1e-4)


@pytest.mark.parametrize(("n_users", "n_items"), [(120, 180), (180, 120)])
def test_its_lists_follow_tastes(n_users: int, n_items: int) -> None:
    rows = snapshot(n_users, n_items)
    popular = popular_lists(rows)
    assert ndcg(item_item_lists(CONFIG, rows, popular), rows) > ndcg(popular, rows) + 0.1


def test_lists_hold_nothing_seen_or_left_out_and_newcomers_get_the_popular_list() -> None:
    rows = snapshot(60, 90)
    popular = popular_lists(rows)
    lists = item_item_lists(CONFIG, rows, popular)
    everybody = np.arange(len(rows.users), dtype=np.int32)
    [tile] = lists.top(everybody, 10, 64)
    assert (tile.item >= 0).all()
    assert not (tile.item == 3).any()
    for user, item in zip(tile.user, tile.item, strict=True):
        _, seen = lists.seen.of(np.array([user]))
        assert not set(item) & set(seen)
    assert list(tile.item[-1]) == list(popular.by_count(popular.relevant_counts)[:10])


def test_a_short_catalogue_makes_short_lists() -> None:
    rows = snapshot(40, 6, share=0.7)
    lists = item_item_lists(CONFIG, rows, popular_lists(rows))
    [tile] = lists.top(np.arange(5, dtype=np.int32), 10, 64)
    assert tile.item.shape == (5, 10)
    assert (tile.item[:, 6:] == -1).all()


def test_of_a_large_catalogue_the_items_rated_most_take_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(item_item, "_MOST_ITEMS", 20)
    monkeypatch.setattr(item_item, "_MOST_USERS", 30)
    monkeypatch.setattr(item_item, "_MOST_CELLS", 1)
    rows = snapshot(60, 90)
    lists = item_item_lists(CONFIG, rows, popular_lists(rows))
    assert lists.model.note == "EASE on 30 of 60 users, 20 of 90 items"
    counts = np.bincount(rows.train.item, minlength=len(rows.items))
    others = np.delete(counts, lists.model.items)
    assert counts[lists.model.items].min() >= others.max()
    # Users who were not drawn are scored as well.
    assert ndcg(lists, rows) > 0


def test_little_memory_takes_few_users(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = round(2 * item_item._COPIES * 4 * 90 * 25.5)

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    rows = snapshot(60, 90)
    assert item_item_lists(CONFIG, rows, popular_lists(rows)).model.rows.shape == (25, 90)


def test_ratings_without_a_relevant_one_to_judge_by_take_the_ridge_in_the_middle() -> None:
    rows = snapshot(60, 90)
    dull = Snapshot(
        rows.users,
        rows.items,
        rows.train.take(rows.train.value < 4),
        rows.test,
    )
    lists = item_item_lists(CONFIG, dull, popular_lists(dull))
    assert isinstance(lists, ItemItemLists)
    assert np.isfinite(lists.model.scores(lists.model.rows)).all()
