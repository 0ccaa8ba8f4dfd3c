"""Bayesian matrix factorization by Gibbs sampling, with implicit features on both sides.

The model is that of Salakhutdinov & Mnih 2008 with features:

    r(u, i) ~ N(b_u + b_i + x_u . y_i, 1 / (alpha_u beta_i))
    (x_u, b_u) ~ N(mu + C^T f_u, Lambda^-1), and likewise for items; see `mf_core.solvers.prior`

f_u says which items u has rated, f_i who has rated i (`mf_core.solvers.pattern`):
x_u = v_u + C^T f_u makes r_hat the model of SVD++ (Koren 2008) on both sides. A precision of the
noise of its own for each user and each item,

    alpha_u ~ Gamma(a_u, rate a_u / tau),   tau ~ Gamma(1, 1),   beta_i ~ Gamma(a_i, rate a_i)

lets erratic raters count for less. The shape a falls with the number of ratings to a constant: a
few ratings can't tell whether they scatter, and a precision that followed each of them would only
make outliers count for less, which on skewed ratings are the low ones.

A sweep draws, for the users and then for the items, the prior given the rows, then each row's
precision, then the rows: with (y_i, 1) as the rows of G and t = r - b_i,

    W = diag(alpha_u beta_i),   A = G^T W G + Lambda,   b = G^T W t + Lambda (mu + C^T f_u)
    (x_u, b_u) ~ N(A^-1 b, A^-1)

and then tau, from all errors and with the alpha_u / tau held fast: given the alpha_u it would
hardly move. Rows are drawn in coordinates where Lambda is I: with Lambda = R R^T, x~_u = R^T x_u
and G~ = G R^-T. That is the batched Cholesky of least squares plus noise; rows with at most half as
many ratings as unknowns are drawn by way of the smaller G~ G~^T. Draws are over-relaxed, so that
the chain gets around sooner (`mf_core.solvers.sampling.Draw`).

The model is the mean of the samples after the burn-in (`mf_core.solvers.average`), moved by the
mean of what it leaves of the training ratings: the errors of erratic rows count less, so those of
all don't add up to 0. A row without ratings has its prior's mean.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from mf_core.config import AlsConfig, BayesConfig, SolverConfig
from mf_core.data.ratings import Float32s
from mf_core.models.samples import PosteriorSamples
from mf_core.solvers.average import BUFFERED_COLUMNS, RunningMean
from mf_core.solvers.buckets import Side, both_sides, padding_note
from mf_core.solvers.explicit import ExplicitAls
from mf_core.solvers.kept import KeptSamples
from mf_core.solvers.pattern import OVERSAMPLING, pattern_features, with_attributes
from mf_core.solvers.probe import Probe, training_probe
from mf_core.solvers.sampled_side import SampledSide
from mf_core.solvers.sampling import Noise
from mf_core.solvers.solver import (
    COLUMN_BYTES,
    Arrays,
    Factors,
    Problem,
    Solver,
    Start,
)

_SWEEPS_OF_LEAST_SQUARES = 2
_PURPOSES_OF_A_SIDE = 16


class BayesianFactors(Solver):
    """The sampler, one sweep (users, then items) at a time, and the running mean of its samples."""

    unit = "sweep"

    def __init__(self, problem: Problem[BayesConfig]) -> None:
        """Put the ratings on the device; of `problem.limit` sweeps at most half are burn-in.

        Without a start the chain begins at a few sweeps of least squares.
        """
        super().__init__(problem)
        settings = problem.settings
        self._settings = settings
        self._burn_in = settings.burn_in_iterations(problem.limit)
        self._held_out = problem.held_out
        self._spread = problem.spread

        width = settings.n_factors + 1
        users, items = both_sides(problem.ratings, problem.shape, width, problem.workers)
        attributes = problem.attributes
        of_users = attributes.user if attributes else None
        of_items = attributes.item if attributes else None
        self._users = self._half(problem, users, items, of_users, first_purpose=0)
        self._items = self._half(problem, items, users, of_items, first_purpose=_PURPOSES_OF_A_SIDE)

        self._average = RunningMean(
            *problem.shape, settings.n_factors, rank=2 * settings.output_factors
        )
        self._kept = KeptSamples(settings.kept_samples)
        # The samples' mean errors over all training ratings, added up.
        self._left = 0.0
        self._probe = Probe(problem.held_out or training_probe(problem))
        self.note = (
            f"{self._burn_in} sweeps of burn-in, {self._users.weights.shape[0]} + "
            f"{self._items.weights.shape[0]} features; {padding_note(users, items)}"
        )
        # Least squares come with the first sweep: a fit that goes on from a checkpoint has none.
        self._begin: Callable[[], Start] | None = lambda: problem.start or _least_squares(problem)

    def _half(
        self,
        problem: Problem[BayesConfig],
        mine: Side,
        other: Side,
        attributes: Float32s | None,
        first_purpose: int,
    ) -> "SampledSide":
        """Return the side `mine`; `first_purpose` keeps the two sides' draws apart."""
        settings = problem.settings
        seed = (problem.seed, first_purpose)
        features = pattern_features(mine, other, settings.pattern_rank, seed)
        if attributes is not None and attributes.shape[1]:
            features = with_attributes(features, attributes, mine.active())

        before_the_first_sweep = tf.constant(-1, tf.int64)
        return SampledSide(
            mine,
            features,
            settings.n_factors + 1,
            noise=Noise(problem.seed, before_the_first_sweep, first_purpose),
            scale=(problem.data.scale_low, problem.data.scale_high),
        )

    @classmethod
    def bytes_per_row(cls, settings: SolverConfig, shape: tuple[int, int]) -> int:
        """Return what a fit holds for each user and item, beside ratings and batches.

        With D = n_factors + 1, J features a side, S kept samples, R output factors and
        W = 2 R + max(256, 2 R), it is the larger of

            features   24 (J + 16)    while they are made; 0 without any
            sweeps     4 J + 4 (D + 1) S + 28 D + 4 W + max(4 W, 48 D)

        the latter being features, samples, rows and their draws, and the columns of the mean that
        wait; then the larger of their copy while they are merged and of a sweep's tables.
        """
        assert isinstance(settings, BayesConfig)
        width = settings.n_factors + 1
        n_features = min(settings.pattern_rank, *shape)
        making = COLUMN_BYTES * (n_features + OVERSAMPLING) if n_features else 0

        between_merges = 2 * settings.output_factors
        columns = between_merges + max(BUFFERED_COLUMNS, between_merges)
        samples = 4 * (width + 1) * settings.kept_samples
        held = 4 * n_features + samples + 28 * width + 4 * columns
        return max(making, held + max(4 * columns, 48 * width))

    def iterate(self, iteration: int) -> float:
        """Run one sweep and return the sample's training RMSE, predictions clipped to the scale."""
        if self._begin:
            start = self._begin()
            self._begin = None
            self._users.begin(start.user)
            self._items.begin(start.item)

        # A scale common to all alpha, and its inverse to all beta, change nothing; so only the
        # users' level is drawn. The errors measured last are those of the whole sample.
        sweep = tf.constant(iteration, tf.int64)
        items_before = self._items.rows
        self._users.draw(sweep, self._items, measure=False)
        errors = self._items.draw(sweep, self._users, measure=True)
        self._users.draw_level(sweep, errors.weighted, self.n_ratings)
        if iteration >= self._burn_in:
            self._left += float(errors.plain) / self.n_ratings
            self._count_sample(iteration - self._burn_in, items_before)
        mean_square = float(errors.clipped) / self.n_ratings
        return float(np.sqrt(mean_square))

    def _count_sample(self, number: int, items_before: tf.Tensor) -> None:
        """Let the sample just drawn, the `number`-th (from 0) after the burn-in, count.

        What counts is what was to be expected of it (Rao-Blackwell; Gelfand & Smith 1990): users'
        rows given the items before, and the items' biases given the users just drawn. The mean is
        the same, and settles sooner: rows with few ratings are nearly all noise in a draw.
        """
        user = self._users.expected
        item = tf.concat([items_before[:, :-1], self._items.expected[:, -1:]], axis=1)
        self._average.add(user, item)
        self._probe.add(user, item)
        self._kept.offer(number, self._sample)

    def _sample(self) -> tuple[tf.Tensor, ...]:
        """Return the sample just drawn, as `KeptSamples` wants it."""
        return (*self._users.sample(), *self._items.sample())

    def samples(self) -> PosteriorSamples | None:
        """Return the kept samples, on the host; None where none is wanted."""
        return self._kept.samples()

    def validation_rmse(self) -> float | None:
        """Return the running mean's RMSE on the held-out part; None during the burn-in."""
        n_samples = self._average.n_samples
        if not self._held_out or not n_samples:
            return None
        return self._probe.rmse(n_samples, self._mean())

    def _mean(self) -> float:
        """Return what the mean of the samples leaves of the training ratings, on average."""
        return self._left / self._average.n_samples

    def closing_note(self) -> str:
        """Say what it costs to hold the mean in `output_factors` factors."""
        n_samples = self._average.n_samples
        exact = self._spread * self._probe.rmse(n_samples, self._mean())
        held = self._spread * self._probe.pairs.rmse(self.factors())
        part = "validation" if self._held_out else "training"
        return (
            f"the mean of {n_samples} samples in {self._settings.output_factors} factors: "
            f"{part} RMSE {held:.5f}, uncompressed {exact:.5f}"
        )

    def state(self) -> Arrays:
        """Return all that the next sweep depends on, and the sums so far."""
        state = self._users.state("user")
        state |= self._items.state("item")
        state |= self._average.state()
        state |= self._probe.state()
        state |= self._kept.state()
        state["left"] = np.array([self._left])
        return state

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        self._users.restore(state, "user")
        self._items.restore(state, "item")
        self._average.restore(state)
        self._probe.restore(state)
        self._kept.restore(state)
        self._left = float(state["left"][0])
        self._begin = None

    def factors(self) -> Factors:
        """Return the mean's arrays, on the host; the current sample's before there is a mean."""
        if not self._average.n_samples:
            user = self._users.rows.numpy()
            item = self._items.rows.numpy()
            return Factors.of_rows(0.0, user, item)
        mean = self._average.mean(self._settings.output_factors)
        user_bias, item_bias, user_factors, item_factors = (tensor.numpy() for tensor in mean)
        return Factors(
            self._mean(),
            user_bias,
            item_bias,
            user_factors=user_factors,
            item_factors=item_factors,
        )


def _least_squares(problem: Problem[BayesConfig]) -> Start:
    """Return where least squares arrive in a few sweeps.

    That is hundreds of times likelier than a random start, and soon there.
    """
    simpler = Problem(
        ratings=problem.ratings,
        shape=problem.shape,
        settings=AlsConfig(n_factors=problem.settings.n_factors),
        data=problem.data,
        seed=problem.seed,
        limit=_SWEEPS_OF_LEAST_SQUARES,
        workers=problem.workers,
    )
    solver = ExplicitAls(simpler)
    for sweep in range(_SWEEPS_OF_LEAST_SQUARES):
        solver.iterate(sweep)
    return Start(**solver.state())
