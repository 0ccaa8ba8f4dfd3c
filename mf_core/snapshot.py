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
from mf_core.attributes import Attributes
from mf_core.ratings import IdMap, Ratings, concatenate

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Snapshot:
    """Train and test ratings over common row numbers. Both sides are sorted by (user, item).

    Attributes:
        users: ids of all users of either side, in row order; with attributes also of those who have some and no rating.
        items: ids of all items, likewise.
        train: the training ratings.
        test: the held-out ratings.
        attributes: what is known of the users and items; None where the run does not use it.
    """

    users: IdMap
    items: IdMap
    train: Ratings
    test: Ratings
    attributes: Attributes | None = None

    def warm(self) -> tuple[Mask, Mask]:
        """Return which users and which items have a training rating; boolean arrays of shape (n_users,) and (n_items,)."""
        users = np.bincount(self.train.user, minlength=len(self.users)) > 0
        return users, np.bincount(self.train.item, minlength=len(self.items)) > 0

    def rated(self) -> tuple[Mask, Mask]:
        """Return which users and which items have a rating on either side; shapes as in `warm`."""
        users, items = self.warm()
        users[self.test.user] = True
        items[self.test.item] = True
        return users, items

    def all_ratings(self) -> Ratings:
        """Return the ratings of both sides, the training side first."""
        return concatenate([self.train, self.test])


def sort_ratings(ratings: Ratings) -> Ratings:
    """Return `ratings` sorted by (user, item)."""
    return ratings.take(np.lexsort((ratings.item, ratings.user)).astype(np.int64))


def content_hash(snapshot: Snapshot) -> str:
    """Return the sha256 (hex) over ids, rows, values and attributes of both sides, in sorted order and little-endian."""
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
    for text in (
        (*snapshot.attributes.user, *snapshot.attributes.item) if snapshot.attributes else ()
    ):
        data = (text or "").encode()
        digest.update(len(data).to_bytes(4, "little") + data)
    return digest.hexdigest()


def write_snapshot(snapshot: Snapshot, uri: str, metadata: dict[str, Any]) -> str:
    """Write `snapshot` as an artifact to `uri` and return the artifact's sha256. Raises ArtifactStoreError."""
    known = snapshot.attributes
    files = {
        "users.parquet": _to_parquet(
            {"id": snapshot.users.ids} | ({"attributes": known.user} if known else {})
        ),
        "items.parquet": _to_parquet(
            {"id": snapshot.items.ids} | ({"attributes": known.item} if known else {})
        ),
        "train.parquet": _to_parquet(vars(snapshot.train)),
        "test.parquet": _to_parquet(vars(snapshot.test)),
    }
    return write_artifact(
        uri, files, {**metadata, "kind": "snapshot", "content_sha256": content_hash(snapshot)}
    )


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
    return Snapshot(users, items, train, test, _attributes(frames))


def _attributes(frames: dict[str, pd.DataFrame]) -> Attributes | None:
    if "attributes" not in frames["users"]:
        return None
    columns = (frames[name]["attributes"].astype(object) for name in ("users", "items"))
    return Attributes(
        *(column.where(column.notna(), None).to_numpy(dtype=object) for column in columns)
    )


def _to_parquet(columns: dict[str, Any]) -> bytes:
    return pd.DataFrame(columns).to_parquet(index=False)
