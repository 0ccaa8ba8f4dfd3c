"""The order of ratings: by user, then by item, whatever the row numbers are."""

import numpy as np
import pytest

from mf_core.data.ratings import pair_order

LARGEST = np.iinfo(np.int32).max


@pytest.mark.parametrize("largest", [3, 500, LARGEST])
def test_pairs_are_sorted_and_equal_ones_stay_as_they_come(largest: int) -> None:
    generator = np.random.default_rng(1)
    user = generator.integers(0, largest, 2_000, dtype=np.int32)
    item = generator.integers(0, largest, 2_000, dtype=np.int32)
    # The bounds, and pairs that come twice.
    user[:3] = [largest, 0, largest]
    item[:3] = [largest, 0, 0]
    user[1_000:] = user[:1_000]
    item[1_000:] = item[:1_000]

    places = range(len(user))
    expected = sorted(places, key=lambda place: (user[place], item[place], place))

    assert pair_order(user, item).tolist() == expected


def test_there_may_be_no_pair_at_all() -> None:
    nothing = np.empty(0, np.int32)

    assert pair_order(nothing, nothing).shape == (0,)
