"""The two heads: which solver fits them, on which rows, for how many iterations."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mf_core.attributes import AttributeMatrices
from mf_core.config import Config
from mf_core.errors import TrainingError
from mf_core.factors import FactorModel
from mf_core.ratings import IdMap, Ratings, pair_draws
from mf_core.samples import PosteriorSamples
from mf_core.solvers.als import ImplicitAls
from mf_core.solvers.average import compress
from mf_core.solvers.bayes import BayesianFactors
from mf_core.solvers.checkpoint import Checkpoint
from mf_core.solvers.explicit import ExplicitAls
from mf_core.solvers.gradient import SEED_STEPS, BiasedGradient, SeedGradient
from mf_core.solvers.iterate import (
    HeldOut,
    IterationReport,
    Outcome,
    Report,
    Solver,
    Start,
    run_iterations,
)
from mf_core.solvers.memory import refuse_what_does_not_fit
from mf_core.solvers.runtime import select_device

_VALIDATION = 1
# The running mean of the samples has settled where it gains less than this share of its error.
_SETTLED = 1e-4
# Its validation part decides nothing but when to stop, so it takes that much of what the other solvers hold out.
_BAYES_SHARE = 0.2
Log = Callable[[str], None]
Watch = Callable[[Solver, IterationReport], None]


@dataclass(frozen=True)
class FitResult:
    """One fitted head.

    Attributes:
        model: the factors, with their ids.
        iterations: how many iterations made it; a refit runs as many.
        train_rmse: on the rows trained on (ranking head: root mean square of target - score over the ratings it learns from).
        validation_rmse: on the held-out part of the training rows, predictions clipped to the scale; None without one.
        device: what it ran on, in words.
        seconds: time from arrays in memory to the fitted model, that of an interrupted process included.
        samples: kept samples of the posterior (solver `bayes`), None where there are none.
    """

    model: FactorModel
    iterations: int
    train_rmse: float
    validation_rmse: float | None
    device: str
    seconds: float
    samples: PosteriorSamples | None = None


def _no_report(report: IterationReport) -> None:
    """Report nothing."""


def _no_log(line: str) -> None:
    """Log nothing."""


def fit_rating_head(
    config: Config,
    train: Ratings,
    users: IdMap,
    items: IdMap,
    *,
    iterations: int | None = None,
    attributes: AttributeMatrices | None = None,
    start: FactorModel | None = None,
    validation: Ratings | None = None,
    report: Report = _no_report,
    watch: Watch | None = None,
    log: Log = _no_log,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Fit the model that predicts ratings.

    Args:
        config: `rating_head`, `data` (the scale) and `train` (device, seed) are read.
        train: the training ratings; early stopping takes its validation part from them.
        users: ids of all users, in row order.
        items: ids of all items, in row order.
        iterations: run exactly so many on all rows, as a refit does; None: as configured, with early stopping.
        attributes: what else is known of users and items, as the rows of `users` and `items` (solver `bayes`).
        start: an earlier model to go on from; its ids may differ (solvers `bayes` and `als`).
        validation: ratings to stop by instead of a part of `train`, which is then fitted as a whole.
        report: called after every iteration.
        watch: called after every iteration too, with the solver, whose factors may be looked at; what it raises ends the fit.
        log: called with lines for people.
        checkpoint: where to resume from and to save to.

    Raises:
        TrainingError: no rating, no GPU where one is wanted, or numbers that are not finite.
    """
    if not len(train):
        raise TrainingError(
            "there is no training rating. Check split.test_fraction and the ratings' times (split.protocol)."
        )
    shape = (len(users), len(items))
    fitted, held_out = train, None
    if validation is not None:
        held_out = HeldOut(validation, config.data.scale_low, config.data.scale_high)
    elif iterations is None and not _is_seed_preset(config):
        fitted, held_out = _hold_out(train, users, items, config)

    limit = iterations or (
        SEED_STEPS if _is_seed_preset(config) else config.rating_head.iteration_limit()
    )
    rows = (
        _start_rows(start, users, items, config.rating_head.chosen().n_factors) if start else None
    )

    def make() -> Solver:
        return make_rating_solver(
            config, fitted, shape, limit, held_out=held_out, start=rows, attributes=attributes
        )

    check = partial(refuse_what_does_not_fit, config, "rating", len(train), shape)
    outcome, device, samples = _fit(
        config, "rating", check, make, limit, report, watch, log, checkpoint
    )
    return _result(outcome, users, items, device, samples)


def make_rating_solver(
    config: Config,
    train: Ratings,
    shape: tuple[int, int],
    limit: int,
    *,
    held_out: HeldOut | None = None,
    start: Start | None = None,
    attributes: AttributeMatrices | None = None,
) -> Solver:
    """Return the configured solver with `train` on the device, ready for its first of at most `limit` iterations.

    `shape` is (n_users, n_items); `held_out` is what its validation error is measured on.
    """
    head, seed = config.rating_head, config.train.seed
    if head.solver == "bayes":
        return BayesianFactors(
            train, shape, head.bayes, config.data, seed, limit, held_out, start, attributes
        )
    if head.solver == "als":
        return ExplicitAls(train, shape, head.als, config.data, seed, held_out, start)
    if _is_seed_preset(config):
        return SeedGradient(train, shape, seed)
    return BiasedGradient(train, shape, head.gradient, seed, held_out)


def fit_ranking_head(
    config: Config,
    train: Ratings,
    users: IdMap,
    items: IdMap,
    *,
    iterations: int | None = None,
    start: FactorModel | None = None,
    report: Report = _no_report,
    watch: Watch | None = None,
    log: Log = _no_log,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Fit the model that orders the lists, on what `ranking_head.learn_from` says; other arguments as in `fit_rating_head`.

    Users without a rating from `data.relevant_from` on, and items without a rating that is learned from, get zero factors.

    Raises:
        TrainingError: no GPU where one is wanted, no relevant rating, or numbers that are not finite.
    """
    observed = train.take(_learned_from(train, len(users), config))
    if not len(observed):
        raise TrainingError(
            f"none of the {len(train):,} training ratings reaches data.relevant_from = {config.data.relevant_from:g}, so the "
            "ranking head has nothing to learn from. Set data.relevant_from to what a good rating is on this scale."
        )

    shape = (len(users), len(items))
    rows = _start_rows(start, users, items, config.ranking_head.n_factors) if start else None

    def make() -> Solver:
        return ImplicitAls(
            observed, shape, config.ranking_head, config.data, config.train.seed, rows
        )

    limit = iterations or config.ranking_head.iterations
    check = partial(refuse_what_does_not_fit, config, "ranking", len(observed), shape)
    outcome, device, samples = _fit(
        config, "ranking", check, make, limit, report, watch, log, checkpoint
    )
    return _result(outcome, users, items, device, samples)


def _learned_from(train: Ratings, n_users: int, config: Config) -> NDArray[np.bool_]:
    """Return which ratings the ranking head learns from; none of a user who liked nothing: that one gets the popular list."""
    relevant = train.value >= config.data.relevant_from
    if config.ranking_head.learn_from == "relevant":
        return relevant
    has_liked = np.bincount(train.user[relevant], minlength=n_users) > 0
    return has_liked[train.user]


def _is_seed_preset(config: Config) -> bool:
    return config.rating_head.solver == "gradient" and config.rating_head.gradient.preset == "seed"


def _hold_out(
    train: Ratings, users: IdMap, items: IdMap, config: Config
) -> tuple[Ratings, HeldOut | None]:
    """Return the rows to fit and the seeded validation part (None where the share is 0 or picks no or all rows).

    Where fits are started warm a row is in that part for good: a start that was trained on it would look best before its first
    iteration.
    """
    if config.train.warm_start:
        draws = pair_draws(train, users, items, (_VALIDATION << 32) + config.train.seed)
    else:
        draws = np.random.default_rng((config.train.seed, _VALIDATION)).random(len(train))
    head = config.rating_head
    held_out = draws < head.validation_fraction * (_BAYES_SHARE if head.solver == "bayes" else 1.0)
    if not held_out.any() or held_out.all():
        return train, None
    return train.take(~held_out), HeldOut(
        train.take(held_out), config.data.scale_low, config.data.scale_high
    )


def _fit(
    config: Config,
    head: str,
    check: Callable[[], None],
    make: Callable[[], Solver],
    iterations: int,
    report: Report,
    watch: Watch | None,
    log: Log,
    checkpoint: Checkpoint | None,
) -> tuple[Outcome, str, PosteriorSamples | None]:
    device = select_device(config.train.device)
    with tf.device(device.name):
        try:
            check()
            started = time.monotonic()
            solver = make()
            log(f"{head}: {solver.n_ratings:,} ratings on {device.label}; {solver.note}")

            def tell(iteration: IterationReport) -> None:
                report(iteration)
                if watch:
                    watch(solver, iteration)

            averages = isinstance(solver, BayesianFactors)
            settings = config.rating_head.bayes if averages else config.rating_head
            settling = _SETTLED if averages else None
            outcome = run_iterations(
                solver, head, iterations, settings.patience, tell, checkpoint, settling, started
            )
            if not isinstance(solver, BayesianFactors):
                return outcome, device.label, None
            log(f"{head}: {solver.compression_note()}")
            return outcome, device.label, solver.samples()
        except tf.errors.InvalidArgumentError as error:
            # On a CPU, a Cholesky factorization of a matrix with NaN raises this.
            raise TrainingError(
                f"the {head} head's equations could not be solved ({error.message[:200]}). Raise the regularization "
                "(rating_head.*, ranking_head.*) and check the ratings' scale."
            ) from error
        except tf.errors.ResourceExhaustedError as error:
            raise TrainingError(
                f"the {head} head ran out of memory on {device.label} ({error.message[:200]}). Lower n_factors, or train on a "
                "larger device."
            ) from error


def _start_rows(model: FactorModel, users: IdMap, items: IdMap, n_factors: int) -> Start:
    """Return a model's leading `n_factors` factors, and its biases, in the rows of `users` and `items`; zeros for a new id."""
    left, right = (
        tensor.numpy() for tensor in compress(model.user_factors, model.item_factors, n_factors)
    )
    sides = []
    for factors, bias, known, wanted in (
        (left, model.user_bias, model.users, users),
        (right, model.item_bias, model.items, items),
    ):
        rows = known.rows(wanted.ids)
        table = np.zeros((len(wanted), n_factors + 1), np.float32)
        table[:, : factors.shape[1]], table[:, -1] = factors[rows], bias[rows]
        table[rows < 0] = 0.0
        sides.append(table)
    return Start(*sides)


def _result(
    outcome: Outcome, users: IdMap, items: IdMap, device: str, samples: PosteriorSamples | None
) -> FitResult:
    factors = outcome.factors
    model = FactorModel(mean=factors.mean, users=users, items=items, **factors.arrays())
    return FitResult(
        model,
        outcome.iterations,
        outcome.train_rmse,
        outcome.validation_rmse,
        device,
        outcome.seconds,
        samples,
    )
