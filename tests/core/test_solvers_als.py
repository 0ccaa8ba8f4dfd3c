"""Alternating least squares: buckets, tiny cases against dense solves, recovery, refusals."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from mf_core.config import AlsConfig, Config, DataConfig, RankingHeadConfig, make_config
from mf_core.data.fading import recency
from mf_core.data.ratings import IdMap, Ratings, id_map
from mf_core.data.relevance import targets
from mf_core.errors import TrainingError
from mf_core.records import Progress
from mf_core.solvers import runtime
from mf_core.solvers.buckets import Layout, Side, plan_batches
from mf_core.solvers.explicit import ExplicitAls
from mf_core.solvers.fit import fit_ranking_head, fit_rating_head
from mf_core.solvers.implicit import ImplicitAls
from mf_core.solvers.preference import Preferences
from mf_core.solvers.solver import HeldOut, Problem, Start


def sparse_ratings(n_users: int, n_items: int, share: float, seed: int = 0) -> Ratings:
    """Ratings 1..5 of a random `share` of all pairs."""
    rng = np.random.default_rng(seed)
    user, item = np.nonzero(rng.random((n_users, n_items)) < share)
    return Ratings(
        user.astype(np.int32),
        item.astype(np.int32),
        rng.integers(1, 6, len(user)).astype(np.float32),
    )


def ids(n: int) -> IdMap:
    return id_map(f"{number:05d}" for number in range(n))


def cpu(**settings: object) -> Config:
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return make_config({"train.device": "cpu", "rating_head.solver": "als", **named})


def problem(
    train: Ratings,
    shape: tuple[int, int],
    settings: Any,
    seed: int,
    start: Start | None = None,
) -> Problem[Any]:
    return Problem(
        ratings=train,
        shape=shape,
        settings=settings,
        data=DataConfig(),
        seed=seed,
        limit=60,
        start=start,
    )


def implicit_als(
    train: Ratings, shape: tuple[int, int], settings: RankingHeadConfig
) -> ImplicitAls:
    given = problem(train, shape, settings, seed=5)
    return ImplicitAls(given, Preferences.of(given, settings.lowest_target))


def ridge_solve(
    design: NDArray[np.float64], target: NDArray[np.float64], ridge: NDArray[np.float64]
) -> NDArray[np.float64]:
    solved = np.linalg.solve(design.T @ design + np.diag(ridge), design.T @ target)
    return solved.astype(np.float64)


@pytest.mark.parametrize("cells", [1, 100, 10_000, 10_000_000])
def test_buckets_hold_every_row_with_ratings_once_and_bound_padding_and_memory(cells: int) -> None:
    counts = np.random.default_rng(1).zipf(1.4, 5_000).clip(0, 3_000) - 1
    plan = plan_batches(counts, width=8, cells=cells)
    assert sorted(plan.rows) == list(np.flatnonzero(counts))
    assert [start for start, _, _ in plan.slices] == [0, *(stop for _, stop, _ in plan.slices[:-1])]
    assert plan.slices[-1][1] == len(plan.rows)
    for start, stop, length in plan.slices:
        inside = counts[plan.rows[start:stop]]
        assert inside.max() == length
        assert inside.min() * 2 > length
        assert stop - start == 1 or (stop - start) * max(length, 8) * 8 <= cells
    assert 0 <= plan.padding_share < 0.5


def test_no_rating_at_all_plans_no_batch() -> None:
    plan = plan_batches(np.zeros(3, np.int64), width=2, cells=100)
    assert plan.slices == ()
    assert plan.padding_share == 0


def test_a_side_s_batches_hold_each_row_s_own_ratings_and_mark_padding() -> None:
    ratings = sparse_ratings(40, 70_000, 0.0005)
    side = Side(
        ratings.item,
        ratings.user,
        ratings.value,
        (70_000, 40),
        width=4,
        layout=Layout(5_000, tf.int64),
    )
    found = set()
    for batch in side.batches:
        other, value = batch.other.numpy(), batch.value.numpy()
        present = other < 40
        assert (other[~present] == 40).all()
        assert (value[~present] == 0).all()
        row = np.broadcast_to(batch.rows.numpy()[:, None], other.shape)
        found |= set(zip(row[present], other[present], value[present], strict=True))
    assert found == set(zip(ratings.item, ratings.user, ratings.value, strict=True))


def test_one_explicit_sweep_equals_ridge_regressions_solved_one_by_one() -> None:
    train, shape, k = sparse_ratings(7, 9, 0.5), (7, 9), 2
    config = AlsConfig(n_factors=k, regularization=0.3, bias_regularization=2.0, conjugate_steps=30)
    first = np.random.default_rng(3).normal(size=(9, k + 1)).astype(np.float32)
    start = Start(np.zeros((7, k + 1), np.float32), first)
    solver = ExplicitAls(problem(train, shape, config, seed=3, start=start))
    item = first.astype(np.float64)
    rmse = solver.iterate(0)
    user = np.zeros((7, k + 1))
    for mine, other, rows, others in (
        (user, item, train.user, train.item),
        (item, user, train.item, train.user),
    ):
        for row in np.unique(rows):
            at = rows == row
            y = other[others[at]]
            ridge = np.array([0.3 * (40 + at.sum())] * k + [2.0])
            mine[row] = ridge_solve(
                np.c_[y[:, :k], np.ones(at.sum())], train.value[at] - y[:, k], ridge
            )
    factors = solver.factors()
    np.testing.assert_allclose(np.c_[factors.user_factors, factors.user_bias], user, atol=2e-5)
    np.testing.assert_allclose(np.c_[factors.item_factors, factors.item_bias], item, atol=2e-5)
    dots = (user[train.user, :k] * item[train.item, :k]).sum(1)
    predicted = user[train.user, k] + item[train.item, k] + dots
    assert rmse == pytest.approx(np.sqrt(np.mean((train.value - predicted) ** 2)), abs=1e-5)


def test_one_implicit_sweep_equals_dense_weighted_regressions_over_all_pairs() -> None:
    train, shape, k, alpha0 = sparse_ratings(8, 6, 0.4), (8, 6), 3, 0.2
    config = RankingHeadConfig(
        n_factors=k,
        unobserved_scale=alpha0 / np.sqrt(len(train) / (8 * 6)),
        regularization=0.1,
        regularization_exponent=0.7,
        lowest_target=0.4,
        conjugate_steps=30,
    )
    solver = implicit_als(train, shape, config)
    item = solver.state()["item"].astype(np.float64)
    rms = solver.iterate()
    observed, wanted = np.zeros(shape), np.zeros(shape)
    observed[train.user, train.item] = 1
    wanted[train.user, train.item] = 0.4 + 0.2 * (train.value - 1)
    user = np.zeros((8, k))
    for mine, other, seen, target in (
        (user, item, observed, wanted),
        (item, user, observed.T, wanted.T),
    ):
        n_other = (seen.sum(0) > 0).sum()
        for row in np.flatnonzero(seen.sum(1)):
            ridge = np.full(k, 0.1 * (seen[row].sum() + alpha0 * n_other) ** 0.7)
            weight = np.sqrt(alpha0 + seen[row])
            mine[row] = ridge_solve(other * weight[:, None], target[row] / weight, ridge)
    found_user, found_item = solver.factors()
    np.testing.assert_allclose(found_user.numpy(), user, atol=2e-5)
    np.testing.assert_allclose(found_item.numpy(), item, atol=2e-5)
    errors = (wanted - user @ item.T)[observed > 0]
    assert rms == pytest.approx(np.sqrt(np.mean(errors**2)), abs=1e-5)


def test_users_are_solved_once_more_with_what_they_rated_last() -> None:
    undated, shape, k = sparse_ratings(30, 20, 0.4), (30, 20), 3
    times = np.random.default_rng(1).integers(1, 9, len(undated)).astype(np.uint32)
    train = dataclasses.replace(undated, rated_at=times)
    plain = RankingHeadConfig(n_factors=k, regularization=0.02, conjugate_steps=10)
    fading = plain.model_copy(update={"recent_half_life": 2.0})
    solvers = [
        implicit_als(train, shape, plain),
        implicit_als(train, shape, fading),
        implicit_als(undated, shape, fading),
    ]
    for solver in solvers:
        for _ in range(3):
            solver.iterate()
    (user, item), (recent_user, recent_item), (undated_user, _) = (
        [table.numpy() for table in solver.factors()] for solver in solvers
    )
    assert recent_item.tobytes() == item.tobytes()
    assert undated_user.tobytes() == user.tobytes()
    # A fit that goes on is not touched by what its lists are made of.
    state, before = solvers[1].state()["user"], solvers[0].state()["user"]
    assert state.tobytes() == before.tobytes()

    observed, wanted = np.zeros(shape), np.zeros(shape)
    left = recency(train, 2.0)
    assert left is not None
    observed[train.user, train.item] = 1
    wanted[train.user, train.item] = left * targets(DataConfig(), train.value, 0.35)
    n_items = (observed.sum(0) > 0).sum()
    alpha0 = plain.unobserved_scale * np.sqrt(observed.sum() / (30 * n_items))
    y = item.astype(np.float64)
    for row in range(30):
        weight = np.sqrt(alpha0 + observed[row])
        ridge = np.full(k, 0.02 * (observed[row].sum() + alpha0 * n_items))
        exact = ridge_solve(y * weight[:, None], wanted[row] / weight, ridge)
        np.testing.assert_allclose(recent_user[row], exact, atol=2e-5)


def test_a_target_lies_on_the_line_from_the_lowest_rating_to_the_first_relevant_one() -> None:
    stars, hearts = np.array([1, 2, 3, 4, 5], np.float32), np.array([1], np.float32)
    np.testing.assert_allclose(
        targets(DataConfig(), stars, 0.4), [0.4, 0.6, 0.8, 1.0, 1.2], rtol=1e-6
    )
    np.testing.assert_array_equal(targets(DataConfig(), stars, 1.0), np.ones(5))
    only_likes = DataConfig(scale_low=1, scale_high=2, relevant_from=1)
    np.testing.assert_array_equal(targets(only_likes, hearts, 0.4), [1])


def test_explicit_als_recovers_a_rank_one_matrix_from_part_of_it() -> None:
    rng = np.random.default_rng(2)
    full = np.outer(rng.uniform(1, 2, 60), rng.uniform(1, 2, 50))
    known = rng.random(full.shape) < 0.4
    user, item = (rows.astype(np.int32) for rows in np.nonzero(known))
    train = Ratings(user, item, full[known].astype(np.float32))
    config = AlsConfig(n_factors=1, regularization=1e-5, bias_regularization=1e-3)
    solver = ExplicitAls(problem(train, full.shape, config, seed=0))
    for sweep in range(60):
        solver.iterate(sweep)
    user, item = (rows.astype(np.int32) for rows in np.nonzero(~known))
    assert (
        HeldOut(Ratings(user, item, full[~known].astype(np.float32)), 1, 5).rmse(solver.factors())
        < 0.02
    )


@pytest.mark.parametrize(
    ("learn_from", "known_users", "known_items"),
    [("all", [0, 1, 2], [0, 1, 2, 3]), ("relevant", [0, 1], [0, 1])],
)
def test_users_and_items_not_learned_from_get_zero_factors(
    learn_from: str, known_users: list[int], known_items: list[int]
) -> None:
    # User 0 liked item 0 and not item 2, user 1 liked items 0 and 1, user 2 did not like item 3,
    # and user 3 rated nothing.
    rows = (([0, 0, 1, 1, 2], "i4"), ([0, 2, 0, 1, 3], "i4"), ([5, 2, 4, 5, 1], "f4"))
    train = Ratings(*(np.array(column, dtype) for column, dtype in rows))
    config = cpu(ranking_head__n_factors=2, ranking_head__learn_from=learn_from)
    model = fit_ranking_head(config, train, ids(4), ids(4)).model
    assert np.flatnonzero(model.user_factors.any(axis=1)).tolist() == known_users
    assert np.flatnonzero(model.item_factors.any(axis=1)).tolist() == known_items
    assert model.mean == 0


def test_the_ranking_head_refuses_ratings_of_which_none_is_relevant() -> None:
    train = Ratings(np.zeros(1, np.int32), np.zeros(1, np.int32), np.ones(1, np.float32))
    with pytest.raises(
        TrainingError, match=r"none of the 1 training ratings reaches data\.relevant_from = 4"
    ):
        fit_ranking_head(cpu(), train, ids(1), ids(1))


def test_two_fits_give_the_same_bits_and_another_seed_gives_others() -> None:
    train, users, items = sparse_ratings(300, 200, 0.1), ids(300), ids(200)
    for fit in (fit_rating_head, fit_ranking_head):
        first, second = (fit(cpu(), train, users, items, iterations=3).model for _ in range(2))
        other = fit(cpu(train__seed=1), train, users, items, iterations=3).model
        assert first.user_factors.tobytes() == second.user_factors.tobytes()
        assert first.item_factors.tobytes() == second.item_factors.tobytes()
        assert first.item_factors.tobytes() != other.item_factors.tobytes()


def test_the_order_of_the_ratings_matters_to_rounding_only() -> None:
    train, users, items = sparse_ratings(50, 40, 0.3), ids(50), ids(40)
    shuffled = train.take(np.random.default_rng(0).permutation(len(train)))
    models = [
        fit_ranking_head(cpu(), ratings, users, items, iterations=2).model
        for ratings in (train, shuffled)
    ]
    # Eigenvectors may turn, and the scores stay.
    scores = [model.user_factors @ model.item_factors.T for model in models]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)


def test_early_stopping_keeps_the_best_sweep_and_a_refit_runs_as_many() -> None:
    train, users, items = sparse_ratings(60, 50, 0.3), ids(60), ids(50)
    config = cpu(
        rating_head__validation_fraction=0.2,
        rating_head__patience=2,
        rating_head__als__regularization=0.01,
    )
    reports: list[Progress] = []
    fitted = fit_rating_head(config, train, users, items, report=reports.append)
    errors = [report.validation_rmse or 0.0 for report in reports]
    assert fitted.validation_rmse == min(errors)
    assert fitted.iterations == int(np.argmin(errors)) + 1
    assert len(errors) == fitted.iterations + 2 < reports[0].iterations
    refit = fit_rating_head(config, train, users, items, iterations=fitted.iterations)
    assert refit.iterations == fitted.iterations
    assert refit.validation_rmse is None


def test_many_ratings_of_a_few_users_are_fitted() -> None:
    # Of three users a sample to begin with may hold nobody.
    n_items = 70_000
    user = np.repeat(np.arange(3, dtype=np.int32), n_items)
    item = np.tile(np.arange(n_items, dtype=np.int32), 3)
    value = np.random.default_rng(0).integers(1, 6, len(user)).astype(np.float32)
    for seed in range(4):
        config = cpu(train__seed=seed, rating_head__als__n_factors=2)
        fitted = fit_rating_head(
            config, Ratings(user, item, value), ids(3), ids(n_items), iterations=2
        )
        assert np.isfinite(fitted.train_rmse)


def test_values_near_the_end_of_float32_are_fitted_as_any_others() -> None:
    train = sparse_ratings(20, 20, 0.3)
    huge = Ratings(train.user, train.item, train.value * np.float32(1e25))
    usual, same = (
        fit_rating_head(cpu(), ratings, ids(20), ids(20), iterations=3).train_rmse
        for ratings in (train, huge)
    )
    assert same == pytest.approx(1e25 * usual, rel=1e-4)


def test_a_wanted_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_prepare", lambda: ())
    with pytest.raises(TrainingError, match=r"sees no GPU.*set train\.device to auto or cpu"):
        runtime.select_device("gpu")
    assert runtime.select_device("auto").label == "CPU"
