"""The immutable train/test snapshot that training and evaluation read; training needs no database.

Its identity is a hash over the sorted logical content, since Parquet bytes differ from writer to
writer.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from mf_core.data.artifacts import read_file, read_manifest, write_artifact
from mf_core.data.attributes import Attributes
from mf_core.data.ratings import IdMap, Ratings, concatenate, pair_order

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Snapshot:
    """Train and test ratings over common row numbers. Both sides are sorted by (user, item).

    Attributes:
        users: ids of all users of either side, in row order; with attributes also of those who have
            some and no rating.
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

    @cached_property
    def _content_hash(self) -> str:
        """Made once: of 20 million ratings it takes half a second."""
        return _hash_of(self)

    def warm(self) -> tuple[Mask, Mask]:
        """Return which users and which items have a training rating.

        Returns:
            Boolean arrays of shape (n_users,) and (n_items,).
        """
        n_of_user = np.bincount(self.train.user, minlength=len(self.users))
        n_of_item = np.bincount(self.train.item, minlength=len(self.items))
        return n_of_user > 0, n_of_item > 0

    def cold_test(self) -> tuple[Mask, Mask]:
        """Return which test ratings are of a user, and which of an item, without a training rating.

        Returns:
            Two boolean arrays of shape (n_test,).
        """
        users, items = self.warm()
        return ~users[self.test.user], ~items[self.test.item]

    def rated(self) -> tuple[Mask, Mask]:
        """Return which users and which items have a rating on either side.

        Returns:
            Boolean arrays of shape (n_users,) and (n_items,).
        """
        users, items = self.warm()
        users[self.test.user] = True
        items[self.test.item] = True
        return users, items

    def all_ratings(self) -> Ratings:
        """Return the ratings of both sides, the training side first."""
        return concatenate([self.train, self.test])


def sort_ratings(ratings: Ratings) -> Ratings:
    """Return `ratings` sorted by (user, item)."""
    return ratings.take(pair_order(ratings.user, ratings.item))


def content_hash(snapshot: Snapshot) -> str:
    """Return the sha256 (hex) over ids, rows, values, times and attributes of both sides.

    All are taken in sorted order and little-endian, so that the hash is the same on every machine.
    """
    return snapshot._content_hash


def _hash_of(snapshot: Snapshot) -> str:
    digest = hashlib.sha256()
    for ids in (snapshot.users, snapshot.items):
        digest.update(len(ids).to_bytes(8, "little"))
        for external_id in ids.ids:
            digest.update(_framed(external_id))

    for ratings in (snapshot.train, snapshot.test):
        digest.update(len(ratings).to_bytes(8, "little"))
        digest.update(_little_endian(ratings.user, "<i4"))
        digest.update(_little_endian(ratings.item, "<i4"))
        digest.update(_little_endian(ratings.value, "<f4"))

    # A snapshot without times, or without attributes, has the hash that it had before there were
    # any. A mark says which of the two follows.
    for ratings in (snapshot.train, snapshot.test):
        if ratings.rated_at is not None:
            digest.update(_framed("rated_at"))
            digest.update(_little_endian(ratings.rated_at, "<u4"))
    if snapshot.attributes:
        for text in (*snapshot.attributes.user, *snapshot.attributes.item):
            digest.update(_framed(text or ""))
    return digest.hexdigest()


def _framed(text: str) -> bytes:
    """Return `text` behind its length, so that no two lists of texts give the same bytes."""
    data = text.encode()
    length = len(data).to_bytes(4, "little")
    return length + data


def _little_endian(array: NDArray[Any], dtype: str) -> bytes:
    """Return the bytes of an array in the given type.

    The byte order is that of the type, whatever the machine's own is.
    """
    converted = np.ascontiguousarray(array, dtype=dtype)
    return converted.tobytes()


def write_snapshot(snapshot: Snapshot, uri: str, metadata: dict[str, Any]) -> str:
    """Write `snapshot` as an artifact to `uri` and return the artifact's sha256.

    Raises:
        ArtifactStoreError: the store can't be written to.
    """
    users: dict[str, Any] = {"id": snapshot.users.ids}
    items: dict[str, Any] = {"id": snapshot.items.ids}
    if snapshot.attributes:
        users["attributes"] = snapshot.attributes.user
        items["attributes"] = snapshot.attributes.item

    files = {
        "users.parquet": _to_parquet(users),
        "items.parquet": _to_parquet(items),
        "train.parquet": _to_parquet(_columns(snapshot.train)),
        "test.parquet": _to_parquet(_columns(snapshot.test)),
    }
    described = {
        **metadata,
        "kind": "snapshot",
        "content_sha256": content_hash(snapshot),
    }
    return write_artifact(uri, files, described)


def read_snapshot(uri: str, sha256: str) -> Snapshot:
    """Return the snapshot that `write_snapshot` wrote.

    Raises:
        ArtifactError: it is missing or damaged.
        ArtifactStoreError: the store can't be read.
    """
    manifest = read_manifest(uri, sha256)

    def table(name: str) -> pa.Table:
        """Return one of the artifact's tables."""
        data = read_file(uri, f"{name}.parquet", manifest)
        return pyarrow.parquet.read_table(pa.BufferReader(data))

    users = table("users")
    items = table("items")
    return Snapshot(
        users=IdMap(_texts(users["id"])),
        items=IdMap(_texts(items["id"])),
        train=_ratings(table("train")),
        test=_ratings(table("test")),
        attributes=_attributes(users, items),
    )


def _columns(ratings: Ratings) -> dict[str, Any]:
    """Return a side's arrays by name, without times where there are none."""
    columns = vars(ratings)
    return {name: column for name, column in columns.items() if column is not None}


def _ratings(table: pa.Table) -> Ratings:
    """Return the ratings of a side in the types that the solvers expect.

    A snapshot of release 0.2.0 or before has no times.
    """
    dated = "rated_at" in table.column_names
    return Ratings(
        user=table["user"].to_numpy().astype(np.int32, copy=False),
        item=table["item"].to_numpy().astype(np.int32, copy=False),
        value=table["value"].to_numpy().astype(np.float32, copy=False),
        rated_at=table["rated_at"].to_numpy().astype(np.uint32, copy=False) if dated else None,
    )


def _attributes(users: pa.Table, items: pa.Table) -> Attributes | None:
    """Return the attributes, None if the snapshot was taken without any."""
    if "attributes" not in users.column_names:
        return None
    return Attributes(
        user=_texts(users["attributes"]),
        item=_texts(items["attributes"]),
    )


def _texts(column: pa.ChunkedArray) -> NDArray[np.object_]:
    """Return texts as Python's own, None where there is none."""
    texts = np.empty(len(column), dtype=object)
    texts[:] = column.to_pylist()
    return texts


def _to_parquet(columns: dict[str, Any]) -> bytes:
    """Return columns of equal length as a Parquet file."""
    # A dictionary of times would only be tried, and given up: hardly two are the same.
    repeated = [name for name in columns if name != "rated_at"]
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(pa.table(columns), sink, use_dictionary=repeated)
    data: bytes = sink.getvalue().to_pybytes()
    return data
