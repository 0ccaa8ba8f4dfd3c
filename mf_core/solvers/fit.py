"""The way in: fit a head with the solver that the settings name.

What every fit has in common happens here: the rows that are held out, the rows to start from, the
device, the refusal of what would not fit in memory, and errors in words.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mf_core.config import Config, FactorsConfig, Head
from mf_core.data.attributes import AttributeMatrices
from mf_core.data.ratings import Float32s, IdMap, Ratings, pair_draws
from mf_core.errors import TrainingError
from mf_core.models.factors import FactorModel
from mf_core.models.samples import PosteriorSamples
from mf_core.records import Progress
from mf_core.solvers.average import compress
from mf_core.solvers.bayes import BayesianFactors
from mf_core.solvers.biases import Biases
from mf_core.solvers.checkpoint import Checkpoint
from mf_core.solvers.explicit import ExplicitAls
from mf_core.solvers.gradient import BiasedGradient
from mf_core.solvers.iterate import Outcome, Report, Stopping, run_iterations
from mf_core.solvers.memory import refuse_what_does_not_fit
from mf_core.solvers.preference import observations
from mf_core.solvers.ranking import RankingLists
from mf_core.solvers.runtime import Device, peak_bytes, select_device
from mf_core.solvers.solver import HeldOut, Problem, Solver, Start
from mf_core.solvers.units import InRatingUnits
from mf_core.solvers.workers import Workers

SOLVERS: dict[str, type[Solver]] = {
    "bayes": BayesianFactors,
    "als": ExplicitAls,
    "gradient": BiasedGradient,
    "biases": Biases,
    "lists": RankingLists,
}
"""The solvers by name: those of `rating_head.solver`, and `lists` for the ranking head."""

_VALIDATION = 1
Log = Callable[[str], None]
Watch = Callable[[Solver, Progress], None]


@dataclass(frozen=True)
class FitResult:
    """One fitted head.

    Attributes:
        model: the factors, with their ids.
        iterations: how many iterations made it; a refit runs as many.
        train_rmse: on the rows trained on (ranking head: root mean square of target - score over
            the ratings it learns from).
        validation_rmse: on the held-out part of the training rows, predictions clipped to the
            scale; None without one.
        device: what it ran on, in words.
        seconds: time from arrays in memory to the fitted model, that of an interrupted process
            included.
        peak_bytes: most memory that this process has held by then, on the device if that is a GPU.
        samples: kept samples of the posterior (solver `bayes`), None where there are none.
    """

    model: FactorModel
    iterations: int
    train_rmse: float
    validation_rmse: float | None
    device: str
    seconds: float
    peak_bytes: int
    samples: PosteriorSamples | None = None


def _no_report(report: Progress) -> None:
    """Report nothing."""


def _no_log(line: str) -> None:
    """Log nothing."""


@dataclass(frozen=True)
class _Listeners:
    """Whoever follows a fit; the functions are described in `fit_rating_head`."""

    report: Report
    watch: Watch | None
    log: Log
    checkpoint: Checkpoint | None


@dataclass(frozen=True)
class _Job:
    """One head to fit.

    `problem` has no start yet: the rows of `start` are computed on the device. `n_ratings` counts
    the ratings held out as well.
    """

    config: Config
    head: Head
    users: IdMap
    items: IdMap
    problem: Problem
    n_ratings: int
    start: FactorModel | None

    @property
    def solver(self) -> type[Solver]:
        """Return the class of the solver that the settings name."""
        return SOLVERS[self.config.solver_name(self.head)]


# All but the rows are named options, most of them for one kind of caller.
def fit_rating_head(  # noqa: PLR0913
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
    workers: Workers | None = None,
) -> FitResult:
    """Fit the model that predicts ratings.

    Args:
        config: `rating_head`, `data` (the scale) and `train` (device, seed) are read.
        train: the training ratings; early stopping takes its validation part from them.
        users: ids of all users, in row order.
        items: ids of all items, in row order.
        iterations: run exactly so many on all rows, as a refit does; None: as configured, with
            early stopping.
        attributes: what else is known of users and items, as the rows of `users` and `items`.
        start: an earlier model to go on from; its ids may differ. Solvers that take none pass it
            over.
        validation: ratings to stop by instead of a part of `train`, which is then fitted whole.
        report: called after every iteration.
        watch: called after every iteration too, with the solver, whose factors may be looked at;
            what it raises ends the fit.
        log: called with lines for people.
        checkpoint: where to resume from and to save to.
        workers: the processes that fit it together; each of them calls this with the same
            arguments, and all get the same result. None: this process alone.

    Raises:
        TrainingError: no rating, no GPU where one is wanted, or numbers that are not finite.
        WorkerLostError: another worker is gone.
    """
    _require_ratings(train)
    fitted = train
    held_out = None
    if validation is not None:
        held_out = HeldOut(validation, config.data.scale_low, config.data.scale_high)
    elif iterations is None:
        fitted, held_out = _hold_out(train, users, items, config)

    limit = iterations or config.rating_head.chosen().iteration_limit()
    shape = (len(users), len(items))
    plain = Problem.of(config, "rating", fitted, shape=shape, limit=limit)
    problem = dataclasses.replace(plain, held_out=held_out, attributes=attributes, workers=workers)
    job = _Job(
        config, "rating", users, items=items, problem=problem, n_ratings=len(train), start=start
    )
    return _fit(job, _Listeners(report, watch, log, checkpoint))


def _require_ratings(train: Ratings) -> None:
    """Raise TrainingError if there is none."""
    if not len(train):
        raise TrainingError(
            "there is no training rating. Check split.test_fraction and the ratings' times "
            "(split.protocol)."
        )


def fit_ranking_head(  # noqa: PLR0913
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
    workers: Workers | None = None,
) -> FitResult:
    """Fit the model that orders the lists, on what `ranking_head.learn_from` says.

    The other arguments are as in `fit_rating_head`. Users and items without a rating that is
    learned from get zero factors.

    Raises:
        TrainingError: no GPU where one is wanted, no relevant rating, or numbers that are not
            finite.
        WorkerLostError: another worker is gone.
    """
    observed = observations(config, train)
    limit = iterations or config.ranking_head.iteration_limit()
    shape = (len(users), len(items))
    plain = Problem.of(config, "ranking", observed, shape=shape, limit=limit)
    problem = dataclasses.replace(plain, workers=workers)
    job = _Job(
        config, "ranking", users, items=items, problem=problem, n_ratings=len(observed), start=start
    )
    return _fit(job, _Listeners(report, watch, log, checkpoint))


def _hold_out(
    train: Ratings, users: IdMap, items: IdMap, config: Config
) -> tuple[Ratings, HeldOut | None]:
    """Return the rows to fit and the seeded validation part.

    That part is None where the share is 0 or picks no or all rows.
    """
    # Where fits are started warm, a row is in that part for good: a start that was trained on it
    # would look best before its first iteration.
    if config.train.warm_start:
        draws = pair_draws(train, users, items, (_VALIDATION << 32) + config.train.seed)
    else:
        draws = np.random.default_rng((config.train.seed, _VALIDATION)).random(len(train))

    head = config.rating_head
    held_out = draws < head.validation_fraction * head.chosen().validation_share()
    if not held_out.any() or held_out.all():
        return train, None
    data = config.data
    return train.take(~held_out), HeldOut(train.take(held_out), data.scale_low, data.scale_high)


def _fit(job: _Job, listeners: _Listeners) -> FitResult:
    workers = job.problem.workers
    device = select_device(job.config.train.device)
    with tf.device(device.name), _errors_in_words(job.head, device):
        refuse_what_does_not_fit(
            job.config,
            job.head,
            job.solver,
            n_ratings=job.n_ratings,
            shape=job.problem.shape,
            settings=job.problem.settings,
            n_workers=workers.n if workers else 1,
            log=listeners.log,
        )
        started = time.monotonic()
        solver = make_solver(job.solver, _with_start(job))
        listeners.log(f"{job.head}: {solver.n_ratings:,} ratings on {device.label}; {solver.note}")
        outcome = _run(job, solver, listeners, started)

        closing_note = solver.closing_note()
        if closing_note:
            listeners.log(f"{job.head}: {closing_note}")
        return _result(job, outcome, device, solver.samples())


def make_solver(solver: type[Solver], problem: Problem[Any]) -> Solver:
    """Return the solver of `problem`, ready for its first iteration.

    `problem` and all that the solver returns are in rating units, whatever it works in.
    """
    if problem.settings.standardises():
        return InRatingUnits(solver, problem)
    return solver.make(problem)


def _run(job: _Job, solver: Solver, listeners: _Listeners, started: float) -> Outcome:
    """Run the solver's iterations, and tell both who listens and who watches."""

    def tell(iteration: Progress) -> None:
        """Pass an iteration on to all who follow the fit."""
        if workers:
            workers.compare(f"the {job.head} head", iteration.iteration, solver.state())
        listeners.report(iteration)
        if listeners.watch:
            listeners.watch(solver, iteration)

    workers = job.problem.workers
    settings = job.problem.settings
    stopping = Stopping(
        limit=job.problem.limit,
        patience=settings.patience_or(job.config.rating_head.patience),
        keeps_last=settings.keeps_last,
        least_gain=settings.least_gain,
    )
    return run_iterations(
        solver,
        job.head,
        stopping=stopping,
        report=tell,
        checkpoint=listeners.checkpoint,
        started=started,
    )


@contextmanager
def _errors_in_words(head: str, device: Device) -> Iterator[None]:
    """Turn TensorFlow's errors into ours."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        # On a CPU, a Cholesky factorization of a matrix with NaN raises this.
        raise TrainingError(
            f"the {head} head's equations could not be solved ({error.message[:200]}). Raise the "
            "regularization (rating_head.*, ranking_head.*) and check the ratings' scale."
        ) from error
    except tf.errors.ResourceExhaustedError as error:
        raise TrainingError(
            f"the {head} head ran out of memory on {device.label} ({error.message[:200]}). Lower "
            "n_factors, or train on a larger device."
        ) from error


def _with_start(job: _Job) -> Problem:
    """Return the job's problem with the rows to start from, if its solver takes any."""
    settings = job.problem.settings
    if job.start is None or not settings.takes_start:
        return job.problem
    assert isinstance(settings, FactorsConfig)
    # The first factors of a ranking head are those of least squares, as they were.
    start = job.start if job.head == "rating" else _leading(job.start, settings.n_factors)
    rows = _start_rows(start, job.users, job.items, settings.n_factors)
    return dataclasses.replace(job.problem, start=rows)


def _leading(model: FactorModel, n_factors: int) -> FactorModel:
    """Return a model of the first `n_factors` factors."""
    return dataclasses.replace(
        model,
        user_factors=model.user_factors[:, :n_factors],
        item_factors=model.item_factors[:, :n_factors],
    )


def _start_rows(model: FactorModel, users: IdMap, items: IdMap, n_factors: int) -> Start:
    """Return a model's leading `n_factors` factors, and its biases, in the rows of the ids."""
    left, right = compress(model.user_factors, model.item_factors, n_factors)
    width = n_factors + 1
    user_rows = model.users.rows(users.ids)
    item_rows = model.items.rows(items.ids)
    return Start(
        user=_table_of(left.numpy(), model.user_bias, user_rows, width),
        item=_table_of(right.numpy(), model.item_bias, item_rows, width),
    )


def _table_of(factors: Float32s, bias: Float32s, rows: NDArray[np.int32], width: int) -> Float32s:
    """Return the `rows` (-1: a new id, which gets zeros) as a table of (factors, bias)."""
    table = np.zeros((len(rows), width), np.float32)
    table[:, : factors.shape[1]] = factors[rows]
    table[:, -1] = bias[rows]
    table[rows < 0] = 0.0
    return table


def _result(
    job: _Job, outcome: Outcome, device: Device, samples: PosteriorSamples | None
) -> FitResult:
    factors = outcome.factors
    return FitResult(
        model=FactorModel(mean=factors.mean, users=job.users, items=job.items, **factors.arrays()),
        iterations=outcome.iterations,
        train_rmse=outcome.train_rmse,
        validation_rmse=outcome.validation_rmse,
        device=device.label,
        peak_bytes=peak_bytes(device),
        seconds=outcome.seconds,
        samples=samples,
    )
