"""Whole nights with the shipped gate on ratings that are no stars: thumbs, and counts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from .test_cli import Mf, mf

__all__ = ["mf"]

_SHAPE = (200, 80)


def planted(kind: str) -> pd.DataFrame:
    """Return ratings of users with two tastes, half of all pairs, chosen by taste too."""
    rng = np.random.default_rng(0)
    taste = rng.normal(size=(_SHAPE[0], 2)) @ rng.normal(size=(2, _SHAPE[1]))
    quality = rng.normal(size=_SHAPE[1])
    liked = (taste + 0.5 * quality + rng.normal(size=_SHAPE) * 0.5) / 1.6
    user, item = np.nonzero(liked + rng.normal(size=_SHAPE) > 0.7)
    size = liked[user, item]
    value = {
        "thumbs": (size > 0.4).astype(float),
        "counts": np.ceil(np.exp(1.5 * size)).clip(1, 1_000),
    }[kind]
    return pd.DataFrame({"user_id": user, "item_id": item, "rating": value})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "scale", "solver"),
    [
        ("thumbs", (0, 1, 1), "als"),
        ("counts", (1, 1_000, 3), "biases"),
    ],
)
def test_a_good_model_is_approved_whatever_the_scale(
    mf: Mf, tmp_path: Path, kind: str, scale: tuple[int, int, int], solver: str
) -> None:
    path = tmp_path / "ratings.csv"
    planted(kind).to_csv(path, index=False)
    low, high, relevant = scale
    settings = [
        f"--set=source.uri={path}",
        f"--set=data.scale_low={low}",
        f"--set=data.scale_high={high}",
        f"--set=data.relevant_from={relevant}",
        # What a search would find; it has its own tests.
        f"--set=rating_head.solver={solver}",
        "--set=train.settings=fixed",
    ]
    assert mf.json("run", *settings)["model_version"] == 1
    # The same ratings again: the margin against the champion is of their scale too.
    assert mf.json("run", *settings, "--set=run.force=true")["model_version"] == 2
    assert mf.json("status")["live_version"] == 2
