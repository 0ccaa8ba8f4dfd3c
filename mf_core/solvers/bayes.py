"""Bayesian matrix factorization by Gibbs sampling (Salakhutdinov & Mnih 2008), with implicit features on both sides.

    r(u, i) ~ N(mean + b_u + b_i + x_u . y_i, 1 / (alpha_u beta_i))
    (x_u, b_u) ~ N(mu + C^T f_u, Lambda^-1), and likewise for items; see `mf_core.solvers.prior`

f_u says which items u has rated, f_i who has rated i (`mf_core.solvers.pattern`): x_u = v_u + C^T f_u makes r_hat the model of
SVD++ (Koren 2008) on both sides. A precision of the noise of its own for each user and each item,

    alpha_u ~ Gamma(a, rate g),   g ~ Gamma(1, 1),   beta_i ~ Gamma(a, rate a)

lets erratic raters count for less. A sweep draws, for the users and then for the items, the prior given the rows, then each
row's precision, then the rows: with (y_i, 1) as the rows of G and t = r - mean - b_i,

    A = G^T W G + Lambda,   b = G^T W t + Lambda (mu + C^T f_u),   (x_u, b_u) ~ N(A^-1 b, A^-1),   W = diag(alpha_u beta_i)

All of it happens in coordinates where Lambda is I: with Lambda = R R^T, x~_u = R^T x_u and G~ = G R^-T. That is the batched
Cholesky of least squares plus noise; rows with at most half as many ratings as unknowns are drawn by way of the smaller G~ G~^T.
The model is the mean of the samples after the burn-in
(`mf_core.solvers.average`). A row without ratings has its prior's mean.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mf_core.config import AlsConfig, BayesConfig, SolverConfig
from mf_core.data.ratings import Float32s, Ratings
from mf_core.models.samples import PosteriorSamples
from mf_core.solvers.average import BUFFERED_COLUMNS, RunningMean
from mf_core.solvers.buckets import Side, both_sides, padding_note, with_zero_row
from mf_core.solvers.explicit import ExplicitAls
from mf_core.solvers.kept import KeptSamples
from mf_core.solvers.pattern import OVERSAMPLING, Features, pattern_features, with_attributes
from mf_core.solvers.prior import FactorPrior
from mf_core.solvers.sampling import Noise, draw_from_few, draw_gaussian
from mf_core.solvers.solver import COLUMN_BYTES, Arrays, Factors, HeldOut, Problem, Solver, Start

_SWEEPS_OF_LEAST_SQUARES = 2
_INITIAL_SPREAD = 0.2
_NOISE_SHAPE = 5.0
_PROBE_RATINGS = 100_000
_ROW_NOISE, _ROW_PRECISION, _RATE, _START, _PURPOSES_OF_A_SIDE = 6, 7, 8, 9, 16
_PROBE = 4
_BatchDraw = Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


class _Given(NamedTuple):
    """What the rows of one side are drawn from, all on the device, in coordinates where the prior's precision is I.

    `table` and `scalars` are the other side's, with a row of zeros below: each place's factors and 1, and its bias and 1, all
    times the root of its noise precision. `rows` are the present ones, `standard` Gamma draws of rate 1, `normal` normal ones,
    `scale` the ends of the centred rating scale.
    """

    table: tf.Tensor
    scalars: tf.Tensor
    rows: tf.Tensor
    prior_mean: tf.Tensor
    standard: tf.Tensor
    rate: tf.Tensor
    normal: tf.Tensor
    scale: tf.Tensor


@cache
def _batch_function(width: int, index: tf.DType, *, few: bool, measure: bool) -> _BatchDraw:
    """Return the function that draws one batch: (*batch, *given) -> (rows (B, D), precisions (B, 1), squared error).

    All fits of a process share its trace. `few`: by way of the (L, L) matrices. Without `measure` the error, of clipped
    predictions, is 0.
    """

    def draw(
        row: tf.Tensor, other: tf.Tensor, value: tf.Tensor, *parts: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        given = _Given(*parts)
        # Every place of the design is times the root of the other side's precision.
        design, scalars = tf.gather(given.table, other), tf.gather(given.scalars, other)
        root, target = scalars[:, :, 1], value * scalars[:, :, 1] - scalars[:, :, 0]
        old, mean, normal = (
            tf.gather(part, row) for part in (given.rows, given.prior_mean, given.normal)
        )
        if few:
            squared = tf.reduce_sum(tf.square(target - tf.linalg.matvec(design, old)), 1)
        else:
            gram, right = (
                tf.matmul(design, design, transpose_a=True),
                tf.linalg.matvec(design, target, transpose_a=True),
            )
            # |t - G x|^2 from what is at hand anyway.
            squared = tf.reduce_sum(tf.square(target), 1) + tf.reduce_sum(
                old * (tf.linalg.matvec(gram, old) - 2.0 * right), 1
            )
        precision = (
            tf.gather(given.standard, row) / (given.rate + 0.5 * tf.maximum(squared, 0.0))
        )[:, None]
        if few:
            scaled = tf.sqrt(precision)
            unexplained = scaled * (target - tf.linalg.matvec(design, mean))
            new = mean + draw_from_few(scaled[:, :, None] * design, unexplained, normal)
        else:
            new = draw_gaussian(
                precision[:, :, None] * gram + tf.eye(width), precision * right + mean, normal
            )
        if not measure:
            return new, precision, tf.zeros(())
        error = tf.math.divide_no_nan(target - tf.linalg.matvec(design, new), root)  # 0 for padding
        clipped = value - tf.clip_by_value(value - error, given.scale[0], given.scale[1])
        return new, precision, tf.reduce_sum(tf.where(root > 0.0, tf.square(clipped), 0.0))

    f32 = tf.TensorSpec
    batch = (f32((None,), tf.int64), f32((None, None), index), f32((None, None)))
    table, vector = f32((None, width)), f32((None,))
    given = _Given(table, f32((None, 2)), table, table, vector, f32(()), table, f32((2,)))
    return tf.function(draw, input_signature=(*batch, *given))


class _Half:
    """One side: its ratings, its prior, and the current sample of its rows, regression weights and noise precisions."""

    def __init__(
        self,
        side: Side,
        features: Features,
        width: int,
        seed: int,
        first_purpose: int,
        scale: tuple[float, float],
    ) -> None:
        """`scale` is the centred rating scale; `first_purpose` keeps the two sides' draws apart."""
        self._side, self._scale, self._active = side, tf.constant(scale), side.active()
        self._prior = FactorPrior(features, self._active)
        self._seed, self._first_purpose = seed, first_purpose
        self.rows = tf.zeros((side.n_rows, width))
        self.weights = tf.zeros((features.scale.shape[0], width))
        self.precision = tf.ones(side.n_rows)
        self._draw_prior = tf.function(self._prior_of_sweep)

    def _noise(self, sweep: tf.Tensor) -> Noise:
        return Noise(self._seed, sweep, self._first_purpose)

    def _prior_of_sweep(
        self, sweep: tf.Tensor, rows: tf.Tensor, weights: tf.Tensor, precision: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        noise = self._noise(sweep)
        prior_precision, prior_mean, weights = self._prior.draw(noise, rows, weights)
        prior_root = tf.linalg.cholesky(prior_precision)
        shape = tf.reshape(1.0 + _NOISE_SHAPE * tf.reduce_sum(self._active), (1,))
        rate = noise.gamma(shape, _RATE)[0] / (1.0 + tf.reduce_sum(precision * self._active[:, 0]))
        standard = noise.gamma(_NOISE_SHAPE + 0.5 * self._side.count, _ROW_PRECISION)
        return (
            prior_root,
            prior_mean,
            weights,
            rate,
            standard,
            noise.normal(tf.shape(rows), _ROW_NOISE),
        )

    def draw(
        self, sweep: tf.Tensor, other: "_Half", rate: float | None, *, measure: bool
    ) -> tf.Tensor:
        """Draw everything of this side given the `other`; return the sum of squared errors if `measure`, else 0.

        `rate` is that of the noise precisions' prior, or None to draw it.
        """
        prior_root, prior_mean, self.weights, drawn_rate, standard, normal = self._draw_prior(
            sweep, self.rows, self.weights, self.precision
        )
        width, root = self.rows.shape[1], tf.sqrt(other.precision)[:, None]
        table = with_zero_row(
            _right_divided(
                tf.concat([other.rows[:, :-1] * root, root], axis=1), tf.transpose(prior_root)
            )
        )
        scalars = with_zero_row(tf.concat([other.rows[:, -1:] * root, root], axis=1))
        rate_now = drawn_rate if rate is None else tf.constant(rate)
        rows, mean = tf.matmul(self.rows, prior_root), tf.matmul(prior_mean, prior_root)
        given = _Given(table, scalars, rows, mean, standard, rate_now, normal, self._scale)

        def draw(
            rows: tf.Tensor, places: tf.Tensor, value: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            few = 2 * places.shape[1] <= width
            return _batch_function(width, places.dtype, few=few, measure=measure)(
                rows, places, value, *given
            )

        drawn, precisions, errors = zip(*self._side.each_batch(draw), strict=True)
        inactive = 1.0 - self._active
        self.rows = (
            _right_divided(self._side.in_row_order(list(drawn)), prior_root) + inactive * prior_mean
        )
        self.precision = (
            self._side.in_row_order(list(precisions))[:, 0] + inactive[:, 0] * standard / rate_now
        )
        self._prior_spread = inactive, prior_root, normal
        return tf.reduce_sum(tf.cast(tf.stack(errors), tf.float64))

    def begin(self, rows: Float32s) -> None:
        """Begin the chain at `rows`, spread out: a point estimate is shrunk, and a chain grows slowly where it would shrink fast.

        Rows and their prior's precision hold each other, the more so the more rows there are. On 9.5M ratings the sample's
        training RMSE was .755 after a dozen sweeps from least squares themselves, on its way to .715; spread out it is there.
        """
        noise = self._noise(tf.constant(-1, tf.int64)).normal(self.rows.shape, _START)
        self.rows = (rows + _INITIAL_SPREAD * noise) * self._active

    def sample(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return (rows, noise variances) of the sweep just drawn; a row without ratings is drawn from its prior here."""
        inactive, prior_root, normal = self._prior_spread
        return self.rows + inactive * _right_divided(normal, prior_root), 1.0 / self.precision

    def state(self, name: str) -> Arrays:
        """Return the sample, each array's name beginning with `name`."""
        arrays = {"rows": self.rows, "weights": self.weights, "precision": self.precision}
        return {f"{name}_{key}": tensor.numpy() for key, tensor in arrays.items()}

    def restore(self, state: Arrays, name: str) -> None:
        """Go on from what `state` returned."""
        self.rows, self.weights, self.precision = (
            tf.constant(state[f"{name}_{key}"]) for key in ("rows", "weights", "precision")
        )


class BayesianFactors(Solver):
    """The sampler, one sweep (users, then items) at a time, and the running mean of its samples."""

    unit = "sweep"

    def __init__(self, problem: Problem[BayesConfig]) -> None:
        """Put the ratings on the device; of `problem.limit` sweeps at most half are burn-in.

        Without a start the chain begins at a few sweeps of least squares.
        """
        super().__init__(problem)
        train, shape, config = problem.ratings, problem.shape, problem.settings
        data, seed, held_out = problem.data, problem.seed, problem.held_out
        attributes = problem.attributes
        self._mean = float(np.mean(train.value, dtype=np.float64))
        self._config, self._burn_in, self._held_out = (
            config,
            config.burn_in_iterations(problem.limit),
            held_out,
        )
        width = config.n_factors + 1
        users, items = both_sides(
            Ratings(train.user, train.item, train.value - np.float32(self._mean)), shape, width
        )
        scale = (data.scale_low - self._mean, data.scale_high - self._mean)
        matrices = (attributes.user, attributes.item) if attributes else (None, None)
        self._users, self._items = (
            _Half(
                mine,
                _features(mine, other, config, matrix, (seed, purpose)),
                width,
                seed,
                purpose,
                scale,
            )
            for mine, other, matrix, purpose in (
                (users, items, matrices[0], 0),
                (items, users, matrices[1], _PURPOSES_OF_A_SIDE),
            )
        )
        self._average = RunningMean(*shape, config.n_factors, 2 * config.output_factors)
        self._kept = KeptSamples(config.kept_samples)
        self._probe = _Probe(
            held_out or HeldOut(_some(train, seed), data.scale_low, data.scale_high), self._mean
        )
        self.note = (
            f"{self._burn_in} sweeps of burn-in, {self._users.weights.shape[0]} + {self._items.weights.shape[0]} features; "
            f"{padding_note(users, items)}"
        )
        self._begin: Callable[[], Start] | None = lambda: problem.start or _least_squares(problem)

    @classmethod
    def bytes_per_row(cls, settings: SolverConfig, shape: tuple[int, int]) -> int:
        """Return what a fit holds for each user and item, beside ratings and batches.

        With D = n_factors + 1, J features a side, S kept samples, R output factors and
        W = 2 R + max(256, 2 R), it is the larger of

            features   24 (J + 16)    while they are made; 0 without any
            sweeps     4 J + 4 (D + 1) S + 20 D + 4 W + max(4 W, 40 D)

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
        held = 4 * n_features + samples + 20 * width + 4 * columns
        return max(making, held + max(4 * columns, 40 * width))

    def iterate(self, iteration: int) -> float:
        """Run one sweep and return the sample's training RMSE, predictions clipped to the scale."""
        if self._begin:
            start, self._begin = self._begin(), None
            self._users.begin(start.user)
            self._items.begin(start.item)
        sweep = tf.constant(iteration, tf.int64)
        self._users.draw(sweep, self._items, rate=None, measure=False)
        squared_error = self._items.draw(sweep, self._users, rate=_NOISE_SHAPE, measure=True)
        if iteration >= self._burn_in:
            user, item = self._users.rows, self._items.rows
            self._average.add(user, item)
            self._probe.add(user, item)
            self._kept.offer(
                iteration - self._burn_in, lambda: (*self._users.sample(), *self._items.sample())
            )
        return float(np.sqrt(float(squared_error) / self.n_ratings))

    def samples(self) -> PosteriorSamples | None:
        """Return the kept samples, on the host; None where none is wanted."""
        return self._kept.samples()

    def validation_rmse(self) -> float | None:
        """Return the running mean's RMSE on the held-out part; None without such a part and during the burn-in."""
        return (
            self._probe.rmse(self._average.n_samples)
            if self._held_out and self._average.n_samples
            else None
        )

    def closing_note(self) -> str:
        """Say what it costs to hold the mean in `output_factors` factors."""
        exact, held = (
            self._probe.rmse(self._average.n_samples),
            self._probe.pairs.rmse(self.factors()),
        )
        part = "validation" if self._held_out else "training"
        return (
            f"the mean of {self._average.n_samples} samples in {self._config.output_factors} factors: {part} RMSE {held:.5f}, "
            f"uncompressed {exact:.5f}"
        )

    def state(self) -> Arrays:
        """Return all that the next sweep depends on, and the sums so far."""
        average = self._average.state() | self._probe.state() | self._kept.state()
        return self._users.state("user") | self._items.state("item") | average

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        self._users.restore(state, "user")
        self._items.restore(state, "item")
        self._average.restore(state)
        self._probe.restore(state)
        self._kept.restore(state)
        self._begin = None

    def factors(self) -> Factors:
        """Return the mean's arrays, on the host; those of the current sample before there is a mean."""
        if not self._average.n_samples:
            return Factors.of_rows(self._mean, self._users.rows.numpy(), self._items.rows.numpy())
        arrays = [tensor.numpy() for tensor in self._average.mean(self._config.output_factors)]
        return Factors(self._mean, *arrays)


class _Probe:
    """The pairs whose mean prediction is followed exactly, sweep by sweep."""

    def __init__(self, pairs: HeldOut, mean: float) -> None:
        """`mean` is added to every prediction."""
        self.pairs, self._mean = pairs, mean
        self._rows = tuple(
            tf.constant(rows.astype(np.int64)) for rows in (pairs.ratings.user, pairs.ratings.item)
        )
        self._sum = tf.zeros(len(pairs.ratings), tf.float64)
        self._predict = tf.function(self._predictions, reduce_retracing=True)

    def _predictions(self, user: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        mine, other = tf.gather(user, self._rows[0]), tf.gather(item, self._rows[1])
        biases = mine[:, -1] + other[:, -1]
        return tf.cast(biases + tf.reduce_sum(mine[:, :-1] * other[:, :-1], axis=1), tf.float64)

    def add(self, user: tf.Tensor, item: tf.Tensor) -> None:
        """Add a sample; each row of a side is (factors, bias)."""
        self._sum += self._predict(user, item)

    def rmse(self, n_samples: int) -> float:
        """Return the RMSE of the mean prediction of `n_samples`, clipped to the scale."""
        predicted = np.clip(
            self._mean + self._sum.numpy() / n_samples, self.pairs.low, self.pairs.high
        )
        return float(np.sqrt(np.mean(np.square(self.pairs.ratings.value - predicted))))

    def state(self) -> Arrays:
        """Return the sum so far."""
        return {"probe": self._sum.numpy()}

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        self._sum = tf.constant(state["probe"])


def _right_divided(table: tf.Tensor, triangular: tf.Tensor) -> tf.Tensor:
    """Return table @ inverse(triangular), shape (n, D); `triangular` (D, D) may be either half."""
    return tf.matmul(table, tf.linalg.inv(triangular))


def _features(
    mine: Side, other: Side, config: BayesConfig, attributes: Float32s | None, seed: tuple[int, int]
) -> Features:
    pattern = pattern_features(mine, other, config.pattern_rank, seed)
    return (
        pattern
        if attributes is None or not attributes.shape[1]
        else with_attributes(pattern, attributes, mine.active())
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
    )
    solver = ExplicitAls(simpler)
    for sweep in range(_SWEEPS_OF_LEAST_SQUARES):
        solver.iterate(sweep)
    return Start(**solver.state())


def _some(train: Ratings, seed: int) -> Ratings:
    """Return a seeded part of the training ratings, all of them where there are few."""
    rng = np.random.default_rng((seed, _PROBE))
    return train.take(np.sort(rng.permutation(len(train))[:_PROBE_RATINGS]))
