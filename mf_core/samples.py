"""Kept samples of a posterior, and the standard deviation that they give a predicted rating.

    sd(u, i)^2 = Var_s(b_us + b_is + x_us . y_is) + E_s(1 / (alpha_us beta_is))

over the samples s: how unsure the model is of the rating it expects, plus the noise of a rating around that. It is the
predictive standard deviation: how far a rating that the user does give is expected to lie from the prediction.
"""

from dataclasses import dataclass

import numpy as np

from mf_core.artifacts import npy_array, npy_bytes, read_file, read_manifest
from mf_core.ratings import Float32s, Float64s, Int32s

_PAIRS_AT_A_TIME = 1 << 16
_SIDES = ("user", "item")


@dataclass(frozen=True)
class PosteriorSamples:
    """Thinned samples of one fit, S of them, of ranks K.

    A row without ratings must hold draws too, from its prior: its prior's mean in every sample would make the model look sure.

    Attributes:
        user: float32 array of shape (S, n_users, K + 1): the factors, and the bias in the last column.
        item: float32 array of shape (S, n_items, K + 1).
        user_variance: float32 array of shape (S, n_users), 1 / alpha_u: the user's factor of a rating's noise variance.
        item_variance: float32 array of shape (S, n_items), 1 / beta_i: the item's.

    Raises:
        ValueError: the shapes don't agree, there is no sample, a number is not finite, or a variance is negative.
    """

    user: Float32s
    item: Float32s
    user_variance: Float32s
    item_variance: Float32s

    def __post_init__(self) -> None:
        shapes = [
            array.shape for array in (self.user, self.item, self.user_variance, self.item_variance)
        ]
        if (
            not len(self.user)
            or shapes[2:] != [self.user.shape[:2], self.item.shape[:2]]
            or self._ranks() != 1
        ):
            raise ValueError(
                f"expected (S, n, K + 1) for users and items and (S, n) for their variances, got {shapes}"
            )
        # A sum is finite if all of it is, and takes no second array of that size.
        if not all(np.isfinite(array.sum(dtype=np.float64)) for array in vars(self).values()):
            raise ValueError("expected finite samples, got NaN or infinity")
        if min(array.min(initial=0.0) for array in (self.user_variance, self.item_variance)) < 0:
            raise ValueError("expected variances from 0, got a negative one")

    def _ranks(self) -> int:
        return len({(array.shape[0], array.shape[-1]) for array in (self.user, self.item)})

    def standard_deviation(self, user: Int32s, item: Int32s) -> Float64s:
        """Return the predictive standard deviation of each pair of rows; float64 array of shape (n,), in rating units.

        Row -1 stands for an unknown id; nothing is known of how its row would vary, so its pairs get NaN.
        """
        deviation = np.full(len(user), np.nan)
        known = np.flatnonzero((user >= 0) & (item >= 0))
        for start in range(0, len(known), _PAIRS_AT_A_TIME):
            pairs = known[start : start + _PAIRS_AT_A_TIME]
            deviation[pairs] = np.sqrt(self._variance(user[pairs], item[pairs]))
        return deviation

    def _variance(self, user: Int32s, item: Int32s) -> Float64s:
        predicted = np.empty((len(self.user), len(user)))
        noise = np.zeros(len(user))
        for sample in range(len(self.user)):
            mine, other = self.user[sample][user], self.item[sample][item]
            dots = np.einsum("nk,nk->n", mine[:, :-1], other[:, :-1], dtype=np.float64)
            predicted[sample] = dots + mine[:, -1] + other[:, -1]
            noise += (
                self.user_variance[sample][user].astype(np.float64)
                * self.item_variance[sample][item]
            )
        spread = predicted.var(axis=0, ddof=min(1, len(predicted) - 1))
        return np.asarray(spread + noise / len(predicted))


def sample_files(samples: PosteriorSamples | None) -> dict[str, bytes]:
    """Return the samples as further files of the model's artifact, one per side and sample; none for None."""
    files = {}
    for side in _SIDES if samples else ():
        for number, rows in enumerate(getattr(samples, side)):
            files[_file(side, number)] = npy_bytes(rows)
        files[f"{side}_variance.npy"] = npy_bytes(getattr(samples, f"{side}_variance"))
    return files


def load_samples(uri: str, sha256: str) -> PosteriorSamples | None:
    """Return the samples in the model's artifact at `uri`, None if it has none.

    They are read one by one into their place: beside the samples themselves no more than one is held twice.

    Raises:
        ArtifactError: the artifact is missing or damaged.
        ArtifactStoreError: the store can't be read.
    """
    manifest = read_manifest(uri, sha256)
    if _file("user", 0) not in manifest["files"]:
        return None
    arrays: dict[str, Float32s] = {}
    for side in _SIDES:
        variance = npy_array(read_file(uri, f"{side}_variance.npy", manifest))
        first = npy_array(read_file(uri, _file(side, 0), manifest))
        rows = np.empty((len(variance), *first.shape), np.float32)
        rows[0] = first
        for number in range(1, len(variance)):
            rows[number] = npy_array(read_file(uri, _file(side, number), manifest))
        arrays |= {side: rows, f"{side}_variance": variance}
    return PosteriorSamples(**arrays)


def _file(side: str, number: int) -> str:
    return f"{side}_sample_{number:03d}.npy"
