"""What MovieLens 100K tells about its users and films, as columns of 0 and 1 for myfm."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Float32s = NDArray[np.float32]
Ids = NDArray[np.int64]

_FIRST_GENRE = 5


def user_features(folder: Path, ids: Ids) -> Float32s:
    """Return decade of age, gender and occupation of the users `ids`, shape (n, n_columns)."""
    rows = _read(folder / "u.user")
    texts = [[f"age {int(age) // 10}", gender, job] for _, age, gender, job, _ in rows]
    return _of_ids(_one_hot(texts), [int(row[0]) for row in rows], ids)


def item_features(folder: Path, ids: Ids) -> Float32s:
    """Return the genres and the decade of release of the films `ids`, shape (n, n_columns)."""
    rows = _read(folder / "u.item")
    # A film without a date has the year "", which is a decade of its own.
    decades = _one_hot([[row[2][-4:-1]] for row in rows])
    genres = np.array([row[_FIRST_GENRE:] for row in rows]).astype(np.float32)
    return _of_ids(np.hstack([genres, decades]), [int(row[0]) for row in rows], ids)


def _read(path: Path) -> list[list[str]]:
    return [line.split("|") for line in path.read_text("latin-1").splitlines()]


def _one_hot(rows: list[list[str]]) -> Float32s:
    """Return a column for each text that comes in `rows`."""
    texts = sorted({text for row in rows for text in row})
    return np.array([[text in row for text in texts] for row in rows]).astype(np.float32)


def _of_ids(features: Float32s, known: list[int], ids: Ids) -> Float32s:
    """Return the rows of `ids`; zeros for one that is not `known`."""
    place = {id_: row for row, id_ in enumerate(known)}
    out = np.zeros((len(ids), features.shape[1]), np.float32)
    for row, id_ in enumerate(ids.tolist()):
        if id_ in place:
            out[row] = features[place[id_]]
    return out
