"""Biases alone: the mean, what a user adds to it and what an item adds, with tuned dampings.

    r(u, i) ~ N(mean + b_u + b_i, s^2),   b_u ~ N(0, t_user^2),   b_i ~ N(0, t_item^2)

Given the variances, the posterior mean of a bias is a damped mean (Koren 2010, 'Factor in the
neighbors'): b_i = sum(r - mean - b_u) / (n_i + d_item) with the damping d_item = s^2 / t_item^2, in
ratings, and likewise for users. The variances are those under which the ratings are likeliest: each
sweep sets them from the biases and from how unsure those are, v_i = s^2 / (n_i + d_item) (empirical
Bayes by EM, Dempster, Laird & Rubin 1977; both sides are taken as independent given the ratings).
That chooses the dampings as well as a grid on a validation part does, needs no such part, and costs
next to nothing.
"""

import numpy as np

from mf_core.data.ratings import Float64s, Ratings

SWEEPS = 12
# Where the variances begin, as a share of that of the ratings: a few sweeps forget it.
_FIRST_SHARE = 0.2
_LEAST_VARIANCE = 1e-12


class BiasesFit:
    """One fit on its way, a sweep at a time.

    Attributes:
        mean: the mean that the biases are added to.
        user: float64 array of shape (n_users,), b_u; 0 without ratings.
        item: float64 array of shape (n_items,), b_i; 0 without ratings.
    """

    def __init__(self, ratings: Ratings, shape: tuple[int, int]) -> None:
        """`shape` is (n_users, n_items)."""
        self._ratings = ratings
        n_users, n_items = shape
        self.mean = float(ratings.value.mean(dtype=np.float64))
        self.user = np.zeros(n_users)
        self.item = np.zeros(n_items)

        variance = max(float(ratings.value.var(dtype=np.float64)), _LEAST_VARIANCE)
        self._noise = variance
        self._user_side = _Side(ratings.user, n_users, variance)
        self._item_side = _Side(ratings.item, n_items, variance)

    def sweep(self) -> float:
        """Set items, users, variances and mean once each; return the training RMSE before that.

        It is that of the biases just set, with the mean and the variances of the sweep before.
        """
        ratings = self._ratings
        noise = self._noise
        centred = ratings.value - self.mean

        # Each side explains what the other leaves.
        of_items = centred - self.user[ratings.user]
        self.item = self._item_side.biases(of_items, noise)
        of_users = centred - self.item[ratings.item]
        self.user = self._user_side.biases(of_users, noise)
        error = of_users - self.user[ratings.user]
        mean_square = float(np.mean(np.square(error)))

        # s^2 = E (r - mean - b_u - b_i)^2, the biases being as unsure as they are.
        unsure = self._item_side.tell(self.item, noise)
        unsure += self._user_side.tell(self.user, noise)
        self._noise = mean_square + unsure / len(error)
        self.mean += float(error.mean())
        return mean_square**0.5

    def dampings(self) -> tuple[float, float]:
        """Return (d_user, d_item), in ratings."""
        return self._user_side.damping(self._noise), self._item_side.damping(self._noise)

    def state(self) -> Float64s:
        """Return all that the next sweep depends on, as one array."""
        numbers = [self.mean, self._noise, self._user_side.variance, self._item_side.variance]
        return np.concatenate([numbers, self.user])

    def restore(self, state: Float64s) -> None:
        """Go on from what `state` returned."""
        self.mean, self._noise, user_variance, item_variance = map(float, state[:4])
        self._user_side.variance = user_variance
        self._item_side.variance = item_variance
        self.user = state[4:]


class _Side:
    """The users or the items: how many ratings each row has, and the variance of its bias."""

    def __init__(self, rows: np.ndarray, n_rows: int, of_ratings: float) -> None:
        self._rows = rows
        self._count = np.bincount(rows, minlength=n_rows)
        self.variance = _FIRST_SHARE * of_ratings

    def damping(self, noise: float) -> float:
        """Return the damping of the side's means, in ratings."""
        return noise / self.variance

    def biases(self, left: Float64s, noise: float) -> Float64s:
        """Return the damped mean of what is `left` of each row's ratings."""
        total = np.bincount(self._rows, left, minlength=len(self._count))
        return np.asarray(total / (self._count + self.damping(noise)))

    def tell(self, biases: Float64s, noise: float) -> float:
        """Set the variance anew; return the sum over the ratings of how unsure the biases are."""
        unsure = noise / (self._count + self.damping(noise))
        rated = self._count > 0
        # t^2 = E b^2, over the rows with ratings
        second_moment = np.square(biases[rated]) + unsure[rated]
        self.variance = float(second_moment.mean())
        return float(self._count @ unsure)


def fit_biases(ratings: Ratings, shape: tuple[int, int]) -> BiasesFit:
    """Return the finished fit to `ratings` of `shape` (n_users, n_items)."""
    fit = BiasesFit(ratings, shape)
    for _ in range(SWEEPS):
        fit.sweep()
    return fit
