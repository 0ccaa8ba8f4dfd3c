"""A new solver is one file: its class, its settings, and a line of the dictionary of solvers."""

import re
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

import mf_core
from mf_core.config import (
    Config,
    FactorsConfig,
    RatingHeadConfig,
    SearchRange,
    SolverConfig,
    setting,
    settings,
)
from mf_core.data.ratings import Ratings, id_map
from mf_core.records import Progress
from mf_core.solvers import memory
from mf_core.solvers.fit import SOLVERS, fit_rating_head
from mf_core.solvers.solver import Arrays, Factors, HeldOut, Problem, Solver
from mf_core.tune.space import search_space

# Wider than any rating scale in standard deviations, in which a solver gets the ratings.
SCALE = (-10, 10)


class MeansConfig(FactorsConfig):
    """The settings of a solver of the test's own."""

    search = (SearchRange("strength", 1, 50),)

    strength: float = setting(5.0, shapes="model", description="Ratings of a mean item.", gt=0)
    rounds: int = setting(3, shapes="model", description="Rounds at most.", ge=1)

    def iteration_limit(self) -> int:
        """Return how many rounds a fit runs."""
        return self.rounds


class MeansHead(RatingHeadConfig):
    """The rating head with one solver more: in the code a word in a Literal, and a field."""

    solver: Literal["bayes", "als", "gradient", "means"] = setting(  # type: ignore[assignment]
        "means", shapes="model", description="Which solver fits the rating head."
    )
    means: MeansConfig = MeansConfig()


class WithMeans(Config):
    """Settings that know the new solver."""

    rating_head: MeansHead = MeansHead()


class Means(Solver):
    """Predicts an item's shrunk mean, a part of the way in each round."""

    unit = "round"
    note = "means"

    def __init__(self, problem: Problem[MeansConfig]) -> None:
        super().__init__(problem)
        self._problem = problem
        self._bias = np.zeros(problem.shape[1], np.float32)

    def iterate(self, iteration: int) -> float:
        train = self._problem.ratings
        n_items = len(self._bias)
        total = np.bincount(train.item, train.value, n_items)
        count = np.bincount(train.item, minlength=n_items)
        target = total / (count + self._problem.settings.strength)
        self._bias = (self._bias + (target - self._bias) / 2).astype(np.float32)
        return HeldOut(train, *SCALE).rmse(self.factors())

    def validation_rmse(self) -> float | None:
        held_out = self._problem.held_out
        return held_out.rmse(self.factors()) if held_out else None

    def state(self) -> Arrays:
        return {"bias": self._bias}

    def restore(self, state: Arrays) -> None:
        self._bias = state["bias"]

    def factors(self) -> Factors:
        n_users, n_items = self._problem.shape
        nothing = np.zeros((n_users, 1), np.float32), np.zeros((n_items, 1), np.float32)
        return Factors(0.0, np.zeros(n_users, np.float32), self._bias.copy(), *nothing)


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> WithMeans:
    monkeypatch.setitem(SOLVERS, "means", Means)
    device = Config().train.model_copy(update={"device": "cpu"})
    return WithMeans(train=device)


def test_a_solver_that_no_other_code_knows_fits_the_rating_head(config: WithMeans) -> None:
    rng = np.random.default_rng(0)
    user, item = (rows.astype(np.int32) for rows in np.nonzero(rng.random((60, 30)) < 0.5))
    value = np.clip(rng.normal(3 + (item % 3 - 1), 0.5), 1, 5).astype(np.float32)
    users, items = (id_map(f"{number:02d}" for number in range(n)) for n in (60, 30))
    train = Ratings(user, item, value)
    reports: list[Progress] = []
    lines: list[str] = []

    fitted = fit_rating_head(config, train, users, items, report=reports.append, log=lines.append)
    assert fitted.iterations == len(reports) == 3
    first, last = reports[0].validation_rmse, reports[-1].validation_rmse
    assert first is not None
    assert last is not None
    assert fitted.validation_rmse == last < first
    assert fitted.samples is None
    assert any(line.endswith("; means") for line in lines)
    assert reports[0].sentence().startswith("rating: round 1/3, train RMSE ")

    # A start is passed over by a solver that takes none, and a refit runs as many iterations.
    refit = fit_rating_head(config, train, users, items, iterations=2, start=fitted.model)
    assert (refit.iterations, refit.validation_rmse) == (2, None)


def test_its_settings_memory_and_search_space_are_found(config: WithMeans) -> None:
    assert "rating_head.means.strength" in {found.name for found in settings(config)}
    assert "rating_head.means.strength" in config.shaping("model")
    assert "rating_head.bayes.n_factors" not in config.shaping("model")
    assert list(search_space(config, "rating")) == ["rating_head.means.strength"]
    needed = memory.needed(Means, config.solver_settings("rating"), 1_000, (30, 20))
    batch = 4 * 4 * (1 << 22)
    assert needed.host == 52 * 1_000 + 24 * 33 * 50 + batch


def test_every_solver_of_the_settings_has_a_maker() -> None:
    names = {name for name, value in RatingHeadConfig() if isinstance(value, SolverConfig)}
    assert names | {"lists"} == set(SOLVERS)


def test_no_code_asks_which_solver_it_has() -> None:
    asks = re.compile(r"""solver == |isinstance\([^)]*(?:Bayes|Als|Gradient|RankingHead)""")
    sources = Path(mf_core.__file__).parent.rglob("*.py")
    found = {path.name for path in sources if asks.search(path.read_text())}
    # A solver may ask in its own file.
    assert found <= {"bayes.py", "ranking.py"}
