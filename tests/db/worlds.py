"""A small world for tests of the steps around training: ratings in the warehouse, and real factor models made by NumPy."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.config import Config, make_config
from mf_core.data.ratings import Ratings, concatenate
from mf_core.data.snapshot import Snapshot, read_snapshot
from mf_core.models.factors import FactorModel, save_model
from mf_core.models.samples import PosteriorSamples, sample_files
from mf_core.pipeline import Workplace
from mf_core.records import ModelRef, SplitRef
from mf_core.warehouse import tables, transaction
from mf_core.warehouse.engine import copy_frame

N_USERS = 60
N_ITEMS = 40
SETTINGS = {
    "rating_head.solver": "als",
    "gate.min_test_ratings": 20,
    "gate.min_test_users": 5,
    "gate.bootstrap_samples": 100,
    "gate.max_rmse_loss": 0.05,
    "gate.max_ndcg_loss": 0.1,
    "recommend.top_n": 5,
    "recommend.reserve": 5,
    "gate.cutoff": 5,
    "recommend.similar_items": 3,
    "run.force": True,
}


@dataclass(frozen=True)
class World:
    """A workplace with ratings, and its settings."""

    place: Workplace
    config: Config

    def with_settings(self, **overrides: object) -> "World":
        """Return the same world with other settings; `section__name` stands for `section.name`."""
        dotted = {name.replace("__", "."): value for name, value in overrides.items()}
        return replace(self, config=make_config(dotted, self.config))


def make_ratings(seed: int = 0) -> pd.DataFrame:
    """Return planted ratings: two tastes and item qualities, 1..5, half of all pairs; user u000 likes nothing."""
    generator = np.random.default_rng(seed)
    taste = generator.normal(size=(N_USERS, 2))
    kind = generator.normal(size=(N_ITEMS, 2))
    quality = generator.normal(size=N_ITEMS) * 0.6
    signal = 3.3 + quality + taste @ kind.T + generator.normal(size=(N_USERS, N_ITEMS)) * 0.3
    value = np.clip(np.round(signal), 1, 5)
    value[0] = 1
    chosen = generator.random((N_USERS, N_ITEMS)) < 0.5
    user, item = np.nonzero(chosen)

    return pd.DataFrame(
        {
            "user_id": [f"u{u:03d}" for u in user],
            "item_id": [f"i{i:03d}" for i in item],
            "rating": value[user, item],
            "rated_at": (
                pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(np.arange(len(user)), "h")
            ).map(lambda t: t.isoformat()),
        }
    )


def make_world(
    engine: Engine, root: Path, ratings: pd.DataFrame | None = None, log: list[str] | None = None
) -> World:
    """Put ratings into the warehouse and return the world."""
    load(engine, make_ratings() if ratings is None else ratings)
    lines = [] if log is None else log

    return World(Workplace(engine, root.as_uri(), lines.append), make_config(SETTINGS))


def load(engine: Engine, ratings: pd.DataFrame) -> int:
    """Insert ratings as one batch and return its number."""
    with transaction(engine) as connection:
        batch = connection.scalar(
            sa.insert(tables.ingest_batches)
            .values(
                source_uri="test",
                content_sha256="",
                fingerprint="",
                mode="merge",
                state="loaded",
                started_at=sa.func.now(),
                finished_at=sa.func.now(),
            )
            .returning(tables.ingest_batches.c.batch_id)
        )
        copy_frame(connection, ("mf", "ratings"), ratings.assign(batch_id=batch))
    return int(batch)


def fit(
    world: World,
    split: SplitRef,
    stage: str = "evaluated",
    noise: float = 0.0,
    factors: int = 3,
    n_samples: int = 0,
) -> ModelRef:
    """Make both heads by biases and a truncated SVD of the residuals, and save them as the trainer would.

    `noise` spoils the factors, for a candidate that is worse on purpose; `n_samples` says how many samples are kept.
    """
    snapshot = read_snapshot(split.uri, split.sha256)
    rows = snapshot.train if stage == "evaluated" else concatenate([snapshot.train, snapshot.test])
    rating = _rating_model(snapshot, rows, factors, noise)
    ranking = _ranking_model(snapshot, rows, factors, noise)
    root = f"{world.place.artifact_root}/models/{split.model_version}/{stage}"

    return ModelRef(
        model_version=split.model_version,
        stage=stage,
        rating_uri=f"{root}/rating",
        rating_sha256=save_model(
            rating,
            f"{root}/rating",
            {},
            sample_files(_samples(rating, n_samples) if n_samples else None),
        ),
        rating_iterations=1,
        ranking_uri=f"{root}/ranking",
        ranking_sha256=save_model(ranking, f"{root}/ranking", {}),
        ranking_iterations=1,
        device="CPU",
        fit_seconds=0.1,
    )


def fill_table(world: World, split: SplitRef, model: ModelRef, refitted: ModelRef) -> None:
    """Make the version's table of recommendations, up to its verification."""
    for shard in pipeline.prepare(world.config, world.place, split, model, refitted):
        pipeline.recommend_shard(world.config, world.place, refitted, shard)


def _rating_model(snapshot: Snapshot, rows: Ratings, factors: int, noise: float) -> FactorModel:
    mean = float(rows.value.mean())
    item_bias = _means(rows.item, rows.value - mean, len(snapshot.items))
    user_bias = _means(rows.user, rows.value - mean - item_bias[rows.item], len(snapshot.users))
    residual = np.zeros((len(snapshot.users), len(snapshot.items)))
    residual[rows.user, rows.item] = rows.value - mean - item_bias[rows.item] - user_bias[rows.user]
    user, item = _svd(residual * 1.3, factors)

    return _model(snapshot, mean, user_bias, item_bias, user, _spoil(item, noise))


def _samples(model: FactorModel, n_samples: int) -> PosteriorSamples:
    """Return samples that lie around the model with a spread of .1, and a noise of .6."""
    generator = np.random.default_rng(3)

    def around(factors: np.ndarray, bias: np.ndarray) -> np.ndarray:
        rows = np.column_stack([factors, bias])
        return (rows + 0.1 * generator.normal(size=(n_samples, *rows.shape))).astype(np.float32)

    user = around(model.user_factors, model.user_bias)
    item = around(model.item_factors, model.item_bias)

    return PosteriorSamples(
        user, item, *(np.full(side.shape[:2], 0.6, np.float32) for side in (user, item))
    )


def _ranking_model(snapshot: Snapshot, rows: Ratings, factors: int, noise: float) -> FactorModel:
    liked = np.zeros((len(snapshot.users), len(snapshot.items)))
    liked[rows.user, rows.item] = rows.value >= 4
    user, item = _svd(liked, factors)
    user[~liked.any(axis=1)] = 0

    return _model(
        snapshot, 0.0, np.zeros(len(user)), np.zeros(len(item)), user, _spoil(item, noise)
    )


def _spoil(factors: np.ndarray, noise: float) -> np.ndarray:
    return factors + noise * np.random.default_rng(7).normal(size=factors.shape)


def _means(rows: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    return np.bincount(rows, values, minlength=n) / (np.bincount(rows, minlength=n) + 3.0)


def _svd(matrix: np.ndarray, factors: int) -> tuple[np.ndarray, np.ndarray]:
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(values[:factors])

    return left[:, :factors] * root, right[:factors].T * root


def _model(snapshot: Snapshot, mean: float, *arrays: np.ndarray) -> FactorModel:
    return FactorModel(
        mean, *(array.astype(np.float32) for array in arrays), snapshot.users, snapshot.items
    )
