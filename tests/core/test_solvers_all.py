"""What holds for every solver that the settings can name, a new one included."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from mf_core.config import RatingHeadConfig, SolverConfig, make_config
from mf_core.data.ratings import Ratings, id_map
from mf_core.records import Progress
from mf_core.solvers.checkpoint import Checkpoint
from mf_core.solvers.fit import FitResult, fit_rating_head

NAMES = [name for name, value in RatingHeadConfig() if isinstance(value, SolverConfig)]
N_USERS = 40
N_ITEMS = 30
ITERATIONS = 4

each_solver = pytest.mark.parametrize("name", NAMES)


class Interrupted(Exception):
    """Stands for whatever ends the process."""


def fit(name: str, folder: Path, stop_after: int | None = None) -> FitResult:
    """Fit a rating head with the solver `name`, with its checkpoints in `folder`."""
    rng = np.random.default_rng(0)
    rated = rng.random((N_USERS, N_ITEMS)) < 0.4
    user, item = np.nonzero(rated)
    value = rng.integers(1, 6, len(user))
    train = Ratings(user.astype(np.int32), item.astype(np.int32), value.astype(np.float32))
    users = id_map(f"{number:02d}" for number in range(N_USERS))
    items = id_map(f"{number:02d}" for number in range(N_ITEMS))

    def report(progress: Progress) -> None:
        if progress.iteration == stop_after:
            raise Interrupted

    return fit_rating_head(
        make_config({"train.device": "cpu", "rating_head.solver": name}),
        train,
        users,
        items,
        iterations=ITERATIONS,
        report=report,
        checkpoint=Checkpoint(
            str(folder), "rating", fingerprint="same", every_seconds=0, log=lambda line: None
        ),
    )


def test_every_solver_that_has_settings_can_be_chosen() -> None:
    chosen = RatingHeadConfig.model_fields["solver"].annotation
    assert set(get_args(chosen)) == set(NAMES)


@each_solver
def test_an_interrupted_fit_goes_on_and_ends_with_the_same_bits(tmp_path: Path, name: str) -> None:
    whole = fit(name, tmp_path / "whole")
    with pytest.raises(Interrupted):
        fit(name, tmp_path / "halves", stop_after=ITERATIONS // 2)
    resumed = fit(name, tmp_path / "halves")

    assert resumed.iterations == whole.iterations == ITERATIONS
    for array in ("user_bias", "item_bias", "user_factors", "item_factors"):
        before = getattr(whole.model, array)
        after = getattr(resumed.model, array)
        assert before.tobytes() == after.tobytes(), array
