"""Figures as ratios of sums over users, and their intervals by bootstrap over users.

A figure is divided once, and a resample is the same ratio with each user counted as often as drawn
(Efron & Tibshirani 1993). Users are the unit since one user's ratings are not independent of each
other. All figures of one evaluation take the same resamples, which are drawn once for all of them.
"""

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from mf_core.data.ratings import Float64s

_DRAWN_AT_A_TIME = 1 << 22
# Columns wait for the draws in no more memory than so many numbers take.
_MOST_NUMBERS_WAITING = 1 << 24


@dataclass(frozen=True)
class Column:
    """One figure as sums per user: sum(numerator) / sum(denominator), or its square root.

    Attributes:
        metric: name of the figure.
        slice: rows or users that it is about.
        numerator, denominator: float64 arrays of shape (n_users,).
        n: ratings or users behind it.
        square_root: whether the figure is the root of the ratio.
    """

    metric: str
    slice: str
    numerator: Float64s
    denominator: Float64s
    n: int
    square_root: bool = False


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of an interval."""

    value: float
    low: float
    high: float


class Bootstrap:
    """Figures that wait for their intervals."""

    def __init__(self, samples: int, seed: int) -> None:
        """Wait for figures.

        Args:
            samples: how many resamples of the users are drawn.
            seed: of the draws.
        """
        self._samples = samples
        self._seed = seed
        self._waiting: dict[Hashable, tuple[Column, ...]] = {}
        self._numbers_waiting = 0
        self._measured: dict[Hashable, Estimate] = {}

    def add(self, key: Hashable, *columns: Column) -> None:
        """Have a column's figure measured, or the loss of two: the worse one's and the better's."""
        self._waiting[key] = columns
        self._numbers_waiting += sum(2 * len(column.numerator) for column in columns)
        if self._numbers_waiting > _MOST_NUMBERS_WAITING:
            self._measure()

    def estimates(self) -> dict[Hashable, Estimate]:
        """Return what was measured, by its key."""
        self._measure()
        return self._measured

    def _measure(self) -> None:
        """Draw the resamples for all figures that wait."""
        waiting = [column for columns in self._waiting.values() for column in columns]
        if not waiting:
            return
        points, resampled = resample(waiting, self._samples, self._seed)
        first = 0
        for key, columns in self._waiting.items():
            chosen = slice(first, first + len(columns))
            self._measured[key] = _estimate(points[chosen], resampled[:, chosen])
            first += len(columns)
        self._waiting.clear()
        self._numbers_waiting = 0


def _estimate(points: Float64s, resampled: Float64s) -> Estimate:
    """Return one column's figure, or the loss of two.

    `points` has shape (1,) or (2,), `resampled` (samples, 1) or (samples, 2).
    """
    if len(points) == 1:
        low, high = _percentiles(resampled[:, 0], [2.5, 97.5])
        return Estimate(float(points[0]), float(low), float(high))
    low, high = _percentiles(resampled[:, 0] - resampled[:, 1], [5.0, 95.0])
    return Estimate(float(points[0] - points[1]), float(low), float(high))


def estimate(column: Column, samples: int, seed: int) -> Estimate:
    """Return a column's figure with its 95% interval from `samples` resamples of the users."""
    return _estimate(*resample([column], samples, seed))


def paired_loss(worse: Column, better: Column, samples: int, seed: int) -> Estimate:
    """Return figure(worse) - figure(better) with its one-sided 95% bounds.

    The same users are drawn for both.
    """
    return _estimate(*resample([worse, better], samples, seed))


def _percentiles(resampled: Float64s, percents: list[float]) -> Float64s:
    """Return percentiles along the first axis, without the resamples that drew nobody."""
    with warnings.catch_warnings():
        # Where all resamples drew nobody the figure is NaN, and the gate refuses it.
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanpercentile(resampled, percents, axis=0))


def resample(columns: Sequence[Column], samples: int, seed: int) -> tuple[Float64s, Float64s]:
    """Return the figures and their bootstrap resamples.

    The same users are drawn for all columns, so that columns can be compared pairwise.

    Returns:
        Arrays of shape (n_columns,) and (samples, n_columns).
    """
    numerators = np.stack([column.numerator for column in columns], axis=1)
    denominators = np.stack([column.denominator for column in columns], axis=1)
    square_root = np.array([column.square_root for column in columns])

    def figures(top: Float64s, bottom: Float64s) -> Float64s:
        """Return each column's ratio, or its root; NaN where nobody stands below the line."""
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = top / bottom
            return np.where(square_root, np.sqrt(ratio), ratio)

    points = figures(numerators.sum(axis=0), denominators.sum(axis=0))
    n_users = len(numerators)
    generator = np.random.default_rng(seed)
    at_a_time = max(1, _DRAWN_AT_A_TIME // max(1, n_users))
    parts = []
    for start in range(0, samples, at_a_time):
        size = min(at_a_time, samples - start)
        weights = _times_drawn(generator, size, n_users)
        parts.append(figures(weights @ numerators, weights @ denominators))
    return points, np.concatenate(parts)


def _times_drawn(generator: np.random.Generator, size: int, n_users: int) -> Float64s:
    """Return how often each user is drawn in `size` resamples; shape (size, n_users)."""
    drawn = generator.integers(0, n_users, (size, n_users))

    # One count over all resamples: each has a range of numbers of its own.
    flat = (drawn + np.arange(size)[:, None] * n_users).ravel()
    counts = np.bincount(flat, minlength=size * n_users)
    return counts.reshape(size, n_users).astype(np.float64)
