"""What a solver is, and what it is given: the base class, the problem, and the arrays of a model.

A new solver is a subclass of `Solver` in a file of its own, a settings class in `mf_core.config`,
and a line of `mf_core.solvers.fit.SOLVERS`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from mf_core.config import Config, DataConfig, FactorsConfig, Head, SolverConfig
from mf_core.data.attributes import AttributeMatrices
from mf_core.data.ratings import Float32s, Ratings
from mf_core.models.samples import PosteriorSamples
from mf_core.solvers.workers import Workers

Arrays = dict[str, NDArray[Any]]
SettingsT = TypeVar("SettingsT", bound=SolverConfig, covariant=True)
COLUMN_BYTES = 24
"""Of one row and column of factors while they are solved for: six float32 copies."""

_PAIRS_AT_A_TIME = 1 << 18


@dataclass(frozen=True)
class Factors:
    """A model's arrays without its ids; shapes as in `mf_core.models.factors.FactorModel`."""

    mean: float
    user_bias: Float32s
    item_bias: Float32s
    user_factors: Float32s
    item_factors: Float32s

    @staticmethod
    def of_rows(mean: float, user: Float32s, item: Float32s) -> "Factors":
        """Return the factors of two tables whose rows are (factors, bias)."""
        return Factors(
            mean=mean,
            user_bias=user[:, -1].copy(),
            item_bias=item[:, -1].copy(),
            user_factors=user[:, :-1].copy(),
            item_factors=item[:, :-1].copy(),
        )

    @staticmethod
    def without_biases(user: Float32s, item: Float32s) -> "Factors":
        """Return the factors of a model whose prediction is x_u . y_i alone."""
        user_bias = np.zeros(len(user), np.float32)
        item_bias = np.zeros(len(item), np.float32)
        return Factors(0.0, user_bias, item_bias, user_factors=user, item_factors=item)

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
    """The validation part of the training ratings, and the scale to clip predictions to."""

    ratings: Ratings
    low: float
    high: float

    def rmse(self, factors: Factors) -> float:
        """Return the RMSE of the clipped predictions.

        Squared errors are summed up in float64, then divided once.
        """
        total = 0.0
        for start in range(0, len(self.ratings), _PAIRS_AT_A_TIME):
            pairs = slice(start, start + _PAIRS_AT_A_TIME)
            user = self.ratings.user[pairs]
            item = self.ratings.item[pairs]
            x = factors.user_factors[user]
            y = factors.item_factors[item]
            dots = np.einsum("nk,nk->n", x, y, dtype=np.float64)

            # r_hat = mean + b_u + b_i + x_u . y_i
            biases = factors.mean + factors.user_bias[user] + factors.item_bias[item]
            predicted = np.clip(biases + dots, self.low, self.high)
            error = self.ratings.value[pairs] - predicted
            total += float(np.sum(np.square(error)))
        return float(np.sqrt(total / len(self.ratings)))


@dataclass(frozen=True)
class Problem(Generic[SettingsT]):
    """What a fit works on.

    Attributes:
        ratings: the ratings to fit.
        shape: (n_users, n_items); rows without ratings are counted.
        settings: the solver's own.
        data: the rating scale, and which ratings are relevant.
        seed: of everything random.
        limit: the number of iterations that will be run at most.
        held_out: what the validation error is measured on; None: there is none.
        start: where the first iteration goes on from; None: where the solver itself begins.
        attributes: what else is known of the users and items, for solvers that use it.
        spread: how many rating units 1 is, for figures that people read. A solver of ratings gets
            them centred and in standard deviations, the scale and the start likewise
            (`mf_core.solvers.units`), unless its settings say otherwise.
        workers: the processes that fit it together; None: this one alone.
    """

    ratings: Ratings
    shape: tuple[int, int]
    settings: SettingsT
    data: DataConfig
    seed: int
    limit: int
    held_out: HeldOut | None = None
    start: Start | None = None
    attributes: AttributeMatrices | None = None
    spread: float = 1.0
    workers: Workers | None = None

    @staticmethod
    def of(
        config: Config, head: Head, ratings: Ratings, shape: tuple[int, int], limit: int
    ) -> "Problem[SolverConfig]":
        """Return the problem that `config` sets for `head`, with nothing held out."""
        return Problem(
            ratings=ratings,
            shape=shape,
            settings=config.solver_settings(head),
            data=config.data,
            seed=config.train.seed,
            limit=limit,
        )


class Solver(ABC):
    """One fit on its way, an iteration at a time.

    Attributes:
        unit: what an iteration is called.
        n_ratings: the number of ratings that are fitted.
        note: what the log says of the fit before its first iteration.
    """

    unit: str
    note: str

    def __init__(self, problem: Problem[Any]) -> None:
        """Subclasses also put the ratings on the device."""
        self.n_ratings = len(problem.ratings)

    @classmethod
    def make(cls, problem: Problem[Any]) -> "Solver":
        """Return the solver of `problem`, ready for its first iteration."""
        return cls(problem)

    @classmethod
    def bytes_per_row(cls, settings: SolverConfig, shape: tuple[int, int]) -> int:
        """Return what a fit holds in memory for each user and item, beside ratings and batches.

        That is 24 D with D = n_factors + 1: the old rows, the new ones by batch, joined and in
        order, and the other side's table.
        """
        assert isinstance(settings, FactorsConfig)
        return COLUMN_BYTES * (settings.n_factors + 1)

    @abstractmethod
    def iterate(self, iteration: int) -> float:
        """Run iteration `iteration` (from 0) and return the training RMSE."""

    def validation_rmse(self) -> float | None:
        """Return the RMSE on the held-out part; None where there is none to measure."""
        return None

    @abstractmethod
    def state(self) -> Arrays:
        """Return all that the next iteration depends on."""

    @abstractmethod
    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""

    @abstractmethod
    def factors(self) -> Factors:
        """Return the model's arrays, on the host."""

    def samples(self) -> PosteriorSamples | None:
        """Return samples of the posterior, on the host; None where there are none."""
        return None

    def closing_note(self) -> str | None:
        """Return what the log says of the fit after its last iteration; None: nothing."""
        return None
