"""The prior of one side's factors, and its draws given the factors (Salakhutdinov & Mnih 2008; Simm et al. 2015, 'Macau').

Each row x of a side holds its factors and its bias, and has features f (`mf_core.solvers.pattern`):

    x ~ N(mu + C^T f, Lambda^-1)
    mu | Lambda ~ N(0, (2 Lambda)^-1),   Lambda ~ Wishart(D, I)
    each row of C ~ N(0, Lambda_C^-1),   Lambda_C ~ Wishart(D, I)

with D the width of x. All of it is conjugate: Lambda, then mu, then Lambda_C, then C come from one Gibbs step each. The features
are P S with orthonormal P, so the rows of C are independent given the rest,

    c_j ~ N(A_j^-1 s_j Lambda e_j, A_j^-1),   A_j = s_j^2 Lambda + Lambda_C,   e = P^T (X - mu)

and the exact draw is a batch of D x D systems where a dense ridge regression over F features would need one of F x F.
"""

import tensorflow as tf

from mf_core.solvers.pattern import Features
from mf_core.solvers.sampling import Noise, draw_gaussian, draw_wishart

_MEAN_STRENGTH = 2.0
_PRECISION, _MEAN, _WEIGHT_PRECISION, _WEIGHTS = 0, 2, 3, 5


class FactorPrior:
    """The prior of one side's rows."""

    def __init__(self, features: Features, active: tf.Tensor) -> None:
        """`active`, of shape (n_rows, 1), is 1 for the rows with ratings: the others tell nothing about the prior."""
        self._features, self._active = features, active
        self._n_active = tf.reduce_sum(active)

    def draw(
        self, noise: Noise, rows: tf.Tensor, weights: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return new (Lambda (D, D), prior means (n_rows, D), C (J, D)) given the `rows` (n_rows, D) and the old C."""
        precision, mean = self._draw_precision(
            noise, (rows - self._regression(weights)) * self._active
        )
        if weights.shape[0]:
            weights = self._draw_weights(noise, (rows - mean) * self._active, weights, precision)
        return precision, mean + self._regression(weights), weights

    def _regression(self, weights: tf.Tensor) -> tf.Tensor:
        return tf.matmul(self._features.basis, self._features.scale[:, None] * weights)

    def _draw_precision(self, noise: Noise, residual: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return Lambda and mu: the Normal-Wishart posterior of `residual`, whose inactive rows are 0."""
        width, n = residual.shape[1], self._n_active
        average = tf.reduce_sum(residual, axis=0) / n
        centred = (residual - average) * self._active
        shrunk = _MEAN_STRENGTH * n / (_MEAN_STRENGTH + n) * average[:, None] * average[None, :]
        scatter = tf.eye(width) + tf.matmul(centred, centred, transpose_a=True) + shrunk
        precision = draw_wishart(width + n, scatter, noise, _PRECISION)
        right = tf.linalg.matvec(precision, n * average)
        return precision, draw_gaussian(
            (_MEAN_STRENGTH + n) * precision, right, noise.normal((width,), _MEAN)
        )

    def _draw_weights(
        self, noise: Noise, residual: tf.Tensor, weights: tf.Tensor, precision: tf.Tensor
    ) -> tf.Tensor:
        n_features, width = weights.shape
        scatter = tf.eye(width) + tf.matmul(weights, weights, transpose_a=True)
        weight_precision = draw_wishart(
            tf.constant(float(width + n_features)), scatter, noise, _WEIGHT_PRECISION
        )
        scale = self._features.scale[:, None]
        projected = scale * tf.matmul(self._features.basis, residual, transpose_a=True)
        precisions = tf.square(scale)[:, :, None] * precision + weight_precision
        return draw_gaussian(
            precisions, tf.matmul(projected, precision), noise.normal((n_features, width), _WEIGHTS)
        )
