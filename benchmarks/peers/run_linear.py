"""Peers in closed form, by NumPy alone.

EASE (Steck 2019), DLAE and EDLAE (Steck 2020, 'Autoencoders that don't overfit towards the
identity') on the rating values, and EASE on what is relevant alone; RP3beta (Paudel et al. 2017);
nearest items by BM25 weights, as implicit's `BM25Recommender` makes them; popularity that fades;
user and item biases by ridge regression.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from benchmarks.peers.found import Case, Float32s, Float64s, Rows, Settings
else:
    from found import Case

_RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0)
# What the lowest rating counts, where one of `relevant_from` counts 1. At 0 it would vanish.
_LOWEST = (0.0, 0.1, 0.35, 0.7)
_SWEEPS = 15


def main() -> None:
    """Find the settings of the system that the task names, and report it."""
    case = Case()
    if case.system == "biases":
        _biases(case)
        return

    grids: dict[str, dict[str, tuple[float | None, ...]]] = {
        "ease": {"ridge": _RIDGES, "lowest": _LOWEST},
        "dlae": {"ridge": _RIDGES, "dropout": (0.2, 0.35, 0.5, 0.65, 0.8), "lowest": _LOWEST},
        "edlae": {"ridge": _RIDGES, "dropout": (0.1, 0.2, 0.35, 0.5, 0.65), "lowest": _LOWEST},
        "ease_relevant": {"ridge": _RIDGES},
        "rp3beta": {
            "alpha": (0.6, 0.8, 1.0, 1.2, 1.5),
            "beta": (0.0, 0.2, 0.4, 0.6, 0.8),
            "lowest": _LOWEST,
        },
        "bm25": {
            "neighbours": (20, 50, 100, 200, 500),
            "k1": (0.2, 1.2, 5.0, 100.0),
            "b": (0.0, 0.2, 0.5, 0.8),
            "lowest": (0.35, None),
        },
        # In spans of the training rows; a thousand of them is no decay.
        "popularity": {"half_life": (0.01, 0.03, 0.1, 0.3, 1.0, 1_000.0)},
    }
    scores: dict[str, Callable[[Rows, Settings], Float32s]] = {
        "ease": lambda rows, found: _autoencoder(case, rows, found),
        "dlae": lambda rows, found: _autoencoder(case, rows, found),
        "edlae": lambda rows, found: _autoencoder(case, rows, found),
        "ease_relevant": lambda rows, found: _autoencoder(case, rows, found),
        "rp3beta": lambda rows, found: _random_walk(case, rows, found),
        "bm25": lambda rows, found: _neighbours(case, rows, found),
        "popularity": lambda rows, found: _popularity(case, rows, found),
    }
    lists = case.find_lists(grids[case.system], scores[case.system])
    case.report(lists, of="lists")


def _matrix(case: Case, rows: "Rows", lowest: float | None) -> "Float32s":
    """Return the ratings as (n_users, n_items); with `lowest` None what is relevant, as ones."""
    rows, values = case.levels(rows, lowest)
    values = np.maximum(values, 0)
    matrix = np.zeros((case.n_users, case.n_items), np.float32)
    matrix[rows.user, rows.item] = values
    return matrix


def _autoencoder(case: Case, rows: "Rows", found: "Settings") -> "Float32s":
    """Return X B of EASE, DLAE or EDLAE, of shape (n_users, n_items).

    With L = ridge I + p / (1 - p) diag(X^T X) and C = (X^T X + L)^-1:

        DLAE         B = C X^T X = I - C L
        EASE, EDLAE  B = I - C diag(1 / diag C), with a diagonal of 0
    """
    matrix = _matrix(case, rows, found.get("lowest"))
    dropout = found.get("dropout", 0.0)
    squares = np.einsum("ui,ui->i", matrix, matrix)
    loading = found["ridge"] + dropout / (1 - dropout) * squares

    seen_through, diagonal = solved(matrix, loading)
    if case.system == "dlae":
        return matrix - seen_through * loading
    return matrix - seen_through / diagonal


def solved(full: "Float32s", loading: "Float32s") -> tuple["Float32s", "Float32s"]:
    """Return X C and the diagonal of C = (X^T X + L)^-1, for L = diag(loading).

    By the smaller side: X C = (X L^-1 X^T + I)^-1 X L^-1, and the diagonal of
    C = L^-1 - L^-1 X^T (X L^-1 X^T + I)^-1 X L^-1 (Woodbury).
    """
    n_users, n_items = full.shape
    if n_users < n_items:
        scaled = full / loading
        gram = scaled @ full.T + np.eye(n_users, dtype=np.float32)
        seen_through = np.linalg.solve(gram, scaled)
        return seen_through, 1 / loading - np.einsum("ui,ui->i", scaled, seen_through)

    inverse = np.linalg.inv(full.T @ full + np.diag(loading))
    return full @ inverse, np.diag(inverse)


def _random_walk(case: Case, rows: "Rows", found: "Settings") -> "Float32s":
    """Return the scores of RP3beta, of shape (n_users, n_items).

    Three steps from user to item, each probability to the power alpha, divided by the item's
    popularity to the power beta.
    """
    weights = _matrix(case, rows, found["lowest"])
    to_items = _normalised(weights) ** found["alpha"]
    to_users = _normalised(weights.T) ** found["alpha"]
    # From the left, so that no items x items matrix is formed.
    scores = weights @ to_users @ to_items

    counts = np.bincount(rows.item, minlength=case.n_items)
    penalty = np.maximum(counts, 1) ** found["beta"]
    penalized: Float32s = (scores / penalty).astype(np.float32)
    return penalized


def _neighbours(case: Case, rows: "Rows", found: "Settings") -> "Float32s":
    """Return the scores of each item's nearest items, of shape (n_users, n_items).

    An item is a text whose words are its users: how often a user comes in it saturates with k1,
    long texts count less by b, and so do users who are in many.
    """
    weights = _matrix(case, rows, found["lowest"])
    length = weights.sum(axis=0)
    norm = 1 - found["b"] + found["b"] * length / length.mean()
    rarity = np.log(case.n_items) - np.log1p((weights > 0).sum(axis=1))
    k1 = found["k1"]
    terms = weights * (k1 + 1) / (k1 * norm + weights + 1e-9) * rarity[:, None]

    similar = (terms.T @ terms).astype(np.float32)
    kept = min(found["neighbours"], case.n_items)
    border = np.partition(similar, -kept, axis=1)[:, -kept]
    similar[similar < border[:, None]] = 0
    scores: Float32s = weights @ similar
    return scores


def _normalised(rows: "Float32s") -> "Float32s":
    """Return the rows divided by their sums."""
    sums = rows.sum(axis=1, keepdims=True)
    shares: Float32s = (rows / np.where(sums > 0, sums, 1)).astype(np.float32)
    return shares


def _popularity(case: Case, rows: "Rows", found: "Settings") -> "Float32s":
    """Return the relevant ratings of each item, halved every `half_life` of the span of time."""
    relevant = rows.take(rows.value >= case.relevant_from)
    age = rows.second.max() - relevant.second
    span = max(1, int(np.ptp(rows.second)))
    weight = 0.5 ** (age / span / found["half_life"])
    counts = np.bincount(relevant.item, weight, minlength=case.n_items).astype(np.float32)
    return np.tile(counts, (case.n_users, 1))


def _biases(case: Case) -> None:
    """Mean, user and item biases; the damping of both sides is found."""

    def rmse_of(fit: "Rows", held_out: "Rows", found: "Settings") -> float:
        predicted = _predicted(case, fit, held_out, found)
        return -case.rmse(predicted, held_out)

    dampings = (0.3, 1.0, 2.0, 4.0, 7.0, 12.0, 20.0, 40.0, 100.0)
    found = case.find({"of_users": dampings, "of_items": dampings}, rmse_of)
    case.report(lambda rows: _predicted(case, rows, case.test, found), of="predicted")


def _predicted(case: Case, rows: "Rows", at: "Rows", found: "Settings") -> "Float64s":
    """Return mean + b_u + b_i of the pairs `at`, by damped means in turns on `rows`."""
    mean = rows.value.mean()
    residual = rows.value - mean
    of_users: Float64s = np.zeros(case.n_users)
    of_items: Float64s = np.zeros(case.n_items)
    n_of_user = np.bincount(rows.user, minlength=case.n_users)
    n_of_item = np.bincount(rows.item, minlength=case.n_items)
    for _ in range(_SWEEPS):
        left = np.bincount(rows.item, residual - of_users[rows.user], minlength=case.n_items)
        of_items = left / (n_of_item + found["of_items"])
        left = np.bincount(rows.user, residual - of_items[rows.item], minlength=case.n_users)
        of_users = np.asarray(left / (n_of_user + found["of_users"]), np.float64)
    predicted: Float64s = mean + of_users[at.user] + of_items[at.item]
    return predicted


if __name__ == "__main__":
    main()
