"""What a warm start needs of a fit: a constant validation part, and no leap from the start."""

from typing import Any

import numpy as np
import pytest

from mf_core.config import make_config
from mf_core.data.ratings import IdMap, Ratings, id_map
from mf_core.records import Progress
from mf_core.solvers.fit import _hold_out, fit_rating_head

CONFIG = make_config(
    {
        "train.device": "cpu",
        "train.warm_start": True,
        "rating_head.solver": "als",
        "rating_head.validation_fraction": 0.2,
        "rating_head.als.regularization": 0.02,
    }
)
Pairs = set[tuple[str, str]]


def night(n_users: int, n_items: int, share: float) -> tuple[Ratings, IdMap, IdMap]:
    """Ratings of the first users and items; more of them with a larger share.

    Ids of later nights lie between those of earlier ones.
    """
    rng = np.random.default_rng(0)
    drawn, value = rng.random((90, 70)), rng.integers(1, 6, (90, 70)).astype(np.float32)
    user, item = np.nonzero(drawn[:n_users, :n_items] < share)
    users, items = (
        id_map(f"{(37 * number) % 101:03d}" for number in range(n)) for n in (n_users, n_items)
    )
    names = [f"{(37 * number) % 101:03d}" for number in range(90)]
    ratings = Ratings(
        users.rows(names[u] for u in user), items.rows(names[i] for i in item), value[user, item]
    )
    return ratings, users, items


def pairs(ratings: Ratings, users: IdMap, items: IdMap) -> Pairs:
    return set(zip(users.ids[ratings.user], items.ids[ratings.item], strict=True))


def sides(ratings: Ratings, users: IdMap, items: IdMap) -> tuple[Pairs, Pairs]:
    fitted, held_out = _hold_out(ratings, users, items, CONFIG)
    assert held_out is not None
    return pairs(fitted, users, items), pairs(held_out.ratings, users, items)


def test_a_rating_of_the_validation_part_is_in_it_every_night() -> None:
    first, second = sides(*night(60, 50, 0.2)), sides(*night(90, 70, 0.3))
    assert first[0] <= second[0]
    assert first[1] <= second[1]
    assert 0.15 < len(second[1]) / (len(second[0]) + len(second[1])) < 0.25


def test_a_fit_may_be_judged_on_given_ratings_and_watched() -> None:
    ratings, users, items = night(90, 70, 0.3)
    judged = np.arange(len(ratings)) % 4 == 0
    fitted, validation = ratings.take(~judged), ratings.take(judged)
    seen: list[tuple[int, float | None, float]] = []

    def rmse(model: Any) -> float:
        dots = np.einsum(
            "nk,nk->n", model.user_factors[validation.user], model.item_factors[validation.item]
        )
        predicted = (
            model.mean + model.user_bias[validation.user] + model.item_bias[validation.item] + dots
        )
        return float(np.sqrt(np.mean((np.clip(predicted, 1, 5) - validation.value) ** 2)))

    def watch(solver: Any, report: Progress) -> None:
        seen.append((report.iteration, report.validation_rmse, rmse(solver.factors())))

    fit = fit_rating_head(CONFIG, fitted, users, items, validation=validation, watch=watch)
    assert [iteration for iteration, _, _ in seen] == list(range(1, len(seen) + 1))
    for _, reported, measured in seen:
        assert reported == pytest.approx(measured, rel=1e-5)
    assert fit.validation_rmse == seen[fit.iterations - 1][1]
    assert fit.validation_rmse == pytest.approx(rmse(fit.model), rel=1e-5)


def test_a_fit_goes_on_from_an_earlier_nights_factors() -> None:
    earlier, later = night(60, 50, 0.3), night(90, 70, 0.3)
    start = fit_rating_head(CONFIG, *earlier).model
    first: list[float] = []
    for given in (None, start):
        fits = fit_rating_head(
            CONFIG,
            *later,
            start=given,
            iterations=1,
            report=lambda report: first.append(report.train_rmse),
        )
        assert np.isfinite(fits.model.user_factors).all()
    assert first[1] < first[0]
