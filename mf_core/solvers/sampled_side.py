"""One side of the Gibbs sampler (`mf_core.solvers.bayes`): what a sweep draws for it."""

from typing import NamedTuple

import tensorflow as tf

from mf_core.data.ratings import Float32s
from mf_core.solvers.batch_draw import Errors, Given, batch_function
from mf_core.solvers.buckets import Side, with_zero_row
from mf_core.solvers.pattern import Features
from mf_core.solvers.prior import FactorPrior
from mf_core.solvers.sampling import Noise
from mf_core.solvers.solver import Arrays

# How far the start is spread out, and from how many ratings a row on so far.
_INITIAL_SPREAD = 0.2
_RATINGS_OF_FULL_SPREAD = 50.0
# The shape a of the noise precisions' prior: so much, and more for a row with few ratings.
_NOISE_SHAPE = 5.0
_NOISE_SHAPE_OF_FEW = 100.0
# What each of a sweep's draws is for; those below `_ROW_NOISE` belong to `mf_core.solvers.prior`.
_ROW_NOISE = 6
_ROW_PRECISION = 7
_LEVEL = 8
_START = 9


class _PriorDraw(NamedTuple):
    """What a sweep draws for one side before its rows: its prior, and noise for the rows."""

    root: tf.Tensor  # R, with R R^T = Lambda
    mean: tf.Tensor  # mu + C^T f of every row
    weights: tf.Tensor  # C
    standard: tf.Tensor  # Gamma draws of rate 1, one per row
    normal: tf.Tensor  # normal draws, of the shape of the rows


class SampledSide:
    """One side: its ratings, its prior, and the current sample of it.

    The sample is `rows`, the regression `weights` and the noise precisions `precision`; `expected`
    is the mean of the distribution that `rows` were drawn from.
    """

    def __init__(
        self,
        side: Side,
        features: Features,
        width: int,
        noise: Noise,
        scale: tuple[float, float],
    ) -> None:
        """`noise` is that of the start of the chain, `scale` the rating scale."""
        self._side = side
        self._scale = tf.constant(scale)
        self._active = side.active()
        self._prior = FactorPrior(features, self._active)
        self._noise = noise
        self.rows = tf.zeros((side.n_rows, width))
        self.expected = self.rows
        self.weights = tf.zeros((features.scale.shape[0], width))
        self.precision = tf.ones(side.n_rows)
        self._level = tf.ones(())
        self._shape = _NOISE_SHAPE + _NOISE_SHAPE_OF_FEW / tf.maximum(side.count, 1.0)
        self._draw_prior = tf.function(self._prior_of_sweep)

    def begin(self, rows: Float32s) -> None:
        """Begin the chain at `rows`, spread out.

        A point estimate is shrunk, and a chain grows slowly where it would shrink fast: rows and
        their prior's precision hold each other, the more so the more rows there are. On 9.5M
        ratings the sample's training RMSE was .755 after a dozen sweeps from least squares
        themselves, on its way to .715; spread out it is there. Rows with few ratings end small, and
        shrink as slowly.
        """
        per_row = tf.reduce_sum(self._side.count) / tf.reduce_sum(self._active)
        spread = _INITIAL_SPREAD * tf.minimum(1.0, per_row / _RATINGS_OF_FULL_SPREAD)
        noise = self._noise.normal(self.rows.shape, _START)
        self.rows = (rows + spread * noise) * self._active

    def draw(self, sweep: tf.Tensor, other: "SampledSide", *, measure: bool) -> Errors:
        """Draw everything of this side given the `other`.

        Returns the squared errors if `measure`, else zeros.
        """
        prior = self._draw_prior(sweep, self.rows, self.weights)
        rate = self._shape / self._level
        given = self._given(other, prior, rate)
        width = self.rows.shape[1]

        def draw_batch(
            rows: tf.Tensor, places: tf.Tensor, value: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, Errors]:
            """Draw one batch, by the smaller matrices where its rows have few ratings."""
            few = 2 * places.shape[1] <= width
            function = batch_function(width, places.dtype, few=few, measure=measure)
            return function(rows, places, value, *given)

        drawn, precisions, errors = zip(*self._side.each_batch(draw_batch), strict=True)

        # x = R^-T x~; a row without ratings has its prior's mean.
        inactive = 1.0 - self._active
        both = self._side.in_row_order(list(drawn))
        self.rows = _right_divided(both[:, :width], prior.root) + inactive * prior.mean
        self.expected = _right_divided(both[:, width:], prior.root) + inactive * prior.mean

        # Such a row's precision is a draw from its prior.
        precision = self._side.in_row_order(list(precisions))[:, 0]
        self.precision = precision + inactive[:, 0] * prior.standard / rate

        self.weights = prior.weights
        self._spread = (prior.normal, prior.root)
        return Errors(*(self._side.total_of(kind) for kind in zip(*errors, strict=True)))

    def draw_level(self, sweep: tf.Tensor, weighted: tf.Tensor, n_ratings: int) -> None:
        """Draw tau, which all precisions have in common, given the `weighted` squared errors.

        tau ~ Gamma(1 + n / 2, rate 1 + S / 2) with S those errors at tau = 1.
        """
        errors = tf.cast(weighted, tf.float32) / self._level
        shape = tf.constant([1.0 + 0.5 * n_ratings])
        level = self._noise.of_sweep(sweep).gamma(shape, _LEVEL)[0] / (1.0 + 0.5 * errors)
        self.precision *= level / self._level
        self._level = level

    def _prior_of_sweep(self, sweep: tf.Tensor, rows: tf.Tensor, weights: tf.Tensor) -> _PriorDraw:
        """Draw this side's prior given its rows, and the noise that the rows will be drawn with."""
        noise = self._noise.of_sweep(sweep)
        prior_precision, prior_mean, new_weights = self._prior.draw(noise, rows, weights)

        return _PriorDraw(
            root=tf.linalg.cholesky(prior_precision),
            mean=prior_mean,
            weights=new_weights,
            standard=noise.gamma(self._shape + 0.5 * self._side.count, _ROW_PRECISION),
            normal=noise.normal(tf.shape(rows), _ROW_NOISE),
        )

    def _given(self, other: "SampledSide", prior: _PriorDraw, rate: tf.Tensor) -> Given:
        """Return what the rows are drawn from, in coordinates where the prior's precision is I."""
        # Every place is weighted once for all: its rows and scalars are times beta^.5.
        root = tf.sqrt(other.precision)[:, None]
        factors = other.rows[:, :-1]
        bias = other.rows[:, -1:]
        weighted = tf.concat([factors * root, root], axis=1)
        scalars = tf.concat([bias * root, root], axis=1)

        # G~ = G R^-T, x~ = R^T x.
        table = _right_divided(weighted, tf.transpose(prior.root))
        return Given(
            table=with_zero_row(table),
            scalars=with_zero_row(scalars),
            rows=tf.matmul(self.rows, prior.root),
            prior_mean=tf.matmul(prior.mean, prior.root),
            standard=prior.standard,
            rate=rate,
            normal=prior.normal,
            scale=self._scale,
        )

    def sample(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return (rows, noise variances) of the sweep just drawn.

        A row without ratings is drawn from its prior here.
        """
        # x ~ N(mean, Lambda^-1): the mean is there, and R^-T z has the covariance Lambda^-1.
        spread = _right_divided(*self._spread)
        return self.rows + (1.0 - self._active) * spread, 1.0 / self.precision

    def state(self, name: str) -> Arrays:
        """Return the sample, each array's name beginning with `name`."""
        return {
            f"{name}_rows": self.rows.numpy(),
            f"{name}_weights": self.weights.numpy(),
            f"{name}_precision": self.precision.numpy(),
            f"{name}_level": self._level.numpy().reshape(1),
        }

    def restore(self, state: Arrays, name: str) -> None:
        """Go on from what `state` returned."""
        self.rows = tf.constant(state[f"{name}_rows"])
        self.weights = tf.constant(state[f"{name}_weights"])
        self.precision = tf.constant(state[f"{name}_precision"])
        self._level = tf.constant(state[f"{name}_level"][0])


def _right_divided(table: tf.Tensor, triangular: tf.Tensor) -> tf.Tensor:
    """Return table @ inverse(triangular), shape (n, D); `triangular` (D, D) may be either half."""
    inverse = tf.linalg.inv(triangular)
    return tf.matmul(table, inverse)
