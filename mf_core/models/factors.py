"""The model that every solver returns, and its artifact.

    r_hat(u, i) = mean + user_bias[u] + item_bias[i] + user_factors[u] . item_factors[i]

A row that training never saw has zero bias and zero factors (solver `bayes`: its prior's mean), so
a cold user or item is predicted by what is known of the other side, and by the mean where nothing
is.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mf_core.data.artifacts import npy_array, npy_bytes, read_file, read_manifest, write_artifact
from mf_core.data.ratings import Float32s, Float64s, IdMap, Int32s

_ROWS_AT_A_TIME = 1 << 18


@dataclass(frozen=True, eq=False)
class FactorModel:
    """A fitted factor model; equal to itself only.

    Attributes:
        mean: the global mean (0 for the ranking head).
        user_bias: float32 array of shape (n_users,).
        item_bias: float32 array of shape (n_items,).
        user_factors: float32 array of shape (n_users, n_factors).
        item_factors: float32 array of shape (n_items, n_factors).
        users: the users' external ids in row order.
        items: the items' external ids in row order.
    """

    mean: float
    user_bias: Float32s
    item_bias: Float32s
    user_factors: Float32s
    item_factors: Float32s
    users: IdMap
    items: IdMap

    def predict(self, user: Int32s, item: Int32s) -> Float64s:
        """Return the prediction for each pair of rows, in rating units.

        Args:
            user: int32 array of shape (n,), user row numbers; -1 stands for an unknown id.
            item: int32 array of shape (n,), item row numbers, likewise.

        Returns:
            float64 array of shape (n,).
        """
        predicted = np.empty(len(user), dtype=np.float64)
        # In parts: the gathered factors of all pairs at once would not fit into memory.
        for start in range(0, len(user), _ROWS_AT_A_TIME):
            pairs = slice(start, start + _ROWS_AT_A_TIME)
            predicted[pairs] = self._predict_part(user[pairs], item[pairs])
        return predicted

    def _predict_part(self, user: Int32s, item: Int32s) -> Float64s:
        """Return the predictions of as many pairs as are gathered at a time."""
        # Row -1 gathers the last row, which `where` then leaves out.
        known_user = user >= 0
        known_item = item >= 0

        # x_u . y_i, summed in double precision
        user_factors = self.user_factors[user]
        item_factors = self.item_factors[item]
        dots = np.einsum("nk,nk->n", user_factors, item_factors, dtype=np.float64)

        # mean + b_u + b_i + x_u . y_i, each term where it is known
        return np.asarray(
            self.mean
            + np.where(known_user, self.user_bias[user], 0.0)
            + np.where(known_item, self.item_bias[item], 0.0)
            + np.where(known_user & known_item, dots, 0.0)
        )


def score_spread(user: Float32s, item: Float32s) -> Float64s:
    """Return the standard deviation of each user's scores over the items; shape (n_users,).

    The scores are the products of the rows of both tables.
    """
    centred = item - item.mean(axis=0)
    covariance = centred.T @ centred / len(centred)
    variance = np.einsum("uk,uk->u", user @ covariance, user, dtype=np.float64)
    return np.sqrt(np.maximum(variance, 0))


def divided(above: Float64s, below: Float64s) -> Float64s:
    """Return the quotients, 0 where there is nothing to divide by."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def save_model(
    model: FactorModel,
    uri: str,
    metadata: dict[str, Any],
    further_files: Mapping[str, bytes] | None = None,
) -> str:
    """Write `model` as an artifact to `uri` and return its sha256.

    `further_files` lie in the same artifact, under its checksum; `load_model` does not read them.

    Raises:
        ArtifactStoreError: the store can't be written to.
    """
    files = {
        "user_bias.npy": npy_bytes(model.user_bias),
        "item_bias.npy": npy_bytes(model.item_bias),
        "user_factors.npy": npy_bytes(model.user_factors),
        "item_factors.npy": npy_bytes(model.item_factors),
        "users.parquet": _ids_to_parquet(model.users),
        "items.parquet": _ids_to_parquet(model.items),
        **(further_files or {}),
    }
    described = {
        **metadata,
        "kind": "factor_model",
        "mean": model.mean,
    }
    return write_artifact(uri, files, described)


def load_model(uri: str, sha256: str) -> FactorModel:
    """Return the model that `save_model` wrote.

    Raises:
        ArtifactError: it is missing or damaged.
        ArtifactStoreError: the store can't be read.
    """
    manifest = read_manifest(uri, sha256)

    def array(name: str) -> Float32s:
        """Return one of the artifact's arrays."""
        return npy_array(read_file(uri, f"{name}.npy", manifest))

    def ids(side: str) -> IdMap:
        """Return one side's ids."""
        return _ids_from_parquet(read_file(uri, f"{side}.parquet", manifest))

    return FactorModel(
        mean=float(manifest["mean"]),
        user_bias=array("user_bias"),
        item_bias=array("item_bias"),
        user_factors=array("user_factors"),
        item_factors=array("item_factors"),
        users=ids("users"),
        items=ids("items"),
    )


def _ids_to_parquet(ids: IdMap) -> bytes:
    """Return ids in row order as a Parquet file of one column."""
    frame = pd.DataFrame({"id": ids.ids})
    return frame.to_parquet(index=False)


def _ids_from_parquet(data: bytes) -> IdMap:
    """Return the ids that `_ids_to_parquet` wrote."""
    frame = pd.read_parquet(io.BytesIO(data))
    return IdMap(frame["id"].to_numpy(dtype=object))
