"""Top-N lists for everybody, beside the matrix products alone and the best simple peer.

The floor is the float32 products of all users and items without any selection, in the best of some
blockings. The peer is what people write with NumPy: blocks of users, `argpartition`, and a sort of
the first N, in one Python thread per core with one BLAS thread each. Its lists are those of float32
scores; ours are exact.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mf_core.data.ratings import Float32s, Int32s, Ratings, id_map
from mf_core.models.blas_threads import blas_threads, one_blas_thread
from mf_core.models.factors import FactorModel
from mf_core.models.topn import top_n
from mf_core.models.user_items import UserItems, items_by_user

_BLOCKS = (32, 128, 256)
_ROUNDS = 3


@dataclass(frozen=True)
class _Case:
    """A model with random factors, and what its users have seen."""

    model: FactorModel
    seen: UserItems
    n: int

    @property
    def users(self) -> Int32s:
        """Return all user rows."""
        return np.arange(len(self.model.users), dtype=np.int32)


def measure(
    n_users: int = 20_000,
    n_items: int = 20_000,
    rank: int = 32,
    n: int = 100,
    *,
    seen_per_user: int = 100,
    rounds: int = _ROUNDS,
) -> dict[str, Any]:
    """Return users per second of the floor, the peer and ours, measured in turns; and the ratios.

    The ratios are of users per second, and of users per second of processor time: on a busy machine
    the latter say more.

    Args:
        n_users: how many lists are made; cost per user doesn't depend on it.
        n_items: the catalogue.
        rank: factors of a model.
        n: length of the lists.
        seen_per_user: items of each user that his list leaves out, drawn at random.
        rounds: how often each is measured; the fastest counts.
    """
    case = _case(n_users, n_items, rank, n, seen_per_user=seen_per_user)
    contestants: dict[str, Callable[[], None]] = {"ours": partial(_ours, case)}
    for block in _BLOCKS:
        contestants[f"floor {block}"] = partial(_floor, case, block)
        contestants[f"peer {block}"] = partial(_peer, case, block)

    # In turns, so that whatever else the machine does hits all of them.
    seconds = dict.fromkeys(contestants, float("inf"))
    cpu_seconds = dict.fromkeys(contestants, float("inf"))
    for _ in range(rounds):
        for name, run in contestants.items():
            begun = time.perf_counter()
            cpu_begun = time.process_time()
            run()
            seconds[name] = min(seconds[name], time.perf_counter() - begun)
            cpu_seconds[name] = min(cpu_seconds[name], time.process_time() - cpu_begun)

    figures: dict[str, Any] = {
        "n_users": n_users,
        "n_items": n_items,
        "rank": rank,
        "n": n,
        "threads": blas_threads(),
    }
    best = _best(seconds)
    for system, fastest in best.items():
        figures[f"{system}_users_per_second"] = n_users / fastest
    figures["ours_to_floor"] = best["floor"] / best["ours"]
    figures["ours_to_peer"] = best["peer"] / best["ours"]

    # What other processes take from the machine is not in these.
    cpu = _best(cpu_seconds)
    figures["ours_to_floor_by_cpu_time"] = cpu["floor"] / cpu["ours"]
    figures["ours_to_peer_by_cpu_time"] = cpu["peer"] / cpu["ours"]
    return figures


def _best(seconds: dict[str, float]) -> dict[str, float]:
    """Return the seconds of ours, the floor and the peer, each in its best blocking."""
    best = {"ours": seconds["ours"]}
    for system in ("floor", "peer"):
        best[system] = min(seconds[f"{system} {block}"] for block in _BLOCKS)
    return best


def _case(n_users: int, n_items: int, rank: int, n: int, *, seen_per_user: int) -> _Case:
    generator = np.random.default_rng(0)

    def normal(*shape: int) -> Float32s:
        return generator.standard_normal(shape, dtype=np.float32)

    n_seen = n_users * seen_per_user
    seen = Ratings(
        np.repeat(np.arange(n_users, dtype=np.int32), seen_per_user),
        generator.integers(0, n_items, n_seen, dtype=np.int32),
        np.ones(n_seen, np.float32),
    )
    model = FactorModel(
        mean=0.0,
        user_bias=np.zeros(n_users, np.float32),
        item_bias=np.zeros(n_items, np.float32),
        user_factors=normal(n_users, rank),
        item_factors=normal(n_items, rank),
        users=id_map(f"u{row:09d}" for row in range(n_users)),
        items=id_map(f"i{row:09d}" for row in range(n_items)),
    )
    return _Case(model, items_by_user(seen, n_users), n)


def _ours(case: _Case) -> None:
    for _ in top_n(case.model, case.users, case.seen, case.n):
        pass


def _in_threads(case: _Case, work: Callable[[Int32s], None]) -> None:
    """Do `work` on as many parts of the users as there are threads, each with one BLAS thread."""
    threads = blas_threads()
    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, np.array_split(case.users, threads)))


def _floor(case: _Case, block: int) -> None:
    """Multiply all factors, and keep nothing."""
    items = np.ascontiguousarray(case.model.item_factors.T)

    def products(users: Int32s) -> None:
        scores = np.empty((block, items.shape[1]), np.float32)
        for start in range(0, len(users), block):
            factors = case.model.user_factors[users[start : start + block]]
            np.matmul(factors, items, out=scores[: len(factors)])

    _in_threads(case, products)


def _peer(case: _Case, block: int) -> None:
    """Make lists of float32 scores as people do."""
    items = np.ascontiguousarray(case.model.item_factors.T)

    def lists(users: Int32s) -> None:
        buffer = np.empty((block, items.shape[1]), np.float32)
        for start in range(0, len(users), block):
            user = users[start : start + block]
            scores = buffer[: len(user)]
            np.matmul(case.model.user_factors[user], items, out=scores)
            scores[case.seen.of(user)] = -np.inf
            best = np.argpartition(scores, -case.n, axis=1)[:, -case.n :]
            found = np.take_along_axis(scores, best, axis=1)
            order = np.argsort(-found, axis=1)
            np.take_along_axis(best, order, axis=1)

    _in_threads(case, lists)
