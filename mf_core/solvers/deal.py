"""Which of several workers solves which batch of a side, and where its solutions stand then."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mf_core.solvers.workers import Workers

Int64s = NDArray[np.int64]
Slices = Sequence[tuple[int, int, int]]
"""(start, stop, length) of each batch; see `mf_core.solvers.buckets.BatchPlan`."""


@dataclass(frozen=True)
class Deal:
    """What each worker has in hand.

    Attributes:
        mine: numbers of the batches of this worker; at least one.
        gathered: int64 array: the numbers of all workers' batches, one worker's behind the other's.
            Where there are fewer batches than workers, one occurs more than once.
    """

    mine: tuple[int, ...]
    gathered: Int64s

    @staticmethod
    def of(slices: Slices, workers: Workers | None) -> "Deal":
        """Return how the batches are dealt out; a process alone has all of them."""
        if workers is None:
            numbers = range(len(slices))
            return Deal(tuple(numbers), np.array(numbers, dtype=np.int64))
        hands = _hands(slices, workers.n)
        return Deal(tuple(hands[workers.index]), np.concatenate(hands).astype(np.int64))

    def in_order(self) -> Int64s:
        """Return where each batch, in the order of their numbers, stands in `gathered`."""
        _, first = np.unique(self.gathered, return_index=True)
        return first.astype(np.int64)

    def places(self, slices: Slices) -> Int64s:
        """Return where each row stands once the solutions of all batches are together.

        The rows are numbered through all batches. One more number, the last, stands for what comes
        below all solutions.
        """
        n_rows = slices[-1][1] if slices else 0
        places = np.empty(n_rows + 1, dtype=np.int64)
        n_before = 0
        for number in self.gathered:
            start, stop, _ = slices[number]
            places[start:stop] = np.arange(n_before, n_before + stop - start)
            n_before += stop - start
        places[-1] = n_before
        return places


def _hands(slices: Slices, n_workers: int) -> list[list[int]]:
    """Return the numbers of each worker's batches: about as many places for each worker."""
    places = [(stop - start) * length for start, stop, length in slices]
    largest_first = sorted(range(len(places)), key=lambda number: (-places[number], number))
    hands: list[list[int]] = [[] for _ in range(n_workers)]
    load = [0] * n_workers
    for number in largest_first:
        least = load.index(min(load))
        hands[least].append(number)
        load[least] += places[number]
    # Whoever has none repeats the smallest: then each worker has something to exchange.
    return [sorted(hand) or [largest_first[-1]] for hand in hands]
