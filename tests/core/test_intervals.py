"""Intervals hold the share of ratings that they name, however the errors are spread."""

import numpy as np
import pytest

from mf_core.judging.intervals import interval_reach, normalised_errors, within_interval

SHARES = (0.5, 0.8, 0.9, 0.95)


def test_normal_errors_give_the_reach_of_the_normal_distribution() -> None:
    errors = np.abs(np.random.default_rng(1).normal(size=200_000))
    reaches = [interval_reach(errors, share) for share in SHARES]
    assert reaches == pytest.approx([0.6745, 1.2816, 1.6449, 1.96], abs=0.02)


@pytest.mark.parametrize("share", SHARES)
def test_skewed_ratings_on_few_levels_are_held_as_often_as_is_said(share: float) -> None:
    rng = np.random.default_rng(2)
    mean = rng.uniform(3.5, 5, 4_000)
    rating = np.clip(np.round(mean + rng.normal(0.5, 1.2, len(mean))), 1, 5)
    normalised = normalised_errors(np.abs(rating - mean), rng.uniform(0.3, 1.5, len(mean)))

    assert within_interval(normalised, share).mean() == pytest.approx(share, abs=0.02)


def test_no_rating_is_judged_by_itself() -> None:
    # Those at even places are ten times as far off as those at odd ones.
    normalised = np.tile([10.0, 1.0], 50)
    within = within_interval(normalised, 0.9)
    assert within.tolist() == [False, True] * 50


@pytest.mark.parametrize(("n", "share"), [(1, 0.9), (3, 0.95), (19, 0.95)])
def test_few_ratings_give_the_largest_error(n: int, share: float) -> None:
    assert interval_reach(np.arange(n, dtype=float), share) == n - 1


def test_a_standard_deviation_of_zero_is_passed_by_any_error() -> None:
    error = np.array([0.5, 0.0, 0.5])
    deviation = np.array([0.0, 0.0, 0.25])
    assert normalised_errors(error, deviation).tolist() == [np.inf, 0.0, 2.0]
