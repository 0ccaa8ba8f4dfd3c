"""The units in which a rating head is fitted: standard deviations of the training ratings.

Ridges, priors, learning rates and random starts are plain numbers, so they mean something else on
a scale of 1 to 100 than on one of 1 to 5. Between `fit_rating_head` and every solver the ratings
are therefore centred and divided by their standard deviation s, and what comes back is multiplied:

    r = mean + s z,   b_r = s b_z,   x_r = s^.5 x_z,   y_r = s^.5 y_z,   RMSE_r = s RMSE_z

So r -> a r + b changes nothing but the units of the predictions. Settings of the solvers are in
standard deviations too.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from mf_core.config import DataConfig
from mf_core.data.ratings import Float32s, Ratings
from mf_core.models.samples import PosteriorSamples
from mf_core.solvers.solver import Arrays, Factors, HeldOut, Problem, Solver, Start


@dataclass(frozen=True)
class Units:
    """What a standardised rating stands for: `mean` + `spread` z."""

    mean: float
    spread: float

    @staticmethod
    def of(ratings: Ratings) -> "Units":
        """Return the units of `ratings`: their mean and standard deviation, 1 where all agree."""
        spread = float(np.std(ratings.value, dtype=np.float64))
        mean = float(np.mean(ratings.value, dtype=np.float64))
        return Units(mean, spread or 1.0)

    def standardised(self, problem: Problem[Any]) -> Problem[Any]:
        """Return `problem`, which is in rating units, in these."""
        start = problem.start
        held_out = problem.held_out
        return dataclasses.replace(
            problem,
            ratings=self._ratings(problem.ratings),
            data=self._data(problem.data),
            held_out=held_out and self._held_out(held_out),
            start=start and Start(*(self._rows(side) for side in (start.user, start.item))),
            spread=self.spread,
        )

    def _ratings(self, ratings: Ratings) -> Ratings:
        # float64 in between: what is left of a mean of 50 must be as exact as of one of 3.
        value = (ratings.value.astype(np.float64) - self.mean) / self.spread
        return dataclasses.replace(ratings, value=value.astype(np.float32))

    def _data(self, data: DataConfig) -> DataConfig:
        """Return the rating scale in these units; nothing else of `data` has any."""
        names = ("scale_low", "scale_high", "relevant_from")
        ends = {name: (getattr(data, name) - self.mean) / self.spread for name in names}
        return data.model_copy(update=ends)

    def _held_out(self, held_out: HeldOut) -> HeldOut:
        low, high = ((end - self.mean) / self.spread for end in (held_out.low, held_out.high))
        return HeldOut(self._ratings(held_out.ratings), low, high)

    def _rows(self, rows: Float32s) -> Float32s:
        """Return rows (factors, bias), given in rating units, in these."""
        return (rows / self._of_rows(rows.shape[-1])).astype(np.float32)

    def _of_rows(self, width: int) -> Float32s:
        """Return what each column of rows (factors, bias) is multiplied with in rating units."""
        columns = np.full(width, self.spread**0.5, np.float32)
        columns[-1] = self.spread
        return columns

    def factors(self, factors: Factors) -> Factors:
        """Return a model's arrays, given in these units, in rating units."""
        root = np.float32(self.spread**0.5)
        spread = np.float32(self.spread)
        return Factors(
            mean=self.mean + self.spread * factors.mean,
            user_bias=factors.user_bias * spread,
            item_bias=factors.item_bias * spread,
            user_factors=factors.user_factors * root,
            item_factors=factors.item_factors * root,
        )

    def samples(self, samples: PosteriorSamples) -> PosteriorSamples:
        """Change samples to rating units and return them; a copy might not fit into memory."""
        columns = self._of_rows(samples.user.shape[-1])
        for rows in (samples.user, samples.item):
            rows *= columns

        # A rating's noise variance is the product of both sides', in units squared.
        for variance in (samples.user_variance, samples.item_variance):
            variance *= np.float32(self.spread)
        return samples


class InRatingUnits(Solver):
    """A solver that works in standard deviations, seen from outside in rating units."""

    def __init__(self, solver: type[Solver], problem: Problem[Any]) -> None:
        """Make the `solver` of `problem`, which is in rating units."""
        super().__init__(problem)
        self._units = Units.of(problem.ratings)
        self._solver = solver.make(self._units.standardised(problem))
        self.unit = self._solver.unit
        self.note = self._solver.note

    def iterate(self, iteration: int) -> float:
        """Run iteration `iteration` (from 0) and return the training RMSE."""
        return self._units.spread * self._solver.iterate(iteration)

    def validation_rmse(self) -> float | None:
        """Return the RMSE on the held-out part; None where there is none to measure."""
        rmse = self._solver.validation_rmse()
        return None if rmse is None else self._units.spread * rmse

    def state(self) -> Arrays:
        """Return the solver's state, which stays in its own units."""
        return self._solver.state()

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        self._solver.restore(state)

    def factors(self) -> Factors:
        """Return the model's arrays, on the host."""
        return self._units.factors(self._solver.factors())

    def samples(self) -> PosteriorSamples | None:
        """Return samples of the posterior, on the host; None where there are none."""
        samples = self._solver.samples()
        return samples and self._units.samples(samples)

    def closing_note(self) -> str | None:
        """Return what the solver says of the fit, with figures in rating units."""
        return self._solver.closing_note()
