"""Top-N lists are exact, whatever the tiling."""

import numpy as np
import pytest

from mf_core.data.ratings import IdMap, Ratings, id_map
from mf_core.models import topn
from mf_core.models.factors import FactorModel
from mf_core.models.lists import with_popular_fallback
from mf_core.models.topn import UserItems, items_by_user, top_n


def ids(prefix: str, n: int) -> IdMap:
    return id_map(f"{prefix}{k:05d}" for k in range(n))


def random_model(
    n_users: int, n_items: int, n_factors: int, seed: int = 0, decimals: int | None = None
) -> FactorModel:
    generator = np.random.default_rng(seed)
    arrays = [
        generator.normal(size=shape)
        for shape in ((n_users,), (n_items,), (n_users, n_factors), (n_items, n_factors))
    ]
    if decimals is not None:
        arrays = [np.round(array, decimals) for array in arrays]
    return FactorModel(
        3.5, *(array.astype(np.float32) for array in arrays), ids("u", n_users), ids("i", n_items)
    )


def random_seen(
    n_users: int, n_items: int, share: float, seed: int = 1
) -> tuple[UserItems, np.ndarray]:
    mask = np.random.default_rng(seed).random((n_users, n_items)) < share
    user, item = np.nonzero(mask)
    return items_by_user(
        Ratings(user.astype(np.int32), item.astype(np.int32), np.ones(len(user), np.float32)),
        n_users,
    ), mask


def full_sort(model: FactorModel, left_out: np.ndarray, n: int) -> np.ndarray:
    """Every score in float64, sorted in full."""
    products = model.user_factors[:, None, :].astype(np.float64) * model.item_factors[None]
    scores = (
        model.mean
        + model.user_bias[:, None].astype(np.float64)
        + model.item_bias
        + products.sum(axis=-1)
    )
    scores[left_out] = -np.inf
    order = np.lexsort(
        (np.broadcast_to(np.arange(scores.shape[1]), scores.shape), -scores), axis=1
    )[:, :n]
    item = order.astype(np.int32)
    item[np.isneginf(np.take_along_axis(scores, order, axis=1))] = -1
    return item


def lists(
    model: FactorModel, seen: UserItems, n: int, **options: object
) -> tuple[np.ndarray, np.ndarray]:
    users = np.arange(len(model.users), dtype=np.int32)
    tiles = list(top_n(model, users, seen, n, **options))  # type: ignore[arg-type]
    return np.concatenate([tile.item for tile in tiles]), np.concatenate(
        [tile.score for tile in tiles]
    )


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_lists_equal_a_full_sort_also_with_many_ties(decimals: int | None) -> None:
    model = random_model(200, 300, 6, decimals=decimals)
    seen, mask = random_seen(200, 300, 0.2)
    found, _ = lists(model, seen, 10)
    np.testing.assert_array_equal(found, full_sort(model, mask, 10))


def test_scores_that_float32_cannot_tell_apart_are_ordered_exactly() -> None:
    model = random_model(5, 400, 4)
    base = np.ones((400, 4), np.float32)
    base[:, 3] += np.arange(400, dtype=np.float32)[::-1] * np.float32(6e-8)
    model = FactorModel(
        0.0,
        model.user_bias,
        np.zeros(400, np.float32),
        np.full((5, 4), 1000, np.float32),
        base,
        model.users,
        model.items,
    )
    seen, mask = random_seen(5, 400, 0.1)
    found, _ = lists(model, seen, 10)
    np.testing.assert_array_equal(found, full_sort(model, mask, 10))


def test_any_tiling_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(64, 5000, 8)
    seen, _ = random_seen(64, 5000, 0.05)
    whole = lists(model, seen, 20, tile_mib=1024)
    monkeypatch.setattr(topn, "_BYTES_PER_SCORE", 60)
    for tile_mib in (1, 2, 7):
        tiled = lists(model, seen, 20, tile_mib=tile_mib)
        np.testing.assert_array_equal(tiled[0], whole[0])
        np.testing.assert_array_equal(tiled[1], whole[1])


def test_hidden_items_are_left_out_for_everybody() -> None:
    model = random_model(20, 50, 3)
    seen, mask = random_seen(20, 50, 0.1)
    hidden = np.array([3, 7, 11], dtype=np.int32)
    found, _ = lists(model, seen, 10, hidden=hidden)
    mask[:, hidden] = True
    np.testing.assert_array_equal(found, full_sort(model, mask, 10))


def test_a_user_who_has_rated_nearly_everything_gets_a_short_list() -> None:
    model = random_model(3, 12, 2)
    mask = np.ones((3, 12), bool)
    mask[1, [2, 5]] = False
    user, item = np.nonzero(mask)
    seen = items_by_user(
        Ratings(user.astype(np.int32), item.astype(np.int32), np.ones(len(user), np.float32)), 3
    )
    found, scores = lists(model, seen, 5)
    assert set(found[1][:2]) == {2, 5}
    assert (found[1][2:] == -1).all()
    assert (found[[0, 2]] == -1).all()
    assert np.isneginf(scores[0]).all()


def test_more_places_than_items_are_padded() -> None:
    seen, _ = random_seen(4, 3, 0.0)
    found, _ = lists(random_model(4, 3, 2), seen, 8)
    assert found.shape == (4, 8)
    assert (found[:, 3:] == -1).all()


def test_users_without_factors_get_the_popular_order_and_the_others_theirs() -> None:
    model = random_model(6, 30, 3)
    model.user_factors[2] = 0
    model = FactorModel(
        0.0,
        np.zeros(6, np.float32),
        np.zeros(30, np.float32),
        model.user_factors,
        model.item_factors,
        model.users,
        model.items,
    )
    popularity = np.random.default_rng(3).integers(0, 5, 30).astype(np.float64)
    seen, _ = random_seen(6, 30, 0.0)
    found, scores = lists(with_popular_fallback(model, popularity), seen, 5)
    plain, _ = lists(model, seen, 5)
    others = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(found[others], plain[others])
    np.testing.assert_array_equal(found[2], np.argsort(-popularity, kind="stable")[:5])
    np.testing.assert_array_equal(scores[2], np.sort(popularity)[::-1][:5])
