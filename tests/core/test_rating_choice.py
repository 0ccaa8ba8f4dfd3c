"""The solver of the rating head is the one that predicts best, and `bayes` where none is better."""

import numpy as np
import pytest

from mf_core.config import Config, make_config
from mf_core.data.ratings import Ratings, id_map
from mf_core.training.rating_choice import SOLVER, choose_rating_solver
from mf_core.training.search_rows import Outcome, Part

N_USERS = 300
N_ITEMS = 80


def ratings(taste: float, share: float) -> Ratings:
    """Return ratings of a share of the pairs; `taste` is the spread of what no bias explains."""
    rng = np.random.default_rng(3)
    user, item = np.nonzero(rng.random((N_USERS, N_ITEMS)) < share)
    likes = np.sum(rng.normal(size=(N_USERS, 2))[user] * rng.normal(size=(N_ITEMS, 2))[item], 1)
    signal = 3.2 + rng.normal(0, 0.7, N_ITEMS)[item] + taste * likes
    value = np.clip(np.round(signal + rng.normal(0, 0.6, len(user))), 1, 5)
    return Ratings(user.astype(np.int32), item.astype(np.int32), value.astype(np.float32))


def choose(everything: Ratings, config: Config, lines: list[str]) -> Outcome:
    """Return the choice on a fifth of the ratings."""
    judged = np.random.default_rng(0).random(len(everything)) < 0.2
    part = Part(everything.take(~judged), everything.take(judged))
    users, items = (id_map(f"{number:03d}" for number in range(n)) for n in (N_USERS, N_ITEMS))
    return choose_rating_solver(config, [part], users, items, lines.append)


def on_cpu(**more: object) -> Config:
    return make_config({"train.device": "cpu", **more})


def test_where_there_are_tastes_bayes_stays() -> None:
    lines: list[str] = []
    choice = choose(ratings(taste=0.8, share=0.3), on_cpu(), lines)
    figures = {trial["settings"].get(SOLVER, "bayes"): trial["value"] for trial in choice.trials}

    assert choice.settings == {}
    # It is ahead after a few sweeps, so that there are no more of them.
    assert [trial["settings"].get(SOLVER) for trial in choice.trials] == ["als", "biases", None]
    assert figures["bayes"] < figures["als"] < figures["biases"]
    assert choice.grounds.startswith("bayes rates: RMSE on ")
    assert f"biases {figures['biases']:.4f}" in choice.grounds
    assert any(line == f"search: RMSE {figures['als']:.4f} with als" for line in lines)


def test_where_another_solver_predicts_better_it_is_taken() -> None:
    """Many factors with hardly any time to be held back, on ratings without tastes."""
    wild = on_cpu(
        **{
            "rating_head.bayes.n_factors": 64,
            "rating_head.bayes.sweeps": 2,
            "rating_head.bayes.burn_in": 1,
        }
    )
    choice = choose(ratings(taste=0.0, share=0.03), wild, [])

    assert choice.settings == {SOLVER: "biases"}
    tried = [trial["settings"].get(SOLVER) for trial in choice.trials]
    assert tried == ["als", "biases", None, None]
    values = [trial["value"] for trial in choice.trials]
    assert min(values) == values[1]
    assert choice.grounds.startswith("biases rates: ")
    # Of the two trials of bayes, the longer one is told.
    assert choice.grounds.count("bayes") == 1
    assert f"bayes {values[3]:.4f}" in choice.grounds


@pytest.mark.parametrize(
    "more", [{SOLVER: "als"}, {SOLVER: "gradient"}, {"rating_head.bayes.side_information": True}]
)
def test_what_a_person_has_chosen_is_left_alone(more: dict[str, object]) -> None:
    choice = choose(ratings(taste=0.0, share=0.03), on_cpu(**more), [])
    assert (choice.settings, choice.trials) == ({}, [])
    assert choice.grounds.endswith("as the settings say")


def test_without_a_rating_to_judge_by_bayes_stays() -> None:
    nothing = ratings(taste=0.0, share=0.03).take(np.arange(0))
    choice = choose(nothing, on_cpu(), [])
    assert (choice.settings, choice.trials) == ({}, [])
    assert choice.grounds == "too few ratings to compare solvers on"


def test_a_run_that_starts_warm_takes_no_solver_that_cannot() -> None:
    warm = on_cpu(**{"train.warm_start": True})
    lines: list[str] = []
    choice = choose(ratings(taste=0.0, share=0.03), warm, lines)
    assert choice.settings.get(SOLVER) != "biases"
    assert any("biases is no choice" in line for line in lines)
