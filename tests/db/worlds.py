"""A small world for tests of the steps around training.

It has ratings in the warehouse, and real factor models made by NumPy.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
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
from mf_core.records import FoundSettings, HeadRef, ModelRef, SplitRef
from mf_core.warehouse import tables, transaction
from mf_core.warehouse.engine import copy_frame
from mf_core.warehouse.schema import schema_of

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
    """Return planted ratings: two tastes and item qualities, 1..5, half of all pairs.

    User u000 likes nothing.
    """
    generator = np.random.default_rng(seed)
    taste = generator.normal(size=(N_USERS, 2))
    kind = generator.normal(size=(N_ITEMS, 2))
    quality = generator.normal(size=N_ITEMS) * 0.6
    noise = generator.normal(size=(N_USERS, N_ITEMS)) * 0.3

    # rating = 3.3 + quality + taste . kind + noise, as a whole number of 1 to 5
    signal = 3.3 + quality + taste @ kind.T + noise
    value = np.clip(np.round(signal), 1, 5)
    value[0] = 1

    chosen = generator.random((N_USERS, N_ITEMS)) < 0.5
    user, item = np.nonzero(chosen)
    hours = pd.to_timedelta(np.arange(len(user)), "h")
    rated_at = pd.Timestamp("2020-01-01", tz="UTC") + hours

    return pd.DataFrame(
        {
            "user_id": [f"u{u:03d}" for u in user],
            "item_id": [f"i{i:03d}" for i in item],
            "rating": value[user, item],
            "rated_at": rated_at.map(lambda moment: moment.isoformat()),
        }
    )


def make_world(
    engine: Engine, root: Path, ratings: pd.DataFrame | None = None, log: list[str] | None = None
) -> World:
    """Put ratings into the warehouse and return the world."""
    load(engine, make_ratings() if ratings is None else ratings)
    lines: list[str] = [] if log is None else log
    place = Workplace(engine, root.as_uri(), lines.append)

    return World(place, make_config(SETTINGS))


def artifact_folder(world: World) -> Path:
    """Return the folder of the world's artifact store."""
    return Path(world.place.artifact_root.removeprefix("file://"))


def load(engine: Engine, ratings: pd.DataFrame) -> int:
    """Insert ratings as one batch and return its number."""
    insert = sa.insert(tables.ingest_batches).values(
        source_uri="test",
        content_sha256="",
        fingerprint="",
        mode="merge",
        state="loaded",
        started_at=sa.func.now(),
        finished_at=sa.func.now(),
    )

    with transaction(engine) as connection:
        batch = connection.scalar(insert.returning(tables.ingest_batches.c.batch_id))
        copy_frame(connection, (schema_of(engine), "ratings"), ratings.assign(batch_id=batch))

    return int(batch)


def fit(
    world: World,
    split: SplitRef,
    stage: str = "evaluated",
    noise: float = 0.0,
    *,
    factors: int = 3,
    n_samples: int = 0,
) -> ModelRef:
    """Make both heads and save them as the trainer would.

    They are biases and a truncated SVD of the residuals, and one of what is liked.

    `noise` spoils the factors, for a candidate that is worse on purpose; `n_samples` says how many
    samples are kept.
    """
    snapshot = read_snapshot(split.uri, split.sha256)
    sides = [snapshot.train] if stage == "evaluated" else [snapshot.train, snapshot.test]
    ratings = concatenate(sides)
    rating = _rating_model(snapshot, ratings, factors, noise)
    ranking = _ranking_model(snapshot, ratings, factors, noise)
    samples = _samples(rating, n_samples) if n_samples else None

    root = f"{world.place.artifact_root}/models/{split.model_version}/{stage}"
    saved = {
        "rating": save_model(rating, f"{root}/rating", {}, sample_files(samples)),
        "ranking": save_model(ranking, f"{root}/ranking", {}),
    }
    heads: dict[str, HeadRef] = {
        head: HeadRef(f"{root}/{head}", saved[head], iterations=1) for head in world.config.heads()
    }
    return ModelRef(
        model_version=split.model_version,
        stage=stage,
        heads=heads,
        device="CPU",
        fit_seconds=0.1,
        found=found_by(snapshot, {}) if split.search and stage == "evaluated" else split.found,
    )


def found_by(snapshot: Snapshot, settings: dict[str, object]) -> FoundSettings:
    """Return settings as a night's search finds them."""
    warm_users, warm_items = snapshot.warm()
    return FoundSettings(
        settings=settings,
        source="night",
        found_at=datetime.now(UTC).isoformat(timespec="seconds"),
        grounds="on 100 validation ratings, NDCG@5 0.5 against 0.4 with the shipped ones",
        n_ratings=len(snapshot.train),
        n_users=int(warm_users.sum()),
        n_items=int(warm_items.sum()),
        trials=[{"head": "ranking", "settings": settings, "value": 0.5}],
    )


def fill_table(world: World, split: SplitRef, model: ModelRef, refitted: ModelRef) -> None:
    """Make the version's table of recommendations, up to its verification."""
    shards = pipeline.prepare(world.config, world.place, split, model, refitted)

    for shard in shards:
        pipeline.recommend_shard(world.config, world.place, refitted, shard)


def _rating_model(snapshot: Snapshot, ratings: Ratings, factors: int, noise: float) -> FactorModel:
    """Return biases, and a truncated SVD of what they leave."""
    n_users = len(snapshot.users)
    n_items = len(snapshot.items)

    # Biases one after the other: the items' first, the users' of what they leave.
    mean = float(ratings.value.mean())
    item_bias = _means(ratings.item, ratings.value - mean, n_items)
    unexplained = ratings.value - mean - item_bias[ratings.item]
    user_bias = _means(ratings.user, unexplained, n_users)

    # Pairs without a rating count as 0, which shrinks the factors; the 1.3 makes up for some of it.
    residual = np.zeros((n_users, n_items))
    residual[ratings.user, ratings.item] = unexplained - user_bias[ratings.user]
    user_factors, item_factors = _svd(residual * 1.3, factors)

    return FactorModel(
        mean=mean,
        user_bias=_float32(user_bias),
        item_bias=_float32(item_bias),
        user_factors=_float32(user_factors),
        item_factors=_float32(_spoil(item_factors, noise)),
        users=snapshot.users,
        items=snapshot.items,
    )


def _samples(model: FactorModel, n_samples: int) -> PosteriorSamples:
    """Return samples that lie around the model with a spread of .1, and a noise of .6."""
    generator = np.random.default_rng(3)

    def around(factors: np.ndarray, bias: np.ndarray) -> np.ndarray:
        rows = np.column_stack([factors, bias])
        spread = 0.1 * generator.normal(size=(n_samples, *rows.shape))

        return _float32(rows + spread)

    user = around(model.user_factors, model.user_bias)
    item = around(model.item_factors, model.item_bias)

    return PosteriorSamples(
        user=user,
        item=item,
        user_variance=np.full(user.shape[:2], 0.6, np.float32),
        item_variance=np.full(item.shape[:2], 0.6, np.float32),
    )


def _ranking_model(snapshot: Snapshot, ratings: Ratings, factors: int, noise: float) -> FactorModel:
    """Return a truncated SVD of what is liked."""
    n_users = len(snapshot.users)
    n_items = len(snapshot.items)
    liked = np.zeros((n_users, n_items))
    liked[ratings.user, ratings.item] = ratings.value >= 4

    # Who likes nothing has no factors, as the trainer leaves it.
    user_factors, item_factors = _svd(liked, factors)
    user_factors[~liked.any(axis=1)] = 0

    return FactorModel(
        mean=0.0,
        user_bias=np.zeros(n_users, np.float32),
        item_bias=np.zeros(n_items, np.float32),
        user_factors=_float32(user_factors),
        item_factors=_float32(_spoil(item_factors, noise)),
        users=snapshot.users,
        items=snapshot.items,
    )


def _spoil(factors: np.ndarray, noise: float) -> np.ndarray:
    """Return factors with normal noise of this size."""
    generator = np.random.default_rng(7)
    return factors + noise * generator.normal(size=factors.shape)


def _means(rows: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Return the mean per row, drawn to 0 by three values more."""
    sums = np.bincount(rows, values, minlength=n)
    counts = np.bincount(rows, minlength=n)

    return sums / (counts + 3.0)


def _float32(array: np.ndarray) -> np.ndarray:
    """Return an array as float32, as models are stored."""
    return array.astype(np.float32)


def _svd(matrix: np.ndarray, factors: int) -> tuple[np.ndarray, np.ndarray]:
    """Return U sqrt(S) and V sqrt(S) of the largest singular values."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(values[:factors])
    user_factors = left[:, :factors] * root
    item_factors = right[:factors].T * root

    return user_factors, item_factors


def with_sha256(model: ModelRef, head: str, sha256: str) -> ModelRef:
    """Return a model with another checksum on record for one of its heads."""
    changed = replace(model.heads[head], sha256=sha256)
    return replace(model, heads={**model.heads, head: changed})
