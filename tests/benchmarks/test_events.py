"""Sets of events: seeded, weighed as their kind says, and told to the product as events."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.events import EVENTS, EventSet, draw_events
from benchmarks.planted import draw_ratings
from benchmarks.sets import EVENT_SETS, EVERY, protocols_of


def small(name: str) -> EventSet:
    shape = replace(EVENTS[name].shape, n_ratings=4_000, n_users=200, n_items=150)
    return replace(EVENTS[name], shape=shape)


@pytest.mark.parametrize("name", list(EVENTS))
def test_a_set_is_the_same_each_time_and_weighs_more_what_is_liked_more(name: str) -> None:
    drawn, again = draw_events(small(name)), draw_events(small(name))
    np.testing.assert_array_equal(drawn.value, again.value)
    assert np.corrcoef(drawn.value.argsort().argsort(), liked(name).argsort().argsort())[0, 1] > 0.2


def liked(name: str) -> np.ndarray:
    """How much each pair is liked, before it is weighed."""
    return draw_ratings(small(name).shape).value


def test_plays_have_a_long_tail_and_dislikes_and_visits_to_a_shop_have_neither() -> None:
    plays, shop = draw_events(small("events_plays")).value, draw_events(small("events_shop")).value
    assert plays.max() > 20 * np.median(plays)
    assert 0.005 < (plays < 0).mean() < 0.2
    assert shop.min() == 1
    assert 0.4 < (shop == 1).mean() < 0.8


def test_sets_of_events_are_among_those_that_can_be_written() -> None:
    assert set(EVENT_SETS) <= set(EVERY)
    assert protocols_of("events_ml100k") == ("u1", "u2", "u3", "u4", "u5")
