"""Cornac's MF (Salah et al. 2020): SGD in Cython. Settings: those of `MF`."""

import time

import numpy as np
from contract import Task, dot_products
from cornac.data import Dataset
from cornac.models import MF


def main() -> None:
    task = Task()
    since = time.perf_counter()
    dataset = Dataset.from_uir(list(zip(*(column.tolist() for column in task.train), strict=True)))
    task.prepared(since)
    model = MF(max_iter=task.iterations, seed=task.seed, verbose=False, **task.settings)
    task.start()
    model.fit(dataset)
    seconds = task.pause()
    task.report(seconds, task.iterations, _predict(model, dataset, task))


def _predict(model, dataset, task):
    user, item = (
        _rows(ids, known)
        for ids, known in zip(task.held_out[:2], (dataset.uid_map, dataset.iid_map), strict=True)
    )
    dots = np.where(
        (user >= 0) & (item >= 0), dot_products(model.u_factors, model.i_factors, user, item), 0.0
    )
    biases = np.where(user >= 0, model.u_biases[user], 0.0) + np.where(
        item >= 0, model.i_biases[item], 0.0
    )
    return dataset.global_mean + biases + dots


def _rows(ids, known):
    """Return Cornac's own row numbers, -1 where there is none."""
    return np.array([known.get(row, -1) for row in ids.tolist()])


if __name__ == "__main__":
    main()
