"""Conjugate gradients on the ridge regressions of many rows at once, with a diagonal preconditioner.

The K x K matrices of the normal equations are never formed (Takacs, Pilaszy & Tikk 2011, 'Applications of the conjugate gradient
method for implicit feedback collaborative filtering').
"""

import tensorflow as tf


def improve(
    design: tf.Tensor,
    diagonal: tf.Tensor,
    scale: tf.Tensor,
    target: tf.Tensor,
    start: tf.Tensor,
    steps: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return x after `steps` steps on (G^T G + diag) x = G^T t from `start`, shape (B, K), and the sum of (t - G x)^2.

    `design` G has shape (B, L, K), `diagonal`, the preconditioner `scale` and `start` (B, K), `target` t (B, L).
    """
    error = target - _times(design, start)
    gradient = _transposed_times(design, error)
    change, residual = _conjugate_gradients(
        design, diagonal, scale, gradient - diagonal * start, steps
    )
    # |t - G x|^2 without another pass over G; a padded place has no error.
    curvature = gradient - diagonal * start - residual - diagonal * change  # G^T G change
    return start + change, tf.reduce_sum(tf.square(error)) - tf.reduce_sum(
        change * (2.0 * gradient - curvature)
    )


def _conjugate_gradients(
    design: tf.Tensor, diagonal: tf.Tensor, scale: tf.Tensor, residual: tf.Tensor, steps: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return (d, remaining residual) after `steps` steps on (G^T G + diag) d = residual from d = 0, preconditioned by `scale`."""
    change, scaled = tf.zeros_like(residual), scale * residual
    direction, length = scaled, tf.reduce_sum(residual * scaled, axis=1, keepdims=True)
    for step in range(steps):
        image = _transposed_times(design, _times(design, direction)) + diagonal * direction
        stride = tf.math.divide_no_nan(
            length, tf.reduce_sum(direction * image, axis=1, keepdims=True)
        )
        change, residual = change + stride * direction, residual - stride * image
        if step + 1 < steps:
            scaled, before = scale * residual, length
            length = tf.reduce_sum(residual * scaled, axis=1, keepdims=True)
            direction = scaled + tf.math.divide_no_nan(length, before) * direction
    return change, residual


def _times(design: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    return tf.matmul(design, vector[:, :, None])[:, :, 0]


def _transposed_times(design: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    return tf.matmul(design, vector[:, :, None], transpose_a=True)[:, :, 0]
