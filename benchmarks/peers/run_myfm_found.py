"""myfm with settings found on the rows at hand: its Gaussian model, and its ordinal one.

Ids and SVD++ features as in run_myfm.py; `myfm_side` has what is known of users and items in the
blocks too. The ordinal model (a probit with cut points between the levels) predicts the mean of its
distribution over the levels that the training rows have.
"""

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from myfm import MyFMOrderedProbit, MyFMRegressor
from scipy.sparse import csr_matrix, hstack, identity

if TYPE_CHECKING:
    from benchmarks.peers.found import Case, Float64s, Rows, Settings
    from benchmarks.peers.run_myfm import block, scaled
else:
    from found import Case
    from run_myfm import block, scaled

# Fewer for a trial than for the fit that counts: the order of the trials shows early.
_TRIAL_SWEEPS = 60
_SWEEPS = 300


def main() -> None:
    """Find rank and features, and report the predictions."""
    case = Case()
    os.environ["TQDM_DISABLE"] = "1"

    def rmse_of(fit: "Rows", held_out: "Rows", found: "Settings") -> float:
        predicted = _predicted(case, fit, held_out, found, _TRIAL_SWEEPS)
        return -case.rmse(predicted, held_out)

    grid = {"features": ("plain", "svdpp_both"), "rank": (2, 5, 10, 20)}
    found = case.find(grid, rmse_of)
    case.report(
        lambda rows: _predicted(case, rows, case.test, found, _SWEEPS),
        of="predicted",
    )


def _predicted(case: Case, rows: "Rows", at: "Rows", found: "Settings", sweeps: int) -> "Float64s":
    """Return the predictions of the pairs `at` of a model fitted to `rows`."""
    users, items, groups = _features(case, rows, found["features"])
    known: dict[str, Any] = {
        "X": csr_matrix((len(rows.user), 0)),
        "X_rel": [block(rows.user, users), block(rows.item, items)],
        "n_iter": sweeps,
        "group_shapes": groups,
    }
    asked = (csr_matrix((len(at.user), 0)), [block(at.user, users), block(at.item, items)])
    settings = {"rank": found["rank"], "random_seed": case.seed + 42}

    if case.system != "myfm_ordinal":
        model = MyFMRegressor(**settings)
        model.fit(y=rows.value, **known)
        predicted: Float64s = model.predict(*asked)
        return predicted

    levels, level = np.unique(rows.value, return_inverse=True)
    ordinal = MyFMOrderedProbit(**settings)
    ordinal.fit(y=level, **known)
    expected: Float64s = ordinal.predict_proba(*asked) @ levels
    return expected


def _features(case: Case, rows: "Rows", features: str) -> tuple[csr_matrix, csr_matrix, list[int]]:
    """Return the features of users and of items, and how many columns share a prior."""
    users = [identity(case.n_users)]
    items = [identity(case.n_items)]
    if features == "svdpp_both":
        shape = (case.n_users, case.n_items)
        rated = csr_matrix((np.ones(len(rows.user)), (rows.user, rows.item)), shape=shape)
        users.append(scaled(rated))
        items.append(scaled(rated.T))
    if case.system == "myfm_side":
        users.append(csr_matrix(case.arrays["user_features"]))
        items.append(csr_matrix(case.arrays["item_features"]))
    groups = [part.shape[1] for part in (*users, *items)]
    return csr_matrix(hstack(users)), csr_matrix(hstack(items)), groups


if __name__ == "__main__":
    main()
