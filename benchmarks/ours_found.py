"""`mf backtest` on one case, as the peers of `peers/found.py`: lists and predictions as a file.

Run it as `python -m benchmarks.ours_found CASE.npz TASK OUT.npz`. TASK is JSON with `overrides`
(settings by dotted name, the two files among them) and `head` (`rating`, or null for both). The
settings that shape a model are the product's own business: it finds them, or has them shipped.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mf_core.backtest import BacktestReport, backtest
from mf_core.config import make_config
from mf_core.models.factors import FactorModel

_CUTOFF = 10
_TILE_MIB = 64


def main() -> None:
    """Fit, and write what the peers write."""
    with np.load(sys.argv[1]) as held:
        case = dict(held)
    task = json.loads(sys.argv[2])
    out = Path(sys.argv[3])

    report = backtest(make_config(task["overrides"]), task["head"], print)
    fit_seconds = sum(report.fit_seconds.values())

    parts: dict[str, Any] = {}
    if report.heads.rating is not None:
        parts["predicted"] = _predicted(report.heads.rating, report, case)
    if task["head"] is None:
        parts["lists"] = _lists(report, case)
    # It gets its name only once it is whole.
    partial = out.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez(
            file,
            **parts,
            found=np.array(json.dumps(report.as_dict())),
            seconds=np.array([report.search_seconds, fit_seconds]),
        )
    partial.replace(out)
    print(json.dumps({"fit_seconds": fit_seconds}), flush=True)


def _predicted(
    rating: FactorModel, report: BacktestReport, case: dict[str, NDArray[Any]]
) -> NDArray[Any]:
    """Return the predictions of the case's test rows, in the case's order."""
    users = report.snapshot.users.rows(_texts(case["user_ids"]))
    items = report.snapshot.items.rows(_texts(case["item_ids"]))
    return rating.predict(users[case["teu"]], items[case["tei"]])


def _lists(report: BacktestReport, case: dict[str, NDArray[Any]]) -> NDArray[np.int32]:
    """Return the list of every user of the case, in the case's rows of users and of items."""
    users = report.snapshot.users.rows(_texts(case["user_ids"]))
    tiles = report.heads.lists.top(users, _CUTOFF, _TILE_MIB)
    listed = np.concatenate([tile.item for tile in tiles])

    # One place more, so that -1, where a list is too short, stays -1.
    items = report.snapshot.items.rows(_texts(case["item_ids"]))
    place = np.full(len(report.snapshot.items) + 1, -1, np.int32)
    place[items] = np.arange(len(items))
    return place[listed]


def _texts(ids: NDArray[Any]) -> list[str]:
    return [str(id_) for id_ in ids]


if __name__ == "__main__":
    main()
