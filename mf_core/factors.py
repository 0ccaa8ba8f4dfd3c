"""The model that every solver returns, and its artifact.

    r_hat(u, i) = mean + user_bias[u] + item_bias[i] + user_factors[u] . item_factors[i]

A row that training never saw has zero bias and zero factors (solver `bayes`: its prior's mean), so a cold user or item is
predicted by what is known of the other side, and by the mean where nothing is.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mf_core.artifacts import npy_array, npy_bytes, read_file, read_manifest, write_artifact
from mf_core.ratings import Float32s, Float64s, IdMap, Int32s

_ROWS_AT_A_TIME = 1 << 18


@dataclass(frozen=True)
class FactorModel:
    """A fitted factor model.

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
        """Return the prediction for each pair of rows; float64 array of shape (n,). Row -1 stands for an unknown id."""
        out = np.empty(len(user), dtype=np.float64)
        for start in range(0, len(user), _ROWS_AT_A_TIME):
            rows = slice(start, start + _ROWS_AT_A_TIME)
            u, i = user[rows], item[rows]
            known_user, known_item = u >= 0, i >= 0
            dots = np.einsum(
                "nk,nk->n", self.user_factors[u], self.item_factors[i], dtype=np.float64
            )
            out[rows] = (
                self.mean
                + np.where(known_user, self.user_bias[u], 0.0)
                + np.where(known_item, self.item_bias[i], 0.0)
                + np.where(known_user & known_item, dots, 0.0)
            )
        return out


def save_model(
    model: FactorModel,
    uri: str,
    metadata: dict[str, Any],
    further_files: Mapping[str, bytes] | None = None,
) -> str:
    """Write `model` as an artifact to `uri` and return its sha256. Raises ArtifactStoreError.

    `further_files` lie in the same artifact, under its checksum; `load_model` does not read them.
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
    return write_artifact(uri, files, {**metadata, "kind": "factor_model", "mean": model.mean})


def load_model(uri: str, sha256: str) -> FactorModel:
    """Return the model that `save_model` wrote. Raises ArtifactError or ArtifactStoreError."""
    manifest = read_manifest(uri, sha256)
    arrays = {
        name: npy_array(read_file(uri, f"{name}.npy", manifest))
        for name in ("user_bias", "item_bias", "user_factors", "item_factors")
    }
    users, items = (
        _ids_from_parquet(read_file(uri, f"{side}.parquet", manifest))
        for side in ("users", "items")
    )
    return FactorModel(mean=float(manifest["mean"]), users=users, items=items, **arrays)


def _ids_to_parquet(ids: IdMap) -> bytes:
    return pd.DataFrame({"id": ids.ids}).to_parquet(index=False)


def _ids_from_parquet(data: bytes) -> IdMap:
    return IdMap(pd.read_parquet(io.BytesIO(data))["id"].to_numpy(dtype=object))
