"""The loop around every solver: iterations, early stopping, checkpoints and progress.

An interrupted loop that goes on from its checkpoint ends with the same bits as an uninterrupted
one: a solver's `state` is all that its next iteration depends on, and what is random is keyed by
(seed, iteration).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mf_core.errors import TrainingError
from mf_core.records import Progress
from mf_core.solvers.checkpoint import Checkpoint
from mf_core.solvers.solver import Arrays, Factors, Solver

_STATE = "state_"
_BEST = "best_"

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Stopping:
    """When a fit ends, and which of its iterations counts.

    Attributes:
        limit: the number of iterations that are run at most.
        patience: with a validation part, stop after so many iterations without a gain.
        keeps_last: the model is a running mean, so the last iteration counts; else the best.
        least_gain: the share of the error that an iteration must gain to be better.
    """

    limit: int
    patience: int
    keeps_last: bool = False
    least_gain: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How the loop ended.

    `iterations` is the best iteration by validation error, else the last one, and the errors are
    those of that iteration. A running mean has no best iteration: there the last one counts.
    """

    factors: Factors
    iterations: int
    train_rmse: float
    validation_rmse: float | None
    seconds: float


@dataclass
class _Standing:
    """Where the loop stands: what a checkpoint keeps beside the arrays.

    `reference` is the validation error at the last gain; `seconds` includes earlier processes.
    """

    done: int = 0
    best_iteration: int = 0
    reference: float | None = None
    train_rmse: float = float("inf")
    validation_rmse: float | None = None
    seconds: float = 0.0


class _Loop:
    """One fit on its way: the solver, where it stands, and the best factors so far.

    `best` is None where the solver's own factors are the ones to keep.
    """

    def __init__(
        self, solver: Solver, head: str, stopping: Stopping, checkpoint: Checkpoint | None
    ) -> None:
        self.solver = solver
        self.head = head
        self.stopping = stopping
        self.checkpoint = checkpoint
        self.standing = _Standing()
        self.best: Factors | None = None
        self._resume()
        self._first = self.standing.done
        self._seconds_before = self.standing.seconds
        self._started = time.monotonic()

    def _resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        saved = self.checkpoint.load() if self.checkpoint else None
        if saved is None:
            return
        self.solver.restore(_named(saved.arrays, _STATE))
        numbers = saved.numbers
        best = _named(saved.arrays, _BEST)
        if best:
            self.best = Factors(numbers.pop("mean"), **best)
        self.standing = _Standing(**numbers)

    def count_from(self, started: float) -> None:
        """Let the clock run from `started` (`time.monotonic`): the solver's making counts too."""
        self._started = started

    def is_over(self) -> bool:
        """Say whether the limit is reached or the patience used up."""
        done = self.standing.done
        waited = done - self.standing.best_iteration
        return done >= self.stopping.limit or waited >= self.stopping.patience

    def advance(self) -> Progress:
        """Run one iteration and return its report."""
        train_rmse = self.solver.iterate(self.standing.done)
        validation_rmse = self.solver.validation_rmse()
        measured = [train_rmse]
        if validation_rmse is not None:
            measured.append(validation_rmse)
        if not np.isfinite(measured).all():
            raise _diverged(self.head, self.standing.done + 1)

        self.standing.done += 1
        now = time.monotonic()
        self.standing.seconds = self._seconds_before + now - self._started
        self._note_errors(train_rmse, validation_rmse)
        return self._report(train_rmse, validation_rmse)

    def _note_errors(self, train_rmse: float, validation_rmse: float | None) -> None:
        """Remember the errors, and the factors, if this iteration is the one that counts so far."""
        standing = self.standing
        keeps_last = self.stopping.keeps_last
        gained = self._is_gain(validation_rmse)
        if gained:
            standing.best_iteration = standing.done
            standing.reference = validation_rmse
        if gained or keeps_last:
            standing.train_rmse = train_rmse
            standing.validation_rmse = validation_rmse
        # Without a validation part the last factors are the best, and the solver has those.
        if gained and not keeps_last:
            self.best = self.solver.factors() if validation_rmse is not None else None

    def _is_gain(self, validation_rmse: float | None) -> bool:
        reference = self.standing.reference
        if validation_rmse is None or reference is None:
            return True
        return validation_rmse < reference * (1 - self.stopping.least_gain)

    def _report(self, train_rmse: float, validation_rmse: float | None) -> Progress:
        """Return the report; the pace is the mean over this process's iterations."""
        standing = self.standing
        seconds = standing.seconds - self._seconds_before
        pace = seconds / (standing.done - self._first)
        return Progress(
            head=self.head,
            unit=self.solver.unit,
            iteration=standing.done,
            iterations=self.stopping.limit,
            train_rmse=train_rmse,
            validation_rmse=validation_rmse,
            ratings_per_second=self.solver.n_ratings / pace,
            eta_seconds=pace * (self.stopping.limit - standing.done),
            iteration_seconds=pace,
        )

    def save_if_due(self) -> None:
        """Write the checkpoint if it is time for one."""
        if self.checkpoint and self.checkpoint.is_due():
            self.save()

    def save(self) -> None:
        """Write the checkpoint, unless nothing happened since the one this process started from."""
        if self.checkpoint is None or self.standing.done == self._first:
            return
        numbers: dict[str, Any] = vars(self.standing).copy()
        arrays = _prefixed(self.solver.state(), _STATE)
        if self.best:
            numbers["mean"] = self.best.mean
            arrays |= _prefixed(self.best.arrays(), _BEST)
        self.checkpoint.save(self.standing.done, numbers, arrays)

    def outcome(self) -> Outcome:
        """Return the factors that count, checked."""
        standing = self.standing
        factors = self.best or self.solver.factors()
        if not all(np.isfinite(array).all() for array in factors.arrays().values()):
            raise _diverged(self.head, standing.best_iteration)
        return Outcome(
            factors=factors,
            iterations=standing.done if self.stopping.keeps_last else standing.best_iteration,
            train_rmse=standing.train_rmse,
            validation_rmse=standing.validation_rmse,
            seconds=standing.seconds,
        )


def run_iterations(
    solver: Solver,
    head: str,
    *,
    stopping: Stopping,
    report: Report,
    checkpoint: Checkpoint | None = None,
    started: float | None = None,
) -> Outcome:
    """Run `solver` until `stopping` says that it is enough.

    `started` (`time.monotonic`) is when the making of the solver began, if that is to count too.

    Raises:
        TrainingError: numbers that are not finite.
    """
    loop = _Loop(solver, head, stopping, checkpoint)
    if started is not None:
        loop.count_from(started)
    while not loop.is_over():
        report(loop.advance())
        loop.save_if_due()
    loop.save()
    return loop.outcome()


def _prefixed(arrays: Arrays, prefix: str) -> Arrays:
    """Return the arrays under names that begin with `prefix`."""
    return {f"{prefix}{name}": array for name, array in arrays.items()}


def _named(arrays: Arrays, prefix: str) -> Arrays:
    """Return the arrays whose name begins with `prefix`, without it."""
    found = {}
    for name, array in arrays.items():
        if name.startswith(prefix):
            found[name.removeprefix(prefix)] = array
    return found


def _diverged(head: str, iteration: int) -> TrainingError:
    return TrainingError(
        f"the {head} head's numbers are no longer finite after iteration {iteration}. Lower the "
        "learning rate or raise the regularization (rating_head.*, ranking_head.*), and check the "
        "ratings' scale (data.scale_low, data.scale_high)."
    )
