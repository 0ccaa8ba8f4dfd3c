"""Surprise's SVD (Hug 2020): SGD in Cython, one thread. Settings: those of `SVD`."""

import time
from typing import TYPE_CHECKING

import numpy as np
from surprise import SVD, Trainset

if TYPE_CHECKING:
    from benchmarks.peers.contract import Float64s, Task, dot_products
else:
    from contract import Task, dot_products


def main() -> None:
    """Fit once, and print the point."""
    task = Task()
    since = time.perf_counter()
    trainset = _trainset(task)
    trainset.global_mean  # noqa: B018 (a cached property that takes seconds)
    task.prepared(since)

    model = SVD(n_epochs=task.iterations, random_state=task.seed, **task.settings)
    task.start()
    model.fit(trainset)
    seconds = task.pause()

    predicted = _predict(model, trainset, task)
    task.report(seconds, task.iterations, predicted)


def _trainset(task: Task) -> Trainset:
    """Return Surprise's container, a list of (item, rating) tuples per user.

    It is made without Surprise's detour over raw ids.
    """
    user, item, rating = task.train

    # Sorted by user, so that a user's ratings are one slice.
    order = np.argsort(user, kind="stable")
    starts = np.searchsorted(user[order], np.arange(task.n_users + 1))
    pairs = list(zip(item[order].tolist(), rating[order].tolist(), strict=True))
    by_user = {}
    for row in range(task.n_users):
        of_user = pairs[starts[row] : starts[row + 1]]
        if of_user:
            by_user[row] = of_user

    # Of the items SVD only asks which are known.
    by_item: dict[int, tuple[()]] = dict.fromkeys(np.unique(item).tolist(), ())
    ids = {row: row for row in range(max(task.n_users, task.n_items))}
    return Trainset(
        ur=by_user,
        ir=by_item,
        n_users=task.n_users,
        n_items=task.n_items,
        n_ratings=len(user),
        rating_scale=task.clip,
        raw2inner_id_users=ids,
        raw2inner_id_items=ids,
    )


def _predict(model: SVD, trainset: Trainset, task: Task) -> "Float64s":
    """Return mean + b_u + b_i + p_u . q_i of the held-out pairs.

    An unknown id has no bias and no factors.
    """
    user, item, _ = task.held_out
    train_user, train_item, _ = task.train
    known_user = np.isin(user, train_user)
    known_item = np.isin(item, train_item)

    # Surprise draws factors for every row, with training ratings or without.
    dots = dot_products(model.pu, model.qi, user, item)
    dots = np.where(known_user & known_item, dots, 0.0)
    user_bias = np.where(known_user, model.bu[user], 0.0)
    item_bias = np.where(known_item, model.bi[item], 0.0)

    predicted: Float64s = trainset.global_mean + user_bias + item_bias + dots
    return predicted


if __name__ == "__main__":
    main()
