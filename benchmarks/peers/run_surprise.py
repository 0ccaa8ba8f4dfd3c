"""Surprise's SVD (Hug 2020): SGD in Cython, one thread. Settings: those of `SVD`."""

import time

import numpy as np
from contract import Task, dot_products
from surprise import SVD, Trainset


def main() -> None:
    task = Task()
    since = time.perf_counter()
    trainset = _trainset(task)
    trainset.global_mean  # noqa: B018 (a cached property that takes seconds)
    task.prepared(since)
    model = SVD(n_epochs=task.iterations, random_state=task.seed, **task.settings)
    task.start()
    model.fit(trainset)
    seconds = task.pause()
    task.report(seconds, task.iterations, _predict(model, trainset, task))


def _trainset(task):
    """Return Surprise's container, a list of (item, rating) tuples per user, without its detour over raw ids."""
    user, item, rating = task.train
    order = np.argsort(user, kind="stable")
    first = np.searchsorted(user[order], np.arange(task.n_users + 1))
    pairs = list(zip(item[order].tolist(), rating[order].tolist(), strict=True))
    by_user = {
        row: pairs[first[row] : first[row + 1]]
        for row in range(task.n_users)
        if first[row] < first[row + 1]
    }
    # Of the items SVD only asks which are known.
    by_item = dict.fromkeys(np.unique(item).tolist(), ())
    ids = {row: row for row in range(max(task.n_users, task.n_items))}
    return Trainset(
        by_user, by_item, task.n_users, task.n_items, len(user), tuple(task.clip), ids, ids
    )


def _predict(model, trainset, task):
    user, item = task.held_out[:2]
    known_user = np.isin(user, task.train[0])
    known_item = np.isin(item, task.train[1])
    dots = np.where(known_user & known_item, dot_products(model.pu, model.qi, user, item), 0.0)
    return (
        trainset.global_mean
        + np.where(known_user, model.bu[user], 0.0)
        + np.where(known_item, model.bi[item], 0.0)
        + dots
    )


if __name__ == "__main__":
    main()
