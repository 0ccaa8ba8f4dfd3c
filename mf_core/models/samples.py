"""Kept samples of a posterior, and the standard deviation that they give a predicted rating.

    sd(u, i)^2 = Var_s(b_us + b_is + x_us . y_is) + E_s(1 / (alpha_us beta_is))

over the samples s: how unsure the model is of the rating it expects, plus the noise of a rating
around that. It is the predictive standard deviation: how far a rating that the user does give is
expected to lie from the prediction.
"""

from dataclasses import dataclass

import numpy as np

from mf_core.data.artifacts import npy_array, npy_bytes, read_file, read_manifest
from mf_core.data.ratings import Float32s, Float64s, Int32s

_PAIRS_AT_A_TIME = 1 << 16
_SIDES = ("user", "item")


@dataclass(frozen=True)
class PosteriorSamples:
    """Thinned samples of one fit, S of them, of ranks K.

    A row without ratings must hold draws too, from its prior: its prior's mean in every sample
    would make the model look sure.

    Attributes:
        user: float32 array of shape (S, n_users, K + 1): the factors, and the bias in the last
            column.
        item: float32 array of shape (S, n_items, K + 1).
        user_variance: float32 array of shape (S, n_users), 1 / alpha_u: the user's factor of a
            rating's noise variance.
        item_variance: float32 array of shape (S, n_items), 1 / beta_i: the item's.

    Raises:
        ValueError: the shapes don't agree, there is no sample, a number is not finite, or a
            variance is negative.
    """

    user: Float32s
    item: Float32s
    user_variance: Float32s
    item_variance: Float32s

    def __post_init__(self) -> None:
        if not len(self.user) or not self._shapes_agree():
            arrays = (self.user, self.item, self.user_variance, self.item_variance)
            shapes = [array.shape for array in arrays]
            raise ValueError(
                "expected (S, n, K + 1) for users and items and (S, n) for their variances, "
                f"got {shapes}"
            )

        # A sum is finite if all of it is, and takes no second array of that size.
        for array in vars(self).values():
            if not np.isfinite(array.sum(dtype=np.float64)):
                raise ValueError("expected finite samples, got NaN or infinity")

        for variance in (self.user_variance, self.item_variance):
            if variance.min(initial=0.0) < 0:
                raise ValueError("expected variances from 0, got a negative one")

    def _shapes_agree(self) -> bool:
        """Return whether both sides have the same S and K, and a variance per sample and row."""
        user = self.user.shape
        item = self.item.shape
        if user[0] != item[0] or user[-1] != item[-1]:
            return False

        variances_fit_users = self.user_variance.shape == user[:2]
        variances_fit_items = self.item_variance.shape == item[:2]
        return variances_fit_users and variances_fit_items

    def standard_deviation(self, user: Int32s, item: Int32s) -> Float64s:
        """Return the predictive standard deviation of each pair of rows, in rating units.

        Row -1 stands for an unknown id; nothing is known of how its row would vary, so its pairs
        get NaN.

        Returns:
            float64 array of shape (n,).
        """
        deviation = np.full(len(user), np.nan)
        known = np.flatnonzero((user >= 0) & (item >= 0))

        # In parts: S predictions of every pair at once would not fit into memory.
        for start in range(0, len(known), _PAIRS_AT_A_TIME):
            pairs = known[start : start + _PAIRS_AT_A_TIME]
            variance = self._variance(user[pairs], item[pairs])
            deviation[pairs] = np.sqrt(variance)
        return deviation

    def _variance(self, user: Int32s, item: Int32s) -> Float64s:
        """Return the variance of a rating for each pair of known rows."""
        n_samples = len(self.user)
        predicted = np.empty((n_samples, len(user)))
        noise = np.zeros(len(user))
        for sample in range(n_samples):
            user_rows = self.user[sample][user]
            item_rows = self.item[sample][item]

            # r_s = x_us . y_is + b_us + b_is, with the biases in the last column
            dots = np.einsum("nk,nk->n", user_rows[:, :-1], item_rows[:, :-1], dtype=np.float64)
            predicted[sample] = dots + user_rows[:, -1] + item_rows[:, -1]

            # 1 / (alpha_us beta_is)
            user_noise = self.user_variance[sample][user].astype(np.float64)
            noise += user_noise * self.item_variance[sample][item]

        # Var_s(r_s): unbiased, and 0 where there is one sample only.
        spread = predicted.var(axis=0, ddof=min(1, n_samples - 1))

        # sd^2 = Var_s(r_s) + E_s(noise)
        return np.asarray(spread + noise / n_samples)


def sample_files(samples: PosteriorSamples | None) -> dict[str, bytes]:
    """Return the samples as further files of the model's artifact, one per side and sample.

    A model without samples has none.
    """
    if samples is None:
        return {}

    files = {}
    for side in _SIDES:
        # One by one, so that whoever reads them holds no more than one twice.
        for number, rows in enumerate(getattr(samples, side)):
            files[_file(side, number)] = npy_bytes(rows)
        variance = getattr(samples, f"{side}_variance")
        files[_variance_file(side)] = npy_bytes(variance)
    return files


def load_samples(uri: str, sha256: str) -> PosteriorSamples | None:
    """Return the samples in the model's artifact at `uri`, None if it has none.

    They are read one by one into their place: beside the samples themselves no more than one is
    held twice.

    Raises:
        ArtifactError: the artifact is missing or damaged.
        ArtifactStoreError: the store can't be read.
    """
    manifest = read_manifest(uri, sha256)
    if _file("user", 0) not in manifest["files"]:
        return None

    def array(name: str) -> Float32s:
        """Return one of the artifact's arrays."""
        return npy_array(read_file(uri, name, manifest))

    def rows(side: str, n_samples: int) -> Float32s:
        """Return all samples of one side."""
        # The first one says how large the others are.
        first = array(_file(side, 0))
        samples = np.empty((n_samples, *first.shape), np.float32)
        samples[0] = first
        for number in range(1, n_samples):
            samples[number] = array(_file(side, number))
        return samples

    user_variance = array(_variance_file("user"))
    item_variance = array(_variance_file("item"))
    return PosteriorSamples(
        user=rows("user", len(user_variance)),
        item=rows("item", len(item_variance)),
        user_variance=user_variance,
        item_variance=item_variance,
    )


def _file(side: str, number: int) -> str:
    """Return the name of the file that holds one sample of one side."""
    return f"{side}_sample_{number:03d}.npy"


def _variance_file(side: str) -> str:
    """Return the name of the file that holds all samples of one side's noise variances."""
    return f"{side}_variance.npy"
