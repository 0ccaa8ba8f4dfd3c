"""The loop around every solver: iterations, early stopping, checkpoints and progress.

An interrupted loop that goes on from its checkpoint ends with the same bits as an uninterrupted one: a solver's `state` is
all that its next iteration depends on, and what is random is keyed by (seed, iteration).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mf_core.errors import TrainingError
from mf_core.ratings import Float32s, Ratings
from mf_core.solvers.checkpoint import Checkpoint

Arrays = dict[str, NDArray[Any]]
_ROWS_AT_A_TIME = 1 << 18


@dataclass(frozen=True)
class Factors:
    """A model's arrays without its ids; shapes as in `mf_core.factors.FactorModel`."""

    mean: float
    user_bias: Float32s
    item_bias: Float32s
    user_factors: Float32s
    item_factors: Float32s

    @staticmethod
    def of_rows(mean: float, user: Float32s, item: Float32s) -> "Factors":
        """Return the factors of two tables whose rows are (factors, bias)."""
        return Factors(
            mean, user[:, -1].copy(), item[:, -1].copy(), user[:, :-1].copy(), item[:, :-1].copy()
        )

    def arrays(self) -> Arrays:
        """Return the arrays by name, without the mean."""
        return {name: value for name, value in vars(self).items() if name != "mean"}


@dataclass(frozen=True)
class Start:
    """Rows (factors, bias) that a fit goes on from; zeros, the prior's mean, for a row that is new.

    Attributes:
        user: float32 array of shape (n_users, n_factors + 1).
        item: float32 array of shape (n_items, n_factors + 1).
    """

    user: Float32s
    item: Float32s


@dataclass(frozen=True)
class HeldOut:
    """The validation part of the training ratings, and the rating scale that predictions are clipped to."""

    ratings: Ratings
    low: float
    high: float

    def rmse(self, factors: Factors) -> float:
        """Return the RMSE of the clipped predictions: squared errors are summed up in float64, then divided once."""
        total = 0.0
        for start in range(0, len(self.ratings), _ROWS_AT_A_TIME):
            rows = slice(start, start + _ROWS_AT_A_TIME)
            user, item = self.ratings.user[rows], self.ratings.item[rows]
            dots = np.einsum(
                "nk,nk->n", factors.user_factors[user], factors.item_factors[item], dtype=np.float64
            )
            predicted = np.clip(
                factors.mean + factors.user_bias[user] + factors.item_bias[item] + dots,
                self.low,
                self.high,
            )
            total += float(np.sum(np.square(self.ratings.value[rows] - predicted)))
        return float(np.sqrt(total / len(self.ratings)))


class Solver(Protocol):
    """What the loop needs of a solver."""

    n_ratings: int
    note: str

    def iterate(self, iteration: int) -> float:
        """Run iteration `iteration` (from 0) and return the training RMSE."""

    def validation_rmse(self) -> float | None:
        """Return the RMSE on the held-out part; None without such a part."""

    def state(self) -> Arrays:
        """Return all that the next iteration depends on."""

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""

    def factors(self) -> Factors:
        """Return the model's arrays."""


@dataclass(frozen=True)
class IterationReport:
    """One iteration's figures: `iteration` counts from 1 to at most `iterations`; `ratings_per_second` and `eta_seconds`
    are means over this process's iterations."""

    head: str
    iteration: int
    iterations: int
    train_rmse: float
    validation_rmse: float | None
    ratings_per_second: float
    eta_seconds: float


Report = Callable[[IterationReport], None]


@dataclass(frozen=True)
class Outcome:
    """How the loop ended. `iterations` is the best iteration by validation error, else the last one; the figures are its.

    A running mean has no best iteration: what counts is the last one.
    """

    factors: Factors
    iterations: int
    train_rmse: float
    validation_rmse: float | None
    seconds: float


@dataclass
class _Standing:
    """Where the loop stands: what a checkpoint keeps beside the arrays. `reference` is the error at the last gain."""

    done: int = 0
    best_iteration: int = 0
    reference: float | None = None
    train_rmse: float = float("inf")
    validation_rmse: float | None = None
    seconds: float = 0.0


class _Loop:
    """One fit on its way: the solver, where it stands, and the best factors so far (None: the solver's own)."""

    def __init__(
        self,
        solver: Solver,
        head: str,
        checkpoint: Checkpoint | None,
        settling: float | None,
        started: float | None,
    ) -> None:
        self.solver, self.head, self.checkpoint, self.settling = solver, head, checkpoint, settling
        self.standing, self.best = _Standing(), None
        saved = checkpoint.load() if checkpoint else None
        if saved:
            arrays = saved.arrays
            solver.restore(
                {
                    name.removeprefix("state_"): arrays[name]
                    for name in arrays
                    if name.startswith("state_")
                }
            )
            best = {
                name.removeprefix("best_"): arrays[name]
                for name in arrays
                if name.startswith("best_")
            }
            self.best = Factors(saved.numbers.pop("mean"), **best) if best else None
            self.standing = _Standing(**saved.numbers)
        self._first, self._seconds_before = self.standing.done, self.standing.seconds
        self._started = time.monotonic() if started is None else started

    def advance(self) -> tuple[float, float | None]:
        """Run one iteration and return its training and validation RMSE."""
        train_rmse = self.solver.iterate(self.standing.done)
        validation_rmse = self.solver.validation_rmse()
        if not all(
            np.isfinite(figure) for figure in (train_rmse, validation_rmse) if figure is not None
        ):
            raise _diverged(self.head, self.standing.done + 1)
        standing = self.standing
        standing.done += 1
        standing.seconds = self._seconds_before + time.monotonic() - self._started
        gained = self._is_gain(validation_rmse)
        if gained:
            standing.best_iteration, standing.reference = standing.done, validation_rmse
        if gained or self.settling is not None:
            standing.train_rmse, standing.validation_rmse = train_rmse, validation_rmse
        if gained and self.settling is None:
            self.best = self.solver.factors() if validation_rmse is not None else None
        return train_rmse, validation_rmse

    def _is_gain(self, validation_rmse: float | None) -> bool:
        reference = self.standing.reference
        return (
            validation_rmse is None
            or reference is None
            or validation_rmse < reference * (1 - (self.settling or 0.0))
        )

    def seconds_per_iteration(self) -> float:
        """Return the mean over this process's iterations."""
        return (self.standing.seconds - self._seconds_before) / (self.standing.done - self._first)

    def save(self) -> None:
        """Write the checkpoint, unless nothing has happened since the one that this process started from."""
        if self.checkpoint is None or self.standing.done == self._first:
            return
        arrays = {f"state_{name}": value for name, value in self.solver.state().items()}
        numbers: dict[str, Any] = vars(self.standing).copy()
        if self.best:
            arrays |= {f"best_{name}": value for name, value in self.best.arrays().items()}
            numbers["mean"] = self.best.mean
        self.checkpoint.save(self.standing.done, numbers, arrays)

    def outcome(self) -> Outcome:
        """Return the best factors, checked."""
        factors, standing = self.best or self.solver.factors(), self.standing
        if not all(np.isfinite(array).all() for array in factors.arrays().values()):
            raise _diverged(self.head, standing.best_iteration)
        iterations = standing.best_iteration if self.settling is None else standing.done
        return Outcome(
            factors, iterations, standing.train_rmse, standing.validation_rmse, standing.seconds
        )


def run_iterations(
    solver: Solver,
    head: str,
    iterations: int,
    patience: int,
    report: Report,
    checkpoint: Checkpoint | None,
    settling: float | None = None,
    started: float | None = None,
) -> Outcome:
    """Run `solver` for at most `iterations`; with a validation part, stop after `patience` iterations without a gain.

    `settling` is for a solver whose model is a running mean, of which the last is the one to keep: the share of the error
    that counts as a gain. `started` (`time.monotonic`) is when the solver's making began, if that is to count as well.

    Raises:
        TrainingError: numbers that are not finite.
    """
    loop = _Loop(solver, head, checkpoint, settling, started)
    standing = loop.standing
    while standing.done < iterations and standing.done - standing.best_iteration < patience:
        train_rmse, validation_rmse = loop.advance()
        pace = loop.seconds_per_iteration()
        eta = pace * (iterations - standing.done)
        report(
            IterationReport(
                head,
                standing.done,
                iterations,
                train_rmse,
                validation_rmse,
                solver.n_ratings / pace,
                eta,
            )
        )
        if checkpoint and checkpoint.is_due():
            loop.save()
    loop.save()
    return loop.outcome()


def _diverged(head: str, iteration: int) -> TrainingError:
    return TrainingError(
        f"the {head} head's numbers are no longer finite after iteration {iteration}. Lower the learning rate or raise the "
        "regularization (rating_head.*, ranking_head.*), and check the ratings' scale (data.scale_low, data.scale_high)."
    )
