"""Top-N lists are exact, whatever the tiling."""

from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from mf_core.data.ratings import IdMap, Ratings, id_map
from mf_core.models import candidates, topn
from mf_core.models.blas_threads import blas_threads
from mf_core.models.factors import FactorModel
from mf_core.models.lists import with_popular_fallback, with_predicted_ratings
from mf_core.models.topn import top_n
from mf_core.models.user_items import UserItems, items_by_user


def ids(prefix: str, n: int) -> IdMap:
    """Return the ids prefix + 00000, 00001, ..."""
    return id_map(f"{prefix}{k:05d}" for k in range(n))


def random_model(
    n_users: int, n_items: int, n_factors: int, seed: int = 0, decimals: int | None = None
) -> FactorModel:
    """Return a model drawn at random; few `decimals` make ties."""
    generator = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        array = generator.normal(size=shape)
        if decimals is not None:
            array = np.round(array, decimals)
        return array.astype(np.float32)

    return FactorModel(
        mean=3.5,
        user_bias=normal(n_users),
        item_bias=normal(n_items),
        user_factors=normal(n_users, n_factors),
        item_factors=normal(n_items, n_factors),
        users=ids("u", n_users),
        items=ids("i", n_items),
    )


def seen_where(mask: np.ndarray) -> UserItems:
    """Return the items that each user has rated: those where `mask`, users x items, is true."""
    user, item = np.nonzero(mask)
    ratings = Ratings(
        user.astype(np.int32),
        item.astype(np.int32),
        np.ones(len(user), np.float32),
    )

    return items_by_user(ratings, len(mask))


def random_seen(
    n_users: int, n_items: int, share: float, seed: int = 1
) -> tuple[UserItems, np.ndarray]:
    """Return what each user has rated, also as a mask of users x items."""
    generator = np.random.default_rng(seed)
    mask = generator.random((n_users, n_items)) < share

    return seen_where(mask), mask


def full_sort(model: FactorModel, left_out: np.ndarray, n: int) -> np.ndarray:
    """Every score in float64, sorted in full."""
    user_factors = model.user_factors.astype(np.float64)
    user_bias = model.user_bias.astype(np.float64)
    products = user_factors[:, None, :] * model.item_factors[None]

    # score = mean + user bias + item bias + p . q
    scores = model.mean + user_bias[:, None] + model.item_bias + products.sum(axis=-1)
    scores[left_out] = -np.inf

    # Among equal scores the item with the lower number comes first.
    numbers = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    order = np.lexsort((numbers, -scores), axis=1)[:, :n]

    item = order.astype(np.int32)
    missing = np.isneginf(np.take_along_axis(scores, order, axis=1))
    item[missing] = -1

    return item


def lists(
    model: FactorModel,
    seen: UserItems,
    n: int,
    hidden: np.ndarray | None = None,
    *,
    tile_mib: int = 64,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lists of all users, and their scores."""
    users = np.arange(len(model.users), dtype=np.int32)
    tiles = list(top_n(model, users, seen, n, hidden=hidden, tile_mib=tile_mib, threads=threads))

    items = np.concatenate([tile.item for tile in tiles])
    scores = np.concatenate([tile.score for tile in tiles])

    return items, scores


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_lists_equal_a_full_sort_also_with_many_ties(decimals: int | None) -> None:
    model = random_model(200, 300, 6, decimals=decimals)
    seen, mask = random_seen(200, 300, 0.2)
    found, _ = lists(model, seen, 10)

    expected = full_sort(model, mask, 10)
    np.testing.assert_array_equal(found, expected)


def test_scores_that_float32_cannot_tell_apart_are_ordered_exactly() -> None:
    # Steps of half a unit in the last place, times a factor of 1000.
    steps = np.arange(400, dtype=np.float32)[::-1] * np.float32(6e-8)
    item_factors = np.ones((400, 4), np.float32)
    item_factors[:, 3] += steps

    model = replace(
        random_model(5, 400, 4),
        mean=0.0,
        item_bias=np.zeros(400, np.float32),
        user_factors=np.full((5, 4), 1000, np.float32),
        item_factors=item_factors,
    )
    seen, mask = random_seen(5, 400, 0.1)
    found, _ = lists(model, seen, 10)

    expected = full_sort(model, mask, 10)
    np.testing.assert_array_equal(found, expected)


def test_large_counts_of_the_popular_list_make_nobody_elses_score_doubtful(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = random_model(300, 2_000, 16)
    model.user_factors[::7] = 0
    counts = np.random.default_rng(5).permutation(2_000) * np.float64(1e8)
    model = with_popular_fallback(replace(model, mean=0.0), counts)
    seen, mask = random_seen(300, 2_000, 0.05)

    rescored: list[int] = []
    reaching = candidates.RoughScores.reaching

    def counted(
        rough: candidates.RoughScores, user: int, score: float, buffer: np.ndarray
    ) -> np.ndarray:
        rescored.append(user)
        return reaching(rough, user, score, buffer)

    monkeypatch.setattr(candidates.RoughScores, "reaching", counted)
    found, _ = lists(model, seen, 10)

    assert rescored == []
    np.testing.assert_array_equal(found, full_sort(model, mask, 10))


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score a few items and users at a time, as if the catalogue were large."""
    monkeypatch.setattr(candidates, "_MOST_ROWS", 7)
    monkeypatch.setattr(candidates, "_MOST_COLUMNS", 101)
    monkeypatch.setattr(candidates, "_LEAST_COLUMNS", 1)
    monkeypatch.setattr(topn, "_TILES_AT_A_TIME", 2)


@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.usefixtures("small_tiles")
def test_lists_from_many_tiles_equal_a_full_sort(decimals: int | None) -> None:
    model = random_model(60, 1_000, 6, decimals=decimals)
    seen, mask = random_seen(60, 1_000, 0.2)
    mask[:, 100:350] = True
    hidden = np.arange(100, 350, dtype=np.int32)
    for n in (1, 10, 120, 1_100):
        found, _ = lists(model, seen, n, hidden)
        expected = full_sort(model, mask, n)
        np.testing.assert_array_equal(found[:, : expected.shape[1]], expected)
        assert (found[:, expected.shape[1] :] == -1).all()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_tiling_and_any_number_of_threads_give_the_same_bits(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(64, 5000, 8)
    seen, _ = random_seen(64, 5000, 0.05)
    whole_items, whole_scores = lists(model, seen, 20, tile_mib=1024, threads=1)

    monkeypatch.setattr(candidates, "_BYTES_PER_SCORE", 60)
    monkeypatch.setattr(candidates, "_LEAST_COLUMNS", 64)

    for tile_mib in (1, 2, 7):
        items, scores = lists(model, seen, 20, tile_mib=tile_mib, threads=threads)
        np.testing.assert_array_equal(items, whole_items)
        np.testing.assert_array_equal(scores, whole_scores)


def test_an_item_that_everybody_has_rated_and_one_user_who_has_rated_everything() -> None:
    model = random_model(300, 400, 5)
    _, mask = random_seen(300, 400, 0.1)
    mask[:, 17] = True
    mask[3] = True
    found, scores = lists(model, seen_where(mask), 30)

    np.testing.assert_array_equal(found, full_sort(model, mask, 30))
    assert not (found == 17).any()
    assert (found[3] == -1).all()
    assert np.isneginf(scores[3]).all()


def test_where_all_scores_are_equal_the_first_items_are_listed() -> None:
    model = random_model(40, 3_000, 4)
    model = replace(model, item_factors=np.ones((3_000, 4), np.float32))
    model.item_bias[:] = 0
    seen, mask = random_seen(40, 3_000, 0.3)
    found, _ = lists(model, seen, 12)

    first_unseen = np.argsort(mask, axis=1, kind="stable")[:, :12]
    np.testing.assert_array_equal(found, first_unseen)


def test_the_lists_of_few_users_out_of_two_million_items() -> None:
    generator = np.random.default_rng(0)
    model = replace(
        random_model(3, 1, 2),
        item_bias=generator.normal(size=2_000_000).astype(np.float32),
        item_factors=generator.normal(size=(2_000_000, 2)).astype(np.float32),
    )
    seen = seen_where(np.arange(2_000_000) % 3 == np.array([[0], [1], [2]]))
    found, scores = lists(model, seen, 15)

    for user in range(3):
        exact = model.item_factors.astype(np.float64) @ model.user_factors[user]
        exact += model.item_bias
        exact[user::3] = -np.inf
        expected = np.lexsort((np.arange(len(exact)), -exact))[:15]
        np.testing.assert_array_equal(found[user], expected)
        offset = model.mean + float(model.user_bias[user])
        np.testing.assert_allclose(scores[user], exact[expected] + offset, rtol=1e-12)


def test_no_users_no_items_or_only_hidden_ones() -> None:
    model = random_model(4, 3, 2)
    seen, _ = random_seen(4, 3, 0.0)
    nobody = np.empty(0, np.int32)
    assert list(top_n(model, nobody, seen, 5)) == []

    found, scores = lists(model, seen, 5, hidden=np.arange(3, dtype=np.int32))
    assert (found == -1).all()
    assert np.isneginf(scores).all()

    without_items = random_model(4, 0, 2)
    found, _ = lists(without_items, seen, 5)
    assert found.shape == (4, 5)
    assert (found == -1).all()


def test_products_take_as_many_threads_after_the_lists_as_before() -> None:
    model = random_model(30, 100, 3)
    seen, _ = random_seen(30, 100, 0.1)
    users = np.arange(30, dtype=np.int32)

    # One that is left unfinished, and one that runs beside it.
    unfinished = top_n(model, users, seen, 5)
    next(unfinished)
    lists(model, seen, 5)

    info = ThreadpoolController().select(user_api="blas").info()
    assert all(library["num_threads"] == blas_threads() for library in info)


def test_hidden_items_are_left_out_for_everybody() -> None:
    model = random_model(20, 50, 3)
    seen, mask = random_seen(20, 50, 0.1)
    hidden = np.array([3, 7, 11], dtype=np.int32)
    found, _ = lists(model, seen, 10, hidden=hidden)

    mask[:, hidden] = True
    expected = full_sort(model, mask, 10)
    np.testing.assert_array_equal(found, expected)


def test_a_user_who_has_rated_nearly_everything_gets_a_short_list() -> None:
    model = random_model(3, 12, 2)
    mask = np.ones((3, 12), bool)
    mask[1, [2, 5]] = False
    found, scores = lists(model, seen_where(mask), 5)

    assert set(found[1][:2]) == {2, 5}
    assert (found[1][2:] == -1).all()
    assert (found[[0, 2]] == -1).all()
    assert np.isneginf(scores[0]).all()


def test_more_places_than_items_are_padded() -> None:
    model = random_model(4, 3, 2)
    seen, _ = random_seen(4, 3, 0.0)
    found, _ = lists(model, seen, 8)

    assert found.shape == (4, 8)
    assert (found[:, 3:] == -1).all()


def ranking_model() -> FactorModel:
    """Return a ranking head of 6 users, of whom the third has no factors, and 30 items."""
    model = replace(
        random_model(6, 30, 3),
        mean=0.0,
        user_bias=np.zeros(6, np.float32),
        item_bias=np.zeros(30, np.float32),
    )
    model.user_factors[2] = 0
    return model


def test_users_without_factors_get_the_popular_order_and_the_others_theirs() -> None:
    model = ranking_model()
    generator = np.random.default_rng(3)
    popularity = generator.integers(0, 5, 30).astype(np.float64)

    seen, _ = random_seen(6, 30, 0.0)
    with_fallback = with_popular_fallback(model, popularity)
    found, scores = lists(with_fallback, seen, 5)
    plain, _ = lists(model, seen, 5)

    others = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(found[others], plain[others])

    popular_items = np.argsort(-popularity, kind="stable")
    popular_scores = np.sort(popularity)[::-1]
    np.testing.assert_array_equal(found[2], popular_items[:5])
    np.testing.assert_array_equal(scores[2], popular_scores[:5])


def test_predicted_ratings_count_in_standard_deviations_of_each_user() -> None:
    ranking = ranking_model()
    rating = random_model(6, 30, 4)
    listed = np.arange(30) % 5 > 0
    joined = with_predicted_ratings(ranking, rating, 0.5, listed)

    chosen = ranking.user_factors @ ranking.item_factors.T
    predicted = rating.user_factors @ rating.item_factors.T + rating.item_bias
    scores = joined.user_factors @ joined.item_factors.T
    ratio = chosen[:, listed].std(axis=1) / predicted[:, listed].std(axis=1)
    np.testing.assert_allclose(scores, chosen + 0.5 * ratio[:, None] * predicted, atol=1e-4)
    # A user of whom the ranking head knows nothing is left to the popular list.
    assert not joined.user_factors[2].any()


def test_ratings_that_say_nothing_or_have_no_weight_leave_the_scores_as_they_are() -> None:
    ranking = random_model(6, 30, 3)
    rating = random_model(6, 30, 4)
    empty = replace(
        rating,
        user_factors=np.zeros_like(rating.user_factors),
        item_bias=np.zeros_like(rating.item_bias),
    )
    everything = np.ones(30, bool)
    for other, weight in ((rating, 0.0), (empty, 0.5)):
        joined = with_predicted_ratings(ranking, other, weight, everything)
        np.testing.assert_array_equal(
            joined.user_factors @ joined.item_factors.T,
            ranking.user_factors @ ranking.item_factors.T,
        )
