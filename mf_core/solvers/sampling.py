"""Conjugate draws, batched and stateless.

Every draw is keyed by (seed, sweep, purpose), so a sweep can be repeated bit for bit.

Gaussian with precision A and right side b (mean A^-1 b): with A = L L^T,

    x = L^-T (L^-1 b + z),   z ~ N(0, I)

Regression t = G x + e of unit noise and prior x ~ N(0, I), with fewer observations than unknowns:
with G G^T + I = L L^T,

    x = z + G^T L^-T (L^-1 t - (L + I)^-1 G z),   z ~ N(0, I)

since I - G^T L^-T (L + I)^-1 G is a square root of (G^T G + I)^-1 (Andrews 1968, 'A square root
formulation of the Kalman covariance equations').

Wishart with nu degrees of freedom and scale Psi^-1 (Bartlett 1933): with Psi = R R^T and A lower
triangular, A_kk^2 ~ chi^2(nu - k), A_kl ~ N(0, 1) below the diagonal,

    Lambda = (R^-T A) (R^-T A)^T
"""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

_PURPOSES = 64
# How much of a row's last deviation from its mean is turned round (a in `Draw.over_relaxed`).
_OVER_RELAXATION = 0.8


@dataclass(frozen=True)
class Noise:
    """The source of one side's draws in one sweep. `purpose`, below 16, tells them apart.

    Attributes:
        seed: the run's.
        sweep: int64 scalar tensor.
        first_purpose: where this side's purposes begin.
    """

    seed: int
    sweep: tf.Tensor
    first_purpose: int = 0

    def of_sweep(self, sweep: tf.Tensor) -> "Noise":
        """Return the same side's source for another sweep."""
        return dataclasses.replace(self, sweep=sweep)

    def _key(self, purpose: int) -> tf.Tensor:
        """Return the seed of one draw, which no other draw of the run has."""
        seed = tf.constant(self.seed, tf.int64)
        draw = self.sweep * _PURPOSES + self.first_purpose + purpose
        return tf.stack([seed, draw])

    def normal(self, shape: tuple[int, ...] | tf.Tensor, purpose: int) -> tf.Tensor:
        """Return standard normal draws, float32 tensor of `shape`."""
        key = self._key(purpose)
        return tf.random.stateless_normal(shape, key)

    def gamma(self, shape: tf.Tensor, purpose: int) -> tf.Tensor:
        """Return one Gamma(shape, rate 1) draw per element of `shape`, float32 tensor."""
        key = self._key(purpose)
        return tf.random.stateless_gamma(tf.shape(shape), key, alpha=shape)


class Draw(NamedTuple):
    """Draws of a Gaussian and its mean, of the same shape."""

    drawn: tf.Tensor
    mean: tf.Tensor

    def over_relaxed(self, old: tf.Tensor) -> "Draw":
        """Return draws that fall on the other side of the mean than the `old` ones did.

        With deviations d from the mean, d' = sqrt(1 - a^2) d - a d_old: if d_old has the Gaussian's
        covariance, so has d' (Adler 1981, 'Over-relaxation method for the Monte Carlo evaluation of
        the partition function for multiquadratic actions').
        """
        a = _OVER_RELAXATION
        deviation = (1 - a**2) ** 0.5 * (self.drawn - self.mean) - a * (old - self.mean)
        return Draw(self.mean + deviation, self.mean)


def draw_gaussian(precision: tf.Tensor, right: tf.Tensor, noise: tf.Tensor) -> Draw:
    """Return draws from N(A^-1 b, A^-1), shape (..., K).

    `precision` A is (..., K, K), `right` b and `noise` are (..., K).
    """
    # x = L^-T (L^-1 b + z), and its mean is the same without z.
    lower = tf.linalg.cholesky(precision)
    right_column = right[..., None]
    forward = tf.linalg.triangular_solve(lower, right_column)
    noisy = forward + noise[..., None]

    # Both in one solve.
    both = tf.concat([noisy, forward], axis=-1)
    solved = tf.linalg.triangular_solve(lower, both, adjoint=True)
    drawn = solved[..., 0]
    mean = solved[..., 1]
    return Draw(drawn, mean)


def draw_from_few(design: tf.Tensor, target: tf.Tensor, noise: tf.Tensor) -> Draw:
    """Return draws from N(A^-1 G^T t, A^-1) with A = G^T G + I, shape (B, K).

    They come by way of the (L, L) matrices G G^T + I. `design` G is (B, L, K), `target` t (B, L),
    `noise` (B, K).
    """
    # G G^T + I = L L^T
    identity = tf.eye(tf.shape(design)[1])
    gram = tf.matmul(design, design, transpose_b=True)
    lower = tf.linalg.cholesky(gram + identity)

    # L^-1 t - (L + I)^-1 G z
    image = tf.matmul(design, noise[..., None])
    drawn = tf.linalg.triangular_solve(lower + identity, image)
    forward = tf.linalg.triangular_solve(lower, target[..., None])

    # x = z + G^T L^-T (...), and its mean is the same without z.
    both = tf.concat([forward - drawn, forward], axis=-1)
    backward = tf.linalg.triangular_solve(lower, both, adjoint=True)
    solved = tf.matmul(design, backward, transpose_a=True)
    return Draw(noise + solved[..., 0], solved[..., 1])


def draw_wishart(
    degrees: tf.Tensor, scale_inverse: tf.Tensor, noise: Noise, purpose: int
) -> tf.Tensor:
    """Return a (K, K) draw from the Wishart distribution.

    It takes two purposes, `purpose` and the next one.
    """
    # Bartlett's A: chi^2(nu - k) is twice a Gamma draw of half that shape.
    width = scale_inverse.shape[-1]
    half_degrees = 0.5 * (degrees - tf.range(width, dtype=tf.float32))
    chi_square = 2.0 * noise.gamma(half_degrees, purpose)
    normal = noise.normal((width, width), purpose + 1)
    below = tf.linalg.band_part(normal, -1, 0)
    bartlett = tf.linalg.set_diag(below, tf.sqrt(chi_square))

    # Lambda = (R^-T A) (R^-T A)^T
    lower = tf.linalg.cholesky(scale_inverse)
    root = tf.linalg.triangular_solve(lower, bartlett, adjoint=True)
    return tf.matmul(root, root, transpose_b=True)
