"""implicit's alternating least squares (Frederickson; Hu, Koren, Volinsky 2008)."""

import os
from typing import TYPE_CHECKING

# Two pools of threads would stand in each other's way, as the package itself warns.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

if TYPE_CHECKING:
    from benchmarks.peers.found import Case, Float32s, Rows, Settings
else:
    from found import Case

_ITERATIONS = 15


def main() -> None:
    """Find the settings, and report the lists."""
    case = Case()
    grid = {
        "alpha": (1.0, 3.0, 10.0, 30.0, 100.0),
        "regularization": (0.1, 1.0, 10.0, 50.0, 200.0),
        "factors": (16, 48, 128),
        # What the lowest rating weighs, where one of `relevant_from` weighs 1; None leaves out
        # what is not relevant.
        "lowest": (0.1, 0.35, None),
    }
    lists = case.find_lists(grid, lambda rows, found: _scores(case, rows, found))
    case.report(lists, of="lists")


def _scores(case: Case, rows: "Rows", found: "Settings") -> "Float32s":
    """Return x_u . y_i of every pair, of shape (n_users, n_items)."""
    rows, weight = case.levels(rows, found["lowest"])

    # The package takes a pair's weight, which is 1 where nobody rated: w = 1 + alpha weight. A
    # negative one says that the pair aims at 0 with as much weight.
    shape = (case.n_users, case.n_items)
    sign = np.where(weight < 0, -1, 1)
    weights = (sign * (1 + found["alpha"] * np.abs(weight))).astype(np.float32)
    observed = csr_matrix((weights, (rows.user, rows.item)), shape)
    model = AlternatingLeastSquares(
        factors=found["factors"],
        regularization=found["regularization"],
        iterations=_ITERATIONS,
        random_state=case.seed + 1,
    )
    model.fit(observed, show_progress=False)
    scores: Float32s = model.user_factors @ model.item_factors.T
    return scores


if __name__ == "__main__":
    main()
