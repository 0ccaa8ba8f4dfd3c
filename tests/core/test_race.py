"""The race of settings: who goes on, what it may cost, and that the shipped ones are never beaten
by something worse."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from mf_core.data.ratings import Float64s
from mf_core.training.race import Race, Rung

FIRST = Rung(users=1.0, iterations=0.25)
LAST = Rung(users=1.0, iterations=1.0)
Settings = dict[str, Any]


@dataclass
class Fits:
    """Fits that take a second per whole fit, with figures of our own."""

    figures: dict[tuple[Any, ...], Any]
    on_last: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    now: float = 0.0
    # What is tried on top of the shipped settings takes so many times as long, in the first round.
    on_top: float = 1.0

    def __call__(self, settings: Settings, rung: Rung) -> Float64s | None:
        self.now += rung.work * (self.on_top if settings and rung == FIRST else 1.0)
        key = tuple(sorted(settings.items()))
        figures = {**self.figures, **self.on_last} if rung == LAST else self.figures
        if figures.get(key, 0.0) is None:
            return None
        # Four users, who differ from each other but not from trial to trial.
        return figures.get(key, 0.0) + np.array([-0.05, 0.05, 0.0, 0.0])

    def clock(self) -> float:
        return self.now


def race(fits: Fits, budget: float = 100.0) -> Race:
    return Race(fits, (FIRST, LAST), budget, fits.clock)


STAGES = [[{"a": 1}, {"a": 2}], [{"b": 1}, {"b": 2}]]


def test_each_stage_goes_on_from_the_best_so_far() -> None:
    fits = Fits({(): 0.1, (("a", 2),): 0.3, (("a", 2), ("b", 1)): 0.4})
    held = race(fits)
    best = held.winner([{}], STAGES)
    assert best.settings == {"a": 2, "b": 1}
    assert best.rung == LAST
    tried = [trial.settings for trial in held.trials if trial.rung == FIRST]
    assert tried == [{}, {"a": 1}, {"a": 2}, {"a": 2, "b": 1}, {"a": 2, "b": 2}]
    assert [trial.settings for trial in held.trials if trial.rung == LAST] == [{}, best.settings]


def test_what_looks_better_early_and_is_worse_in_the_end_is_not_chosen() -> None:
    early = (("a", 2),)
    fits = Fits({(): 0.1, early: 0.3}, on_last={(): 0.4, early: 0.39})
    best = race(fits).winner([{}], STAGES)
    assert best.settings == {}
    assert best.figure == pytest.approx(0.4)


def test_equal_figures_leave_the_shipped_settings() -> None:
    fits = Fits({(): 0.1, (("a", 1),): 0.1})
    held = race(fits)
    assert held.winner([{}], STAGES).settings == {}
    # Nothing is left to decide, so nothing is fitted again.
    assert all(trial.rung == FIRST for trial in held.trials)


def test_an_earlier_find_takes_part_and_is_built_on() -> None:
    fits = Fits({(): 0.1, (("a", 7),): 0.3, (("a", 7), ("b", 2)): 0.5})
    assert race(fits).winner([{}, {"a": 7}], STAGES).settings == {"a": 7, "b": 2}


def test_the_budget_keeps_the_last_round_back() -> None:
    fits = Fits({(): 0.1, (("a", 1),): 0.2})
    held = race(fits, budget=2.5)
    best = held.winner([{}], STAGES)
    # Two trials of a quarter, and two whole fits; there is no time for other ones.
    assert best.settings == {"a": 1}
    assert best.rung == LAST
    assert fits.now == 2.5


def test_trials_that_find_some_of_their_work_done_leave_time_for_more() -> None:
    fits = Fits({(): 0.1, (("a", 1),): 0.2}, on_top=0.2)
    held = race(fits, budget=2.5)
    best = held.winner([{}], STAGES)
    # A quarter, four times a fifth of that, and the two whole fits that were kept back.
    assert len(held.trials) == 7
    assert (best.settings, best.rung) == ({"a": 1}, LAST)
    assert fits.now == pytest.approx(2.45)


def test_a_trial_that_takes_longer_than_the_others_does_not_cost_the_last_round() -> None:
    fits = Fits({(): 0.1, (("a", 1),): 0.2}, on_top=3.0)
    held = race(fits, budget=2.5)
    best = held.winner([{}], STAGES)
    assert [trial.rung for trial in held.trials] == [FIRST, FIRST, LAST, LAST]
    assert (best.settings, best.rung) == ({"a": 1}, LAST)


def test_without_time_for_the_last_round_the_first_one_decides() -> None:
    fits = Fits({(): 0.1, (("a", 1),): 0.2})
    held = Race(fits, (FIRST, Rung(1.0, 10.0)), 2.5, fits.clock)
    assert held.winner([{}], STAGES).settings == {}
    assert len(held.trials) == 1


def test_a_gain_that_may_be_chance_is_none() -> None:
    by_user = {"a": np.array([0.1, 0.2, 0.3, 0.4]), "b": np.array([0.5, 0.0, 0.5, 0.1])}

    def measure(settings: Settings, _: Rung) -> Float64s:
        return by_user[settings.get("take", "a")]

    # On average .025 better, but worse for as many users.
    assert Race(measure, (FIRST, LAST), 100.0).winner([{}], [[{"take": "b"}]]).settings == {}
    by_user["b"] = by_user["a"] + np.array([0.02, 0.03, 0.02, 0.03])
    best = Race(measure, (FIRST, LAST), 100.0).winner([{}], [[{"take": "b"}]])
    assert best.settings == {"take": "b"}


def test_settings_that_cannot_be_fitted_are_passed_over() -> None:
    fits = Fits({(): 0.1, (("a", 1),): None, (("a", 2),): 0.2})
    held = race(fits)
    assert held.winner([{}], STAGES).settings == {"a": 2}
    [failed] = [trial for trial in held.trials if trial.values is None]
    assert failed.figure == -math.inf


def test_the_best_of_a_stage_wins_and_not_the_first_that_is_better() -> None:
    uneven = np.array([0.4, -0.2, 0.4, -0.2])
    by_user = {
        "a": np.zeros(4),
        "b": np.full(4, 0.01),
        # Better than the first by more than chance, than the second by less.
        "c": np.full(4, 0.05) + 0.15 * uneven,
    }

    def measure(settings: Settings, _: Rung) -> Float64s:
        return by_user[settings.get("take", "a")]

    stage = [{"take": "b"}, {"take": "c"}]
    assert Race(measure, (FIRST, LAST), 100.0).winner([{}], [stage]).settings == {"take": "c"}


def test_for_the_simplest_settings_it_is_enough_to_be_better_on_average() -> None:
    by_user = {"a": np.array([0.1, 0.2, 0.3, 0.4]), "b": np.array([0.5, 0.0, 0.5, 0.1])}

    def measure(settings: Settings, _: Rung) -> Float64s:
        return by_user[settings.get("take", "a")]

    race = Race(measure, (FIRST, LAST), 100.0, simplest={"take": "b"})
    assert race.winner([{}], [[{"take": "b"}]]).settings == {"take": "b"}
    by_user["b"] = by_user["b"] - 0.03
    race = Race(measure, (FIRST, LAST), 100.0, simplest={"take": "b"})
    assert race.winner([{}], [[{"take": "b"}]]).settings == {}


@pytest.mark.parametrize(("margin", "wins"), [(1.0, True), (2.0, False)])
def test_the_last_round_asks_for_the_margin_that_it_was_given(margin: float, wins: bool) -> None:
    # Ahead by 1.5 standard errors of the difference, which is the half of .1 for four users.
    last = 0.3 + 0.075 + np.array([0.1, -0.1, 0.1, -0.1])
    fits = Fits({(): 0.3, (("a", 1),): 0.4}, on_last={(("a", 1),): last})
    held = race(fits)
    held.last_margin = margin

    assert (held.winner([{}], [[{"a": 1}]]).settings == {"a": 1}) is wins
