"""The immutable train/test snapshot that training and evaluation read; training needs no database.

Its identity is a hash over the sorted logical content, since Parquet bytes differ from writer to writer.
"""

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mf_core.artifacts import read_file, read_manifest, write_artifact
from mf_core.ratings import IdMap, Ratings

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Snapshot:
    """Train and test ratings over common row numbers. Both sides are sorted by (user, item).

    Attributes:
        users: ids of all users of either side, in row order.
        items: ids of all items of either side, in row order.
        train: the training ratings.
        test: the held-out ratings.
    """

    users: IdMap
    items: IdMap
    train: Ratings
    test: Ratings

    def warm(self) -> tuple[Mask, Mask]:
        """Return which users and which items have a training rating; boolean arrays of shape (n_users,) and (n_items,)."""
        users = np.bincount(self.train.user, minlength=len(self.users)) > 0
        return users, np.bincount(self.train.item, minlength=len(self.items)) > 0


def sort_ratings(ratings: Ratings) -> Ratings:
    """Return `ratings` sorted by (user, item)."""
    return ratings.take(np.lexsort((ratings.item, ratings.user)).astype(np.int64))


def content_hash(snapshot: Snapshot) -> str:
    """Return the sha256 (hex) over ids, rows and values of both sides, in sorted order and little-endian."""
    digest = hashlib.sha256()
    for ids in (snapshot.users, snapshot.items):
        digest.update(len(ids).to_bytes(8, "little"))
        for external_id in ids.ids:
            data = external_id.encode()
            digest.update(len(data).to_bytes(4, "little") + data)
    for side in (snapshot.train, snapshot.test):
        digest.update(len(side).to_bytes(8, "little"))
        for array, dtype in ((side.user, "<i4"), (side.item, "<i4"), (side.value, "<f4")):
            digest.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
    return digest.hexdigest()


def write_snapshot(snapshot: Snapshot, uri: str, metadata: dict[str, Any]) -> str:
    """Write `snapshot` as an artifact to `uri` and return the artifact's sha256. Raises ArtifactStoreError."""
    files = {
        "users.parquet": _to_parquet({"id": snapshot.users.ids}),
        "items.parquet": _to_parquet({"id": snapshot.items.ids}),
        "train.parquet": _to_parquet(vars(snapshot.train)),
        "test.parquet": _to_parquet(vars(snapshot.test)),
    }
    return write_artifact(uri, files, {**metadata, "kind": "snapshot", "content_sha256": content_hash(snapshot)})


def read_snapshot(uri: str, sha256: str) -> Snapshot:
    """Return the snapshot that `write_snapshot` wrote. Raises ArtifactError or ArtifactStoreError."""
    manifest = read_manifest(uri, sha256)
    frames = {
        name: pd.read_parquet(io.BytesIO(read_file(uri, f"{name}.parquet", manifest)))
        for name in ("users", "items", "train", "test")
    }
    users, items = (IdMap(frames[name]["id"].to_numpy(dtype=object)) for name in ("users", "items"))
    train, test = (
        Ratings(
            *(
                frames[name][column].to_numpy(dtype=dtype)
                for column, dtype in (("user", np.int32), ("item", np.int32), ("value", np.float32))
            )
        )
        for name in ("train", "test")
    )
    return Snapshot(users, items, train, test)


def _to_parquet(columns: dict[str, Any]) -> bytes:
    return pd.DataFrame(columns).to_parquet(index=False)
