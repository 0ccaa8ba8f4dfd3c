"""An item-item model as a baseline of the lists: EASE on the rating values, in closed form.

Steck 2019, 'Embarrassingly shallow autoencoders for sparse data', with X the users' targets instead
of ones: what a simple model makes of the same ratings as the ranking head learns from.

    B = I - P diag(1 / P_ii),  P = (X^T X + lambda I)^-1,  scores = X B

With fewer users than items the same follows from a matrix of the users' size (Woodbury):

    x P = (x - x X^T A) / lambda,  A = (X X^T + lambda I)^-1 X,  P_ii = (1 - (X^T A)_ii) / lambda

X is sparse, and the inverses are dense. So of a large catalogue the items rated most take part, and
of many users a sample; `ItemItem.note` says so. The condition of what is inverted is at most 1 plus
the number of items over the smallest ridge's weight: Cholesky in float32 will do.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import inv
from scipy.sparse import csr_array

from mf_core.config import Config
from mf_core.data.ratings import Float32s, Int32s, Ratings
from mf_core.data.relevance import is_relevant, targets
from mf_core.data.snapshot import Snapshot
from mf_core.data.validation import validation_part
from mf_core.judging.metrics import list_quality
from mf_core.machine import free_memory
from mf_core.models.lists import ListMaker
from mf_core.models.topn import TopN
from mf_core.models.user_items import UserItems, items_by_user

_MOST_ITEMS = 20_000
# Of so many users a dense matrix is solved in seconds; with few items there may be more of them.
_MOST_USERS = 5_000
_MOST_CELLS = 100_000_000
# Of the matrix that is inverted, at the peak.
_COPIES = 4.6
_TILE_CELLS = 4_000_000

# The ridge is chosen on a part of the training ratings, in units of the mean of X^T X's diagonal.
_RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0)
_RIDGE_USERS = 1_500
_VALIDATION_FRACTION = 0.1
_SEED = 3_000_017
_LOWEST_TARGET = 0.2


@dataclass(frozen=True)
class ItemItem:
    """EASE on some users and items of a snapshot.

    Attributes:
        items: int32 array of shape (m,), the item rows that take part.
        rows: sparse float32 array of shape (n, m): X of the users it was fitted on.
        solved: float32 array, A^T of shape (m, n) where n < m, else P of shape (m, m).
        diagonal: float32 array of shape (m,): P_ii.
        ridge: lambda.
        note: who takes part, in words.
    """

    items: Int32s
    rows: csr_array
    solved: Float32s
    diagonal: Float32s
    ridge: float
    note: str

    def scores(self, x: csr_array) -> Float32s:
        """Return the scores of users with the targets `x`; both of shape (n_users, m).

        Only those of items that a user has not rated are scores: the others lack his own rating,
        and no list holds them.
        """
        n, m = self.rows.shape
        if n < m:
            by_user = self.rows @ x.T.toarray()
            return (self.solved @ by_user).T / (np.float32(self.ridge) * self.diagonal)
        return -(x @ self.solved) / self.diagonal


@dataclass(frozen=True, eq=False)
class ItemItemLists(ListMaker):
    """Lists ordered by an item-item model; popular ones for users without a rating in it.

    `ordering` is the popular list's; `targets` are X, and `known` the ratings that they are of, by
    user.
    """

    model: ItemItem
    known: UserItems
    targets: Float32s

    def top(self, users: Int32s, n: int, tile_mib: int) -> Iterator[TopN]:
        """Yield the lists of `n` places of the user rows `users`."""
        at_a_time = max(1, _TILE_CELLS // len(self.relevant_counts))
        for start in range(0, len(users), at_a_time):
            yield self._tile(users[start : start + at_a_time], n)

    def _tile(self, users: Int32s, n: int) -> TopN:
        """Return the lists of as many users as are scored at a time."""
        n_items = len(self.relevant_counts)
        items = self.model.items
        x = _sparse(self.known, self.targets, users, items, n_items)
        scores = np.full((len(users), n_items), -np.inf, np.float32)
        scores[:, items] = self.model.scores(x)

        # Who has rated nothing that is known gets the popular list.
        unknown = np.diff(x.indptr) == 0
        scores[unknown] = self.relevant_counts

        position, seen = self.seen.of(users)
        scores[position, seen] = -np.inf
        scores[:, self.left_out] = -np.inf
        return _best(users, scores, n)


def _best(users: Int32s, scores: Float32s, n: int) -> TopN:
    """Return the `n` best items of each row, equal ones in order; -1 where there are fewer."""
    # Few items reach the N-th score: more than N only where some are equal.
    kept = min(n, scores.shape[1])
    in_part = np.partition(scores, -kept, axis=1)
    lowest = in_part[:, -kept, None]
    reached = scores >= lowest
    reached &= scores > -np.inf

    row, column = np.nonzero(reached)
    found = scores[row, column]
    order = np.lexsort((-found, row))
    row = row[order]
    first_of_row = np.searchsorted(row, row)
    place = np.arange(len(row)) - first_of_row

    lists = np.full((len(users), n), -1, np.int32)
    best = np.full(lists.shape, -np.inf)
    listed = place < n
    chosen = order[listed]
    cells = row[listed], place[listed]
    lists[cells] = column[chosen]
    best[cells] = found[chosen]
    return TopN(users, lists, best)


def item_item_lists(config: Config, snapshot: Snapshot, popular: ListMaker) -> ItemItemLists:
    """Return the lists of EASE on the training ratings.

    Args:
        config: `data` says what a target is (`mf_core.data.relevance.targets`), `split` how the
            ridge's validation part is made.
        snapshot: its training side.
        popular: lists ordered by popularity, which know the same ratings.
    """
    train = snapshot.train
    weight = _chosen_ridge(config, snapshot, popular)
    model = _fit(config, train, _sizes(snapshot), weight)
    return _lists(config, train, model, popular)


def _sizes(snapshot: Snapshot) -> tuple[int, int]:
    return len(snapshot.users), len(snapshot.items)


def _lists(config: Config, known: Ratings, model: ItemItem, popular: ListMaker) -> ItemItemLists:
    by_user = np.argsort(known.user, kind="stable")
    sorted_ratings = known.take(by_user)
    return ItemItemLists(
        **{name: getattr(popular, name) for name in ListMaker.__dataclass_fields__},
        model=model,
        known=items_by_user(sorted_ratings, len(popular.ordering.users)),
        targets=targets(config.data, sorted_ratings.value, _LOWEST_TARGET),
    )


def _chosen_ridge(config: Config, snapshot: Snapshot, popular: ListMaker) -> float:
    """Return the ridge that makes the best lists of a validation part, by a sample of the users."""
    train = snapshot.train
    chosen = _some(np.unique(train.user), _RIDGE_USERS)
    few = train.take(np.isin(train.user, chosen))
    held_out = validation_part(
        config,
        few,
        snapshot.users,
        snapshot.items,
        fraction=_VALIDATION_FRACTION,
        seed=_SEED,
    )
    fitted = few.take(~held_out)
    judged = few.take(held_out)
    if not len(fitted) or not is_relevant(config.data, judged.value).any():
        return _RIDGES[len(_RIDGES) // 2]
    without = replace(popular, seen=items_by_user(fitted, len(snapshot.users)))

    def ndcg(ridge: float) -> float:
        """Return the sum of the users' NDCG with that ridge."""
        model = _fit(config, fitted, _sizes(snapshot), ridge)
        lists = _lists(config, fitted, model, without)
        cutoff = config.gate.cutoff
        return float(list_quality(lists, judged, config.data, cutoff).ndcg.sum())

    return max(_RIDGES, key=ndcg)


def _fit(config: Config, train: Ratings, sizes: tuple[int, int], weight: float) -> ItemItem:
    """Fit EASE with a ridge of `weight` times the mean of X^T X's diagonal."""
    n_users, n_items = sizes
    counts = np.bincount(train.item, minlength=n_items)
    n_rated = int((counts > 0).sum())
    items = np.sort(np.argsort(-counts, kind="stable")[: min(n_rated, _MOST_ITEMS)])
    raters = np.unique(train.user)
    users = _some(raters, _most_users(len(items)))

    by_user = np.argsort(train.user, kind="stable")
    known = train.take(by_user)
    aims = targets(config.data, known.value, _LOWEST_TARGET)
    seen = items_by_user(known, n_users)
    x = _sparse(seen, aims, users, items.astype(np.int32), n_items)
    ridge = weight * float(np.square(x.data).sum() / len(items))

    note = f"EASE on {len(users):,} of {len(raters):,} users, {len(items):,} of {n_rated:,} items"
    solved, diagonal = _solved(x, ridge)
    return ItemItem(items.astype(np.int32), x, solved, diagonal, ridge, note)


def _solved(x: csr_array, ridge: float) -> tuple[Float32s, Float32s]:
    """Return A^T or P, and P's diagonal, as the module's docstring has them."""
    n, m = x.shape
    by_item = x.T.tocsr()
    if n < m:
        solved = by_item @ _inverse(x @ by_item.toarray(), ridge)
        # More than the rounding of float32 takes away: a diagonal of 0 would divide by nothing.
        explained = np.minimum(by_item.multiply(solved).sum(axis=1), 1 - 1e-4)
        return solved, ((1 - explained) / ridge).astype(np.float32)
    inverse = _inverse(by_item @ x.toarray(), ridge)
    return inverse, np.diagonal(inverse).copy()


def _inverse(gram: Float32s, ridge: float) -> Float32s:
    """Return the inverse of a Gram matrix, with the ridge, which is added in place."""
    gram[np.diag_indices(len(gram))] += ridge
    return inv(gram, check_finite=False, assume_a="pos")


def _most_users(n_items: int) -> int:
    """Return how many users may take part with so many items, by work and by memory."""
    free = free_memory() // 2
    fitting = free // (_COPIES * 4 * max(n_items, 1))
    return int(max(1, min(max(_MOST_USERS, _MOST_CELLS // max(n_items, 1)), fitting)))


def _some(users: Int32s, most: int) -> Int32s:
    """Return `most` of the user rows at most, drawn with a seed, in order."""
    if len(users) <= most:
        return users
    drawn = np.random.default_rng(_SEED).choice(users, most, replace=False)
    return np.sort(drawn)


def _sparse(
    known: UserItems, targets: Float32s, users: Int32s, items: Int32s, n_items: int
) -> csr_array:
    """Return X of some users and items; float32 array of shape (len(users), len(items))."""
    # Where an item stands among `items`; -1: not at all.
    column_of_item = np.full(n_items, -1, np.int32)
    column_of_item[items] = np.arange(len(items), dtype=np.int32)

    row, place = known.places(users)
    column = column_of_item[known.item[place]]
    value = targets[place]

    takes_part = (column >= 0) & (value != 0)
    cells = row[takes_part], column[takes_part]
    return csr_array((value[takes_part], cells), shape=(len(users), len(items)))


def dense_bytes(n_users: int, n_items: int) -> int:
    """Return what a fit on so many users and items holds at the most, as measured.

    Where memory is short, fewer users take part: no more than half of what is free is taken.
    """
    m = min(n_items, _MOST_ITEMS)
    n = min(n_users, max(_MOST_USERS, _MOST_CELLS // max(m, 1)))
    inverted = min(n, m) ** 2
    return round(4 * max(n * m + inverted, _COPIES * inverted))
