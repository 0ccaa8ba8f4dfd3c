"""The prior of one side's factors, and its draws given the factors.

After Salakhutdinov & Mnih 2008, and Simm et al. 2015, 'Macau'. Each row x of a side holds its
factors and its bias, and has features f (`mf_core.solvers.pattern`):

    x ~ N(mu + C^T f, Lambda^-1)
    mu | Lambda ~ N(0, (2 Lambda)^-1),   Lambda ~ Wishart(D, I)
    each row of C ~ N(0, Lambda_C^-1),   Lambda_C ~ Wishart(D, I)

with D the width of x. All of it is conjugate: Lambda, then mu, then Lambda_C, then C come from one
Gibbs step each. The features are P S with orthonormal P, so the rows of C are independent given the
rest,

    c_j ~ N(A_j^-1 s_j Lambda e_j, A_j^-1),   A_j = s_j^2 Lambda + Lambda_C,   e = P^T (X - mu)

and the exact draw is a batch of D x D systems where a dense ridge regression over F features would
need one of F x F.
"""

import tensorflow as tf

from mf_core.solvers.pattern import Features
from mf_core.solvers.sampling import Noise, draw_gaussian, draw_wishart

_MEAN_STRENGTH = 2.0
# What each draw is for; a Wishart draw takes two purposes.
_PRECISION = 0
_MEAN = 2
_WEIGHT_PRECISION = 3
_WEIGHTS = 5


class FactorPrior:
    """The prior of one side's rows."""

    def __init__(self, features: Features, active: tf.Tensor) -> None:
        """`active`, of shape (n_rows, 1), is 1 for the rows with ratings.

        The others tell nothing about the prior.
        """
        self._features = features
        self._active = active
        self._n_active = tf.reduce_sum(active)

    def draw(
        self, noise: Noise, rows: tf.Tensor, weights: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return new (Lambda (D, D), prior means (n_rows, D), C (J, D)).

        They are drawn given the `rows` (n_rows, D) and the old C.
        """
        # Lambda and mu, given what the old C leaves unexplained.
        unexplained = (rows - self._regression(weights)) * self._active
        precision, mean = self._draw_precision(noise, unexplained)

        # C, given the new Lambda and mu.
        if weights.shape[0]:
            deviation = (rows - mean) * self._active
            weights = self._draw_weights(noise, deviation, weights, precision)
        return precision, mean + self._regression(weights), weights

    def _regression(self, weights: tf.Tensor) -> tf.Tensor:
        """Return C^T f of every row, as P (S C)."""
        scaled = self._features.scale[:, None] * weights
        return tf.matmul(self._features.basis, scaled)

    def _draw_precision(self, noise: Noise, residual: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return Lambda and mu: the Normal-Wishart posterior of `residual`.

        Its inactive rows are 0.
        """
        width = residual.shape[1]
        n = self._n_active
        average = tf.reduce_sum(residual, axis=0) / n

        # Psi = I + sum (e - e_mean)(e - e_mean)^T + k n / (k + n) e_mean e_mean^T
        centred = (residual - average) * self._active
        spread = tf.matmul(centred, centred, transpose_a=True)
        strength = _MEAN_STRENGTH * n / (_MEAN_STRENGTH + n)
        shrunk = strength * average[:, None] * average[None, :]
        scatter = tf.eye(width) + spread + shrunk
        precision = draw_wishart(width + n, scatter, noise, _PRECISION)

        # mu ~ N(n e_mean / (k + n), ((k + n) Lambda)^-1)
        right = tf.linalg.matvec(precision, n * average)
        normal = noise.normal((width,), _MEAN)
        mean = draw_gaussian((_MEAN_STRENGTH + n) * precision, right, normal).drawn
        return precision, mean

    def _draw_weights(
        self, noise: Noise, residual: tf.Tensor, weights: tf.Tensor, precision: tf.Tensor
    ) -> tf.Tensor:
        """Return C (J, D), given X - mu and Lambda."""
        # Lambda_C | C ~ Wishart(D + J, (I + C^T C)^-1)
        n_features, width = weights.shape
        scatter = tf.eye(width) + tf.matmul(weights, weights, transpose_a=True)
        degrees = tf.constant(float(width + n_features))
        weight_precision = draw_wishart(degrees, scatter, noise, _WEIGHT_PRECISION)

        # A_j = s_j^2 Lambda + Lambda_C, and the right sides s_j Lambda e_j.
        scale = self._features.scale[:, None]
        projected = scale * tf.matmul(self._features.basis, residual, transpose_a=True)
        right = tf.matmul(projected, precision)
        square = tf.square(scale)[:, :, None]
        precisions = square * precision + weight_precision
        normal = noise.normal((n_features, width), _WEIGHTS)
        return draw_gaussian(precisions, right, normal).drawn
