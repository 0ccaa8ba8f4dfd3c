"""The benchmark of the lists: what it measures, on a case that takes no time."""

import numpy as np
import pytest

from benchmarks import topn


def test_floor_peer_and_ours_are_measured_in_one_run() -> None:
    found = topn.measure(300, 500, 4, 5, seen_per_user=10, rounds=1)
    speed = {name: found[f"{name}_users_per_second"] for name in ("floor", "peer", "ours")}
    assert all(users > 0 for users in speed.values())
    assert found["ours_to_floor"] == pytest.approx(speed["ours"] / speed["floor"])
    assert found["ours_to_peer"] == pytest.approx(speed["ours"] / speed["peer"])
    assert found["ours_to_floor_by_cpu_time"] > 0
    assert found["ours_to_peer_by_cpu_time"] > 0


def test_users_of_the_case_have_seen_what_their_lists_leave_out() -> None:
    case = topn._case(20, 50, 4, 5, seen_per_user=10)
    position, _ = case.seen.of(case.users)
    assert (np.bincount(position) == 10).all()
