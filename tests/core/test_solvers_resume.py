"""A fit that goes on from its checkpoint ends with the same bits as an uninterrupted one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mf_core.config import make_config
from mf_core.data.ratings import Ratings, id_map
from mf_core.errors import TrainingError
from mf_core.solvers.checkpoint import Checkpoint
from mf_core.solvers.fit import FitResult, fit_ranking_head, fit_rating_head

USERS, ITEMS = (id_map(f"{number:03d}" for number in range(n)) for n in (60, 50))
GRADIENT = {"rating_head.solver": "gradient", "rating_head.gradient.batch_size": 100}


class Interrupted(Exception):
    """Stands for whatever ends the process."""


def some_ratings() -> Ratings:
    rng = np.random.default_rng(0)
    user, item = (rows.astype(np.int32) for rows in np.nonzero(rng.random((60, 50)) < 0.3))
    return Ratings(user, item, rng.integers(1, 6, len(user)).astype(np.float32))


def fit(
    head: str, settings: dict[str, Any], folder: Path | None = None, stop_after: int | None = None
) -> FitResult:
    def report(done: Any) -> None:
        if done.iteration == stop_after:
            raise Interrupted

    checkpoint = (
        Checkpoint(str(folder), head, "fingerprint", 0, lambda line: None) if folder else None
    )
    config = make_config({"train.device": "cpu", "rating_head.solver": "als", **settings})
    chosen = fit_rating_head if head == "rating" else fit_ranking_head
    return chosen(config, some_ratings(), USERS, ITEMS, report=report, checkpoint=checkpoint)


@pytest.mark.parametrize(
    ("head", "settings"),
    [
        # Noise: the best iteration comes early, and the checkpoint has to carry it.
        (
            "rating",
            {"rating_head.als.regularization": 0.001, "rating_head.validation_fraction": 0.2},
        ),
        ("rating", {"rating_head.validation_fraction": 0, "rating_head.als.iterations": 7}),
        (
            "rating",
            {
                **GRADIENT,
                "rating_head.gradient.learning_rate": 0.05,
                "rating_head.gradient.regularization": 0,
            },
        ),
        (
            "rating",
            {**GRADIENT, "rating_head.validation_fraction": 0, "rating_head.gradient.epochs": 7},
        ),
        ("rating", {"rating_head.solver": "gradient", "rating_head.gradient.preset": "seed"}),
        ("ranking", {}),
    ],
    ids=["als", "als without validation", "biased", "biased without validation", "seed", "ranking"],
)
def test_an_interrupted_fit_goes_on_to_the_same_bits(
    head: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    whole = fit(head, settings)
    for stop_after in (3, 5):
        with pytest.raises(Interrupted):
            fit(head, settings, tmp_path, stop_after)
    resumed, finished = fit(head, settings, tmp_path), fit(head, settings, tmp_path)
    for result in (resumed, finished):
        assert (result.iterations, result.train_rmse, result.validation_rmse) == (
            whole.iterations, whole.train_rmse, whole.validation_rmse,
        )  # fmt: skip
        for name in ("user_bias", "item_bias", "user_factors", "item_factors"):
            assert getattr(result.model, name).tobytes() == getattr(whole.model, name).tobytes()
        assert result.model.mean == whole.model.mean


def test_no_training_rating_is_refused() -> None:
    nothing = some_ratings().take(np.zeros(len(some_ratings()), dtype=bool))
    with pytest.raises(TrainingError, match="no training rating"):
        fit_rating_head(make_config({"train.device": "cpu"}), nothing, USERS, ITEMS)
