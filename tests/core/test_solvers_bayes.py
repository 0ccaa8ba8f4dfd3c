"""Gibbs sampling: draws against numpy, features, the mean, determinism, resuming, quality."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from mf_core.config import BayesConfig, Config, DataConfig, make_config
from mf_core.data.ratings import IdMap, Ratings, id_map
from mf_core.data.snapshot import sort_ratings
from mf_core.data.split import split_bucket
from mf_core.solvers.average import RunningMean, compress
from mf_core.solvers.batch_draw import batch_function
from mf_core.solvers.bayes import BayesianFactors
from mf_core.solvers.buckets import Layout, Side
from mf_core.solvers.checkpoint import Checkpoint
from mf_core.solvers.fit import FitResult, fit_rating_head
from mf_core.solvers.pattern import Features, pattern_features
from mf_core.solvers.prior import FactorPrior
from mf_core.solvers.sampling import Noise, draw_from_few, draw_gaussian, draw_wishart
from mf_core.solvers.solver import Problem

USERS, ITEMS = (id_map(f"{number:03d}" for number in range(n)) for n in (60, 50))
SMALL = {"n_factors": 3, "sweeps": 12, "burn_in": 3, "pattern_rank": 8, "output_factors": 20}


class Interrupted(Exception):
    """Stands for whatever ends the process."""


def some_ratings() -> Ratings:
    rng = np.random.default_rng(0)
    user, item = (rows.astype(np.int32) for rows in np.nonzero(rng.random((60, 50)) < 0.3))
    return Ratings(user, item, rng.integers(1, 6, len(user)).astype(np.float32))


def bayes(**settings: Any) -> Config:
    named = {f"rating_head.bayes.{name}": value for name, value in settings.items()}
    return make_config(
        {
            "train.device": "cpu",
            "rating_head.solver": "bayes",
            "rating_head.validation_fraction": 0.4,
            **named,
        }
    )


def sampler(train: Ratings, sweeps: int) -> BayesianFactors:
    settings = BayesConfig(**SMALL)
    return BayesianFactors(Problem(train, (60, 50), settings, DataConfig(), seed=0, limit=sweeps))


def noise(sweep: int) -> Noise:
    return Noise(0, tf.constant(sweep, tf.int64))


def positive_definite(width: int) -> NDArray[np.float32]:
    root = np.random.default_rng(width).normal(size=(width, width))
    return (root @ root.T + np.eye(width)).astype(np.float32)


def side_of(ratings: Ratings, shape: tuple[int, int], *, of_items: bool = False) -> Side:
    layout = Layout(2_000, tf.int32)
    if of_items:
        return Side(ratings.item, ratings.user, ratings.value, shape[::-1], width=4, layout=layout)
    return Side(ratings.user, ratings.item, ratings.value, shape, width=4, layout=layout)


def test_gaussian_draws_have_the_mean_and_covariance_of_their_precision() -> None:
    precision, right, n = positive_definite(3), np.array([1, -2, 3], np.float32), 200_000
    drawn, mean = draw_gaussian(
        tf.tile(precision[None], (n, 1, 1)),
        tf.tile(right[None], (n, 1)),
        noise(0).normal((n, 3), 0),
    )
    draws = drawn.numpy()
    expected = np.linalg.solve(precision, right)
    np.testing.assert_allclose(draws.mean(0), expected, atol=0.01)
    np.testing.assert_allclose(mean[0], expected, atol=1e-4)
    np.testing.assert_allclose(np.cov(draws.T), np.linalg.inv(precision), atol=0.01)


def test_over_relaxed_draws_have_the_same_distribution_and_lie_on_the_other_side_of_the_mean() -> (
    None
):
    precision, right, n = positive_definite(3), np.array([1, -2, 3], np.float32), 20_000
    many = tf.tile(precision[None], (n, 1, 1)), tf.tile(right[None], (n, 1))
    before, rows = tf.zeros((n, 3)), tf.zeros((n, 3))
    for sweep in range(60):
        fresh = draw_gaussian(*many, noise(sweep).normal((n, 3), 0))
        before, rows = rows, fresh.over_relaxed(rows).drawn

    expected, covariance = np.linalg.solve(precision, right), np.linalg.inv(precision)
    earlier, later = before.numpy() - expected, rows.numpy() - expected
    np.testing.assert_allclose(later.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(np.cov(later.T), covariance, atol=0.03)
    np.testing.assert_allclose(later.T @ earlier / n, -0.8 * covariance, atol=0.03)


def test_draws_from_few_ratings_have_the_mean_and_covariance_of_their_regression() -> None:
    design, target, n = (
        np.array([[1, 2, -1], [0.5, 0, 2]], np.float32),
        np.array([1, -3], np.float32),
        200_000,
    )
    precision = design.T @ design + np.eye(3)
    drawn, mean = draw_from_few(
        tf.tile(design[None], (n, 1, 1)), tf.tile(target[None], (n, 1)), noise(0).normal((n, 3), 0)
    )
    draws = drawn.numpy()
    expected = np.linalg.solve(precision, design.T @ target)
    np.testing.assert_allclose(draws.mean(0), expected, atol=0.01)
    np.testing.assert_allclose(mean[0], expected, atol=1e-4)
    np.testing.assert_allclose(np.cov(draws.T), np.linalg.inv(precision), atol=0.01)


def test_wishart_draws_have_the_mean_and_variance_of_their_distribution() -> None:
    scale_inverse, degrees = positive_definite(2), 9.0
    draw = tf.function(
        lambda sweep: draw_wishart(
            tf.constant(degrees), tf.constant(scale_inverse), Noise(0, sweep), 0
        )
    )
    draws = np.stack([draw(tf.constant(sweep, tf.int64)).numpy() for sweep in range(4_000)])
    scale = np.linalg.inv(scale_inverse)
    variance = degrees * (scale**2 + np.outer(np.diag(scale), np.diag(scale)))
    np.testing.assert_allclose(
        draws.mean(0), degrees * scale, atol=5 * np.sqrt(variance.max() / 4_000)
    )
    np.testing.assert_allclose(draws.var(0), variance, rtol=0.15)


@pytest.mark.parametrize("few", [False, True])
def test_one_batch_without_noise_equals_weighted_ridge_regressions_solved_one_by_one(
    few: bool,
) -> None:
    train, rng = some_ratings(), np.random.default_rng(1)
    solver = sampler(train, sweeps=4)
    half = solver._users
    item, old, prior_mean = (rng.normal(size=(n, 4)).astype(np.float32) for n in (50, 60, 60))
    beta, standard = (rng.uniform(1, 2, n).astype(np.float32) for n in (50, 60))
    prior_precision, root = positive_definite(4), np.sqrt(beta)[:, None]
    prior_root = np.linalg.cholesky(prior_precision)
    table = np.r_[
        np.c_[item[:, :3], np.ones(50)] * root @ np.linalg.inv(prior_root).T, np.zeros((1, 4))
    ].astype(np.float32)
    scalars = np.r_[np.c_[item[:, 3], np.ones(50)] * root, np.zeros((1, 2))].astype(np.float32)
    parts = (
        table,
        scalars,
        old @ prior_root,
        prior_mean @ prior_root,
        standard,
        np.full(60, 3),
        np.zeros((60, 4)),
        [1, 5],
    )
    given = [tf.constant(part, tf.float32) for part in parts]
    squared_error = 0.0
    for batch in half._side.batches:
        draw = batch_function(4, tf.int32, few=few, measure=True)
        rows, precisions, errors = draw(batch.rows, batch.other, batch.value, *given)
        squared_error += float(errors.clipped)
        for row, found, precision in zip(
            batch.rows.numpy(), rows.numpy(), precisions.numpy(), strict=True
        ):
            at = train.user == row
            design, others = np.c_[item[train.item[at], :3], np.ones(at.sum())], train.item[at]
            target = train.value[at] - item[others, 3]
            expected = standard[row] / (
                3 + 0.5 * np.sum(beta[others] * (target - design @ old[row]) ** 2)
            )
            assert precision[0] == pytest.approx(expected, rel=1e-4)
            weighted = design * (beta[others] * expected)[:, None]
            solution = np.linalg.solve(
                design.T @ weighted + prior_precision,
                weighted.T @ target + prior_precision @ prior_mean[row],
            )
            # Without noise, what is drawn is as far on the other side as the old row was, nearly.
            other_side = solution - 0.8 * (old[row] - solution)
            for drawn, wanted in ((found[:4], other_side), (found[4:], solution)):
                np.testing.assert_allclose(drawn @ np.linalg.inv(prior_root), wanted, atol=1e-4)
            predicted = np.clip(train.value[at] - target + design @ other_side, 1, 5)
            squared_error -= float(np.sum((train.value[at] - predicted) ** 2))
    assert squared_error == pytest.approx(0, abs=0.05)


def test_no_function_is_traced_again_from_sweep_to_sweep() -> None:
    solver = sampler(some_ratings(), sweeps=12)
    for sweep in range(12):
        solver.iterate(sweep)
    half = solver._users._draw_prior, solver._items._draw_prior, solver._probe._predict
    batches: list[Any] = [
        batch_function(4, tf.int32, few=few, measure=measure)
        for few in (False, True)
        for measure in (False, True)
    ]
    assert [function.experimental_get_tracing_count() for function in half] == [1, 1, 1]
    assert all(function.experimental_get_tracing_count() <= 1 for function in batches)


def test_prior_draws_average_to_the_precision_mean_and_weights_that_made_the_rows() -> None:
    rng, n = np.random.default_rng(2), 5_000
    basis, _ = np.linalg.qr(rng.normal(size=(n, 4)))
    scale, weights, mean = (
        np.array([60, 50, 40, 30]),
        rng.normal(size=(4, 2)),
        np.array([1.0, -2.0]),
    )
    covariance = np.linalg.inv(positive_definite(2))
    rows = (
        mean + basis @ (scale[:, None] * weights) + rng.multivariate_normal([0, 0], covariance, n)
    )
    features = Features(tf.constant(basis, tf.float32), tf.constant(scale, tf.float32))
    prior = FactorPrior(features, tf.ones((n, 1)))
    draw = tf.function(lambda sweep, *given: prior.draw(Noise(0, sweep), *given))
    current, found = tf.zeros((4, 2)), []
    for sweep in range(120):
        precision, means, current = draw(
            tf.constant(sweep, tf.int64), tf.constant(rows, tf.float32), current
        )
        found.append((precision.numpy(), means.numpy().mean(0), current.numpy()))
    precisions, means, drawn = (np.mean(part, axis=0) for part in zip(*found[20:], strict=True))
    np.testing.assert_allclose(precisions, np.linalg.inv(covariance), rtol=0.1, atol=0.1)
    np.testing.assert_allclose(means, rows.mean(0), atol=0.02)
    np.testing.assert_allclose(drawn, weights, atol=0.1)


def test_pattern_features_are_the_normalised_pattern_where_the_rank_suffices_and_its_leading_part_elsewhere() -> (  # noqa: E501
    None
):
    ratings, shape = some_ratings(), (60, 50)
    pattern = np.zeros(shape)
    pattern[ratings.user, ratings.item] = 1
    expected = pattern / pattern.sum(1, keepdims=True) ** 0.4 / pattern.sum(0) ** 0.25
    users, items = side_of(ratings, shape), side_of(ratings, shape, of_items=True)
    features = pattern_features(users, items, 50, (0, 0))
    found = features.basis.numpy() * features.scale.numpy()
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)
    short = pattern_features(users, items, 5, (0, 0))
    assert short.basis.shape == (60, 5)
    np.testing.assert_allclose(short.scale.numpy(), np.linalg.svd(expected)[1][:5], rtol=0.01)


def test_compression_is_exact_where_the_rank_suffices_and_the_best_approximation_elsewhere() -> (
    None
):
    rng = np.random.default_rng(3)
    left, right = (np.tile(rng.normal(size=(n, 6)), (1, 4)).astype(np.float32) for n in (40, 30))
    product = left.astype(np.float64) @ right.T
    for rank in (6, 10, 3):
        new_left, new_right = (
            side.numpy().astype(np.float64) for side in compress(left, right, tf.constant(rank))
        )
        assert new_left.shape == (40, rank)
        lost = np.linalg.norm(product - new_left @ new_right.T)
        assert lost == pytest.approx(
            np.sqrt((np.linalg.svd(product)[1][rank:] ** 2).sum()), abs=1e-3
        )


def test_the_running_mean_is_the_mean_of_all_samples_merged_or_waiting_and_survives_a_restore() -> (
    None
):
    rng = np.random.default_rng(4)
    samples = [
        [tf.constant(rng.normal(size=(n, 5)), tf.float32) for n in (40, 30)] for _ in range(150)
    ]
    mean, resumed = RunningMean(40, 30, 4, 64), RunningMean(40, 30, 4, 64)
    expected = np.zeros((40, 30))
    for number, (user, item) in enumerate(samples):
        mean.add(user, item)
        expected += user[:, :4].numpy().astype(np.float64) @ item[:, :4].numpy().T / len(samples)
        expected += (user[:, 4:].numpy() + item[:, 4:].numpy().T) / len(samples)
        if number == 99:
            resumed.restore(mean.state())
        if number > 99:
            resumed.add(user, item)
    user_bias, item_bias, left, right = (tensor.numpy() for tensor in mean.mean(64))
    np.testing.assert_allclose(user_bias[:, None] + item_bias + left @ right.T, expected, atol=1e-4)
    assert all(
        mean.state()[name].tobytes() == array.tobytes() for name, array in resumed.state().items()
    )


def same_bits(first: FitResult, second: FitResult) -> bool:
    names = ("user_bias", "item_bias", "user_factors", "item_factors")
    return all(
        getattr(first.model, name).tobytes() == getattr(second.model, name).tobytes()
        for name in names
    )


def fit(config: Config, **arguments: Any) -> FitResult:
    return fit_rating_head(config, some_ratings(), USERS, ITEMS, **arguments)


@pytest.mark.parametrize("settings", [{}, {"pattern_rank": 0}, {"n_factors": 1}])
def test_two_fits_give_the_same_bits_and_another_seed_gives_others(
    settings: dict[str, Any],
) -> None:
    config = bayes(**{**SMALL, **settings})
    first, second = fit(config), fit(config)
    assert same_bits(first, second)
    assert not same_bits(first, fit(make_config({"train.seed": 1}, config)))


@pytest.mark.parametrize("validation", [0.4, 0])
def test_an_interrupted_fit_goes_on_to_the_same_bits(validation: float, tmp_path: Path) -> None:
    # 64 factors a sample: the waiting samples are merged every fourth sweep.
    config = make_config(
        {"rating_head.validation_fraction": validation}, bayes(**{**SMALL, "n_factors": 64})
    )
    whole = fit(config)

    def stop_after(last: int) -> None:
        def report(done: Any) -> None:
            if done.iteration == last:
                raise Interrupted

        checkpoint = Checkpoint(str(tmp_path), "rating", "fingerprint", 0, lambda line: None)
        fit(config, report=report, checkpoint=checkpoint)

    for last in (2, 9):
        with pytest.raises(Interrupted):
            stop_after(last)
    for _ in range(2):
        resumed = fit(
            config,
            checkpoint=Checkpoint(str(tmp_path), "rating", "fingerprint", 0, lambda line: None),
        )
        assert same_bits(resumed, whole)
        assert (resumed.iterations, resumed.train_rmse, resumed.validation_rmse) == (
            whole.iterations, whole.train_rmse, whole.validation_rmse,
        )  # fmt: skip


def test_a_fit_stops_once_its_mean_has_settled_and_a_refit_runs_as_many_sweeps() -> None:
    reports: list[Any] = []
    lines: list[str] = []
    fitted = fit(
        bayes(**{**SMALL, "sweeps": 500, "patience": 10}), report=reports.append, log=lines.append
    )
    assert fitted.iterations == len(reports) < 500
    assert [report.validation_rmse for report in reports[:3]] == [None] * 3
    assert fitted.validation_rmse == reports[-1].validation_rmse
    assert "samples in 20 factors: validation RMSE" in lines[-1]
    refit = fit(bayes(**SMALL), iterations=7, log=lines.append)
    assert (refit.iterations, refit.validation_rmse) == (7, None)
    assert "the mean of 4 samples in 20 factors: training RMSE" in lines[-1]


def test_rows_without_ratings_all_have_their_prior_s_mean() -> None:
    users, items = (id_map(f"{number:03d}" for number in range(n)) for n in (63, 52))
    model = fit_rating_head(bayes(**SMALL), some_ratings(), users, items).model
    everybody = np.arange(63, dtype=np.int32)
    scores = np.stack(
        [model.predict(everybody, np.full(63, item, np.int32)) for item in range(52)], axis=1
    )
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores[60:], scores[60:61].repeat(3, axis=0), atol=1e-4)
    np.testing.assert_allclose(scores[:, 50], scores[:, 51], atol=1e-4)
    assert not np.allclose(model.item_bias[50], 0, atol=1e-6)


def test_the_head_reaches_its_band_on_movielens(ml100k: Path) -> None:
    user_ids, item_ids, values, _ = np.loadtxt(ml100k / "u.data", dtype=str, unpack=True)
    users, items = id_map(user_ids), id_map(item_ids)
    ratings = Ratings(users.rows(user_ids), items.rows(item_ids), values.astype(np.float32))
    test = np.array(
        [split_bucket(*pair, 0) < 3_000 for pair in zip(user_ids, item_ids, strict=True)]
    )
    held_out = ratings.take(test)
    errors = {
        rank: rmse(
            sort_ratings(ratings.take(~test)),
            held_out,
            users,
            items,
            bayes(sweeps=60, burn_in=20, pattern_rank=rank),
        )
        for rank in (128, 0)
    }
    assert errors[128] < 0.905
    assert errors[0] > errors[128] + 0.005


def rmse(train: Ratings, test: Ratings, users: IdMap, items: IdMap, config: Config) -> float:
    predicted = (
        fit_rating_head(config, train, users, items, iterations=60)
        .model.predict(test.user, test.item)
        .clip(1, 5)
    )
    return float(np.sqrt(np.mean((test.value - predicted) ** 2)))
