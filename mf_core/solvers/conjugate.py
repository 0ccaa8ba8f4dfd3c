"""Conjugate gradients on the ridge regressions of many rows at once.

The K x K matrices of the normal equations are never formed (Takacs, Pilaszy & Tikk 2011,
'Applications of the conjugate gradient method for implicit feedback collaborative filtering').
"""

import tensorflow as tf


def improve(
    design: tf.Tensor,
    diagonal: tf.Tensor,
    scale: tf.Tensor,
    target: tf.Tensor,
    start: tf.Tensor,
    *,
    steps: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return x after `steps` steps from `start`, shape (B, K), and the sum of (t - G x)^2.

    The equations are (G^T G + diag) x = G^T t. `design` G has shape (B, L, K), `diagonal`, the
    preconditioner `scale` and `start` (B, K), `target` t (B, L).
    """
    # With x = x_0 + d the equations of d have the right side G^T (t - G x_0) - diag x_0.
    error = target - _times(design, start)
    gradient = _transposed_times(design, error)
    right = gradient - diagonal * start
    change, residual = _conjugate_gradients(design, diagonal, scale, residual=right, steps=steps)

    # |t - G x|^2 = |e|^2 - d . (2 G^T e - G^T G d), and G^T G d is what the residual leaves of the
    # right side: so it takes no other pass over G. A padded place has no error.
    curvature = right - residual - diagonal * change
    gained = tf.reduce_sum(change * (2.0 * gradient - curvature))
    squared_error = tf.reduce_sum(tf.square(error)) - gained
    return start + change, squared_error


def _conjugate_gradients(
    design: tf.Tensor, diagonal: tf.Tensor, scale: tf.Tensor, residual: tf.Tensor, steps: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return (d, remaining residual) after `steps` steps on (G^T G + diag) d = residual.

    They begin at d = 0 and are preconditioned by `scale`.
    """
    change = tf.zeros_like(residual)
    direction = scale * residual
    length = _dot(residual, direction)
    for step in range(steps):
        # The stride that minimises the quadratic form along the direction.
        image = _transposed_times(design, _times(design, direction)) + diagonal * direction
        stride = tf.math.divide_no_nan(length, _dot(direction, image))
        change = change + stride * direction
        residual = residual - stride * image

        # The next direction, conjugate to all before; after the last step nobody needs it.
        if step + 1 < steps:
            scaled = scale * residual
            before = length
            length = _dot(residual, scaled)
            direction = scaled + tf.math.divide_no_nan(length, before) * direction
    return change, residual


def _dot(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Return the dot product of each row, shape (B, 1)."""
    return tf.reduce_sum(left * right, axis=1, keepdims=True)


def _times(design: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    """Return G v of each row of the batch, shape (B, L)."""
    return tf.matmul(design, vector[:, :, None])[:, :, 0]


def _transposed_times(design: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    """Return G^T v of each row of the batch, shape (B, K)."""
    return tf.matmul(design, vector[:, :, None], transpose_a=True)[:, :, 0]
