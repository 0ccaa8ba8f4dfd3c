"""The two heads: which solver fits them, on which rows, for how many iterations."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mf_core.config import Config
from mf_core.errors import TrainingError
from mf_core.factors import FactorModel
from mf_core.ratings import IdMap, Ratings
from mf_core.solvers.als import ExplicitAls, ImplicitAls
from mf_core.solvers.bayes import BayesianFactors
from mf_core.solvers.checkpoint import Checkpoint
from mf_core.solvers.gradient import SEED_STEPS, BiasedGradient, SeedGradient
from mf_core.solvers.iterate import HeldOut, IterationReport, Outcome, Report, Solver, run_iterations
from mf_core.solvers.runtime import select_device

_VALIDATION = 1
# The running mean of the samples has settled where it gains less than this share of its error.
_SETTLED = 1e-4
# Its validation part decides nothing but when to stop, so it takes that much of what the other solvers hold out.
_BAYES_SHARE = 0.2
Log = Callable[[str], None]


@dataclass(frozen=True)
class FitResult:
    """One fitted head.

    Attributes:
        model: the factors, with their ids.
        iterations: how many iterations made it; a refit runs as many.
        train_rmse: on the rows trained on (ranking head: root mean square of target - score over the ratings it learns from).
        validation_rmse: on the held-out part of the training rows, predictions clipped to the scale; None without one.
        device: what it ran on, in words.
        seconds: time spent iterating, those of an interrupted process included.
    """

    model: FactorModel
    iterations: int
    train_rmse: float
    validation_rmse: float | None
    device: str
    seconds: float


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
    report: Report = _no_report,
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
        report: called after every iteration.
        log: called with lines for people.
        checkpoint: where to resume from and to save to.

    Raises:
        TrainingError: no rating, no GPU where one is wanted, or numbers that are not finite.
    """
    if not len(train):
        raise TrainingError("there is no training rating. Check split.test_fraction and the ratings' times (split.protocol).")
    head, shape, seed = config.rating_head, (len(users), len(items)), config.train.seed
    fitted, held_out = train, None
    if iterations is None and not _is_seed_preset(config):
        fitted, held_out = _hold_out(train, config)

    limit = iterations or _limit(config)

    def make() -> Solver:
        if head.solver == "bayes":
            return BayesianFactors(fitted, shape, head.bayes, config.data, seed, limit, held_out)
        if head.solver == "als":
            return ExplicitAls(fitted, shape, head.als, config.data, seed, held_out)
        if _is_seed_preset(config):
            return SeedGradient(fitted, shape, seed)
        return BiasedGradient(fitted, shape, head.gradient, seed, held_out)

    outcome, device = _fit(config, "rating", make, limit, report, log, checkpoint)
    return _result(outcome, users, items, device)


def _limit(config: Config) -> int:
    """Return the rating head's number of iterations at most."""
    if _is_seed_preset(config):
        return SEED_STEPS
    head = config.rating_head
    return {"bayes": head.bayes.sweeps, "als": head.als.iterations, "gradient": head.gradient.epochs}[head.solver]


def fit_ranking_head(
    config: Config,
    train: Ratings,
    users: IdMap,
    items: IdMap,
    *,
    iterations: int | None = None,
    report: Report = _no_report,
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

    def make() -> Solver:
        return ImplicitAls(observed, (len(users), len(items)), config.ranking_head, config.data, config.train.seed)

    limit = iterations or config.ranking_head.iterations
    outcome, device = _fit(config, "ranking", make, limit, report, log, checkpoint)
    return _result(outcome, users, items, device)


def _learned_from(train: Ratings, n_users: int, config: Config) -> NDArray[np.bool_]:
    """Return which ratings the ranking head learns from; none of a user who liked nothing: that one gets the popular list."""
    relevant = train.value >= config.data.relevant_from
    if config.ranking_head.learn_from == "relevant":
        return relevant
    has_liked = np.bincount(train.user[relevant], minlength=n_users) > 0
    return has_liked[train.user]


def _is_seed_preset(config: Config) -> bool:
    return config.rating_head.solver == "gradient" and config.rating_head.gradient.preset == "seed"


def _hold_out(train: Ratings, config: Config) -> tuple[Ratings, HeldOut | None]:
    """Return the rows to fit and the seeded validation part (None where the share is 0 or picks no or all rows)."""
    draws = np.random.default_rng((config.train.seed, _VALIDATION)).random(len(train))
    head = config.rating_head
    held_out = draws < head.validation_fraction * (_BAYES_SHARE if head.solver == "bayes" else 1.0)
    if not held_out.any() or held_out.all():
        return train, None
    return train.take(~held_out), HeldOut(train.take(held_out), config.data.scale_low, config.data.scale_high)


def _fit(
    config: Config,
    head: str,
    make: Callable[[], Solver],
    iterations: int,
    report: Report,
    log: Log,
    checkpoint: Checkpoint | None,
) -> tuple[Outcome, str]:
    device = select_device(config.train.device)
    with tf.device(device.name):
        try:
            solver = make()
            log(f"{head}: {solver.n_ratings:,} ratings on {device.label}; {solver.note}")
            averages = isinstance(solver, BayesianFactors)
            settings = config.rating_head.bayes if averages else config.rating_head
            settling = _SETTLED if averages else None
            outcome = run_iterations(solver, head, iterations, settings.patience, report, checkpoint, settling)
            if isinstance(solver, BayesianFactors):
                log(f"{head}: {solver.compression_note()}")
            return outcome, device.label
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


def _result(outcome: Outcome, users: IdMap, items: IdMap, device: str) -> FitResult:
    factors = outcome.factors
    model = FactorModel(mean=factors.mean, users=users, items=items, **factors.arrays())
    return FitResult(model, outcome.iterations, outcome.train_rmse, outcome.validation_rmse, device, outcome.seconds)
