"""The ranking head's learners together: item-item weights, the blend, users with few ratings."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mf_core.config import Config, make_config
from mf_core.data.ratings import IdMap, Ratings, id_map
from mf_core.data.relevance import targets
from mf_core.models.factors import FactorModel
from mf_core.solvers.fit import fit_ranking_head

N_USERS, N_ITEMS = 80, 60


def ids(n: int) -> IdMap:
    return id_map(f"{number:05d}" for number in range(n))


def configured(**settings: Any) -> Config:
    named = {f"ranking_head.{name}": value for name, value in settings.items()}
    return make_config({"train.device": "cpu", **named})


@pytest.fixture
def train() -> Ratings:
    """Two kinds of users who rate two kinds of items, some more than others."""
    rng = np.random.default_rng(4)
    kind_of_user = rng.integers(0, 2, N_USERS)
    kind_of_item = rng.integers(0, 2, N_ITEMS)
    alike = kind_of_user[:, None] == kind_of_item
    chosen = rng.random((N_USERS, N_ITEMS)) < np.where(alike, 0.5, 0.1) * rng.uniform(
        0.3, 1, N_ITEMS
    )
    user, item = np.nonzero(chosen)
    value = np.clip(np.where(alike, 4.5, 2.5)[chosen] + rng.normal(0, 1, len(user)), 1, 5)
    return Ratings(user.astype(np.int32), item.astype(np.int32), np.round(value).astype(np.float32))


def fit(config: Config, train: Ratings) -> FactorModel:
    return fit_ranking_head(config, train, ids(N_USERS), ids(N_ITEMS)).model


def scores(model: FactorModel) -> NDArray[np.float64]:
    return model.user_factors.astype(np.float64) @ model.item_factors.T.astype(np.float64)


def test_all_factors_together_are_the_closed_form_of_the_autoencoder(train: Ratings) -> None:
    config = configured(
        learner="item_item",
        item_factors=N_ITEMS,
        item_prior=7,
        item_dropout=0.3,
        popular_ratings=None,
        item_lowest_target=0.2,
    )
    x = np.zeros((N_USERS, N_ITEMS))
    x[train.user, train.item] = targets(config.data, train.value, 0.2)
    gram = x.T @ x
    ridge = 0.3 / 0.7 * (np.diag(gram) + 7)
    weights = np.linalg.solve(gram + np.diag(ridge), gram)
    found = scores(fit(config, train))
    np.testing.assert_allclose(found, x @ weights, atol=2e-5)


def test_a_few_factors_hold_most_of_it(train: Ratings) -> None:
    common: dict[str, Any] = {"learner": "item_item", "popular_ratings": None}
    whole = scores(fit(configured(item_factors=N_ITEMS, **common), train))
    errors = []
    for n_factors in (2, 10, 30):
        part = scores(fit(configured(item_factors=n_factors, **common), train))
        errors.append(np.linalg.norm(whole - part) / np.linalg.norm(whole))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1


def test_a_blend_orders_by_both_in_standard_deviations_and_keeps_the_factors_of_als(
    train: Ratings,
) -> None:
    models = {
        learner: fit(configured(learner=learner, item_share=0.4, popular_ratings=None), train)
        for learner in ("als", "item_item", "blend")
    }
    als, items, blend = (scores(model) for model in models.values())
    spreads = [table.std(axis=1, keepdims=True) for table in (als, items)]
    wanted = als + 0.4 / 0.6 * spreads[0] / spreads[1] * items
    np.testing.assert_allclose(blend, wanted, rtol=1e-3, atol=1e-4)

    n_factors = models["als"].item_factors.shape[1]
    for side in ("user_factors", "item_factors"):
        kept = getattr(models["blend"], side)[:, :n_factors]
        assert kept.tobytes() == getattr(models["als"], side).tobytes()


def test_a_user_with_one_rating_gets_popular_items_first_and_one_with_many_does_not(
    train: Ratings,
) -> None:
    counts = np.bincount(train.user, minlength=N_USERS)
    busy = int(counts.argmax())
    # The busiest user's twin has only the first of these ratings.
    kept = (train.user != 0) | (np.cumsum(train.user == 0) == 1)
    rows = train.take(kept)
    first = int(np.flatnonzero(rows.user == 0)[0])
    rows.value[first] = 5
    without = scores(fit(configured(popular_ratings=None), rows))
    shrunk = scores(fit(configured(popular_ratings=1.0), rows))

    popularity = np.bincount(rows.item[rows.value >= 4], minlength=N_ITEMS)
    change = shrunk - without
    # One rating: a standard deviation of the user's scores for one of popularity.
    expected = without[0].std() * (popularity - popularity.mean()) / popularity.std()
    np.testing.assert_allclose(change[0], expected, rtol=0.02, atol=1e-3)
    assert np.abs(change[busy]).max() < 1e-3 * np.abs(without[busy]).max()


def test_popularity_has_no_say_in_which_items_are_similar(train: Ratings) -> None:
    def cosines(model: FactorModel) -> NDArray[np.float64]:
        item = model.item_factors / np.linalg.norm(model.item_factors, axis=1, keepdims=True)
        return np.asarray(item @ item.T)

    with_it = cosines(fit(configured(), train))
    without = cosines(fit(configured(popular_ratings=None), train))
    np.testing.assert_allclose(with_it, without, atol=1e-3)


@pytest.mark.parametrize("learner", ["als", "item_item", "blend"])
def test_all_users_with_a_rating_have_factors_whatever_the_learner(
    train: Ratings, learner: str
) -> None:
    rows = train.take(train.user != 3)
    # What user 4 chose tells of tastes, though nothing of it was liked.
    rows.value[rows.user == 4] = np.minimum(rows.value[rows.user == 4], 3)
    model = fit(configured(learner=learner), rows)
    has_factors = model.user_factors.any(axis=1)
    rated = np.bincount(rows.user, minlength=N_USERS) > 0
    np.testing.assert_array_equal(has_factors, rated)


def test_a_catalogue_smaller_than_the_factors_is_fitted_all_the_same() -> None:
    pairs = [(0, 0, 5), (0, 1, 4), (1, 1, 5), (2, 0, 4), (2, 2, 5)]
    user, item, value = (np.array(column) for column in zip(*pairs, strict=True))
    rows = Ratings(user.astype(np.int32), item.astype(np.int32), value.astype(np.float32))
    model = fit_ranking_head(configured(), rows, ids(3), ids(3)).model
    assert np.isfinite(model.user_factors).all()
    assert np.isfinite(model.item_factors).all()


@pytest.mark.parametrize("kind", ["ratings", "events"])
@pytest.mark.parametrize("learner", ["als", "item_item"])
def test_with_a_half_life_a_list_follows_what_was_wished_of_late(learner: str, kind: str) -> None:
    """User 0 wished for the first kind of items long ago, and for the second kind now."""
    of_first = np.arange(N_ITEMS) % 2 == 0
    user, item = np.nonzero(np.arange(1, N_USERS)[:, None] % 2 == np.arange(N_ITEMS) % 2)
    his = np.arange(20)
    days = np.where(of_first[his], 1, 100)
    everything = Ratings(
        np.concatenate([his * 0, user + 1]).astype(np.int32),
        np.concatenate([his, item]).astype(np.int32),
        np.full(len(his) + len(user), 5, np.float32),
        np.concatenate([days, np.full(len(user), 100)]).astype(np.uint32) * 86_400,
    )

    def gap(days: float | None) -> float:
        """Return how far his unseen items of the second kind stand above the others."""
        config = configured(learner=learner, n_factors=8, item_factors=8, popular_ratings=None)
        config = make_config({"data.half_life_days": days, "data.kind": kind}, config)
        unseen = scores(fit(config, everything))[0, 20:]
        second = ~of_first[20:]
        return float(unseen[second].mean() - unseen[~second].mean())

    assert gap(None) == pytest.approx(0, abs=0.02)
    assert gap(20) > 0.1
