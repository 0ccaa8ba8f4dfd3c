"""Cornac's MF (Salah et al. 2020): SGD in Cython. Settings: those of `MF`."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from cornac.data import Dataset
from cornac.models import MF
from numpy.typing import NDArray

if TYPE_CHECKING:
    from benchmarks.peers.contract import Float64s, Int32s, Task, dot_products
else:
    from contract import Task, dot_products


def main() -> None:
    """Fit once, and print the point."""
    task = Task()
    since = time.perf_counter()
    user, item, rating = task.train
    # Cornac takes Python's own numbers.
    triples = zip(user.tolist(), item.tolist(), rating.tolist(), strict=True)
    dataset = Dataset.from_uir(list(triples))
    task.prepared(since)

    model = MF(max_iter=task.iterations, seed=task.seed, verbose=False, **task.settings)
    task.start()
    model.fit(dataset)
    seconds = task.pause()

    predicted = _predict(model, dataset, task)
    task.report(seconds, task.iterations, predicted)


def _predict(model: MF, dataset: Dataset, task: Task) -> "Float64s":
    """Return mean + (b_u + b_i) + x_u . y_i of the held-out pairs.

    An unknown id has no bias and no factors.
    """
    held_out_user, held_out_item, _ = task.held_out
    user = _rows(held_out_user, dataset.uid_map)
    item = _rows(held_out_item, dataset.iid_map)

    # Row -1 is the last one in NumPy, so what it gives is replaced.
    known_user = user >= 0
    known_item = item >= 0

    dots = dot_products(model.u_factors, model.i_factors, user, item)
    dots = np.where(known_user & known_item, dots, 0.0)
    user_bias = np.where(known_user, model.u_biases[user], 0.0)
    item_bias = np.where(known_item, model.i_biases[item], 0.0)

    predicted: Float64s = dataset.global_mean + (user_bias + item_bias) + dots
    return predicted


def _rows(ids: "Int32s", known: Mapping[int, int]) -> NDArray[np.int64]:
    """Return Cornac's own row numbers, -1 where there is none.

    It numbers users and items in the order in which they come in the training ratings.
    """
    rows = [known.get(row, -1) for row in ids.tolist()]
    return np.array(rows)


if __name__ == "__main__":
    main()
