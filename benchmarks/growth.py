"""How much each night adds, and when it stops: `python -m benchmarks.growth FOLDER/u.data`.

The ratings of MovieLens 100K come in night by night, in the order of their time: most of them on
night 1, a share of news on each night after it. Each night is ingested, split, judged and published
on an embedded Postgres and a store on a disk, with what nothing needs removed after it. Between two
nights the records of the warehouse are dated back.

Nothing is trained: the models have random numbers, in the shapes that the rating solver `bayes`
leaves. What is measured are bytes, and numbers of the same type take the same room whatever they
say.

The table has what the warehouse and the artifacts take after each night; below it stands what one
night leaves, part by part.
"""

import argparse
import shlex
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Engine

from benchmarks.results import heading, table, this_run, write
from mf_core import pipeline
from mf_core.config import Config, make_config
from mf_core.data.snapshot import Snapshot, read_snapshot
from mf_core.data.store import names_in, size_of, store_path
from mf_core.models.factors import FactorModel, save_model
from mf_core.models.samples import PosteriorSamples, sample_files
from mf_core.pipeline import Workplace
from mf_core.records import HeadRef, ModelRef, SplitRef
from mf_core.training.manifest import Manifest, Stage
from mf_core.warehouse import transaction
from mf_core.warehouse.bootstrap import bootstrap_warehouse, migrate
from mf_core.warehouse.embedded import start_embedded

_MIB = 1 << 20
# Ratings that are there on the first night; the others come in evenly after it.
_FIRST = 0.8

_SOLVER = "bayes"

# Random models would not pass the gate as shipped. None of these changes how much is kept.
LENIENT = {
    "run.force": True,
    "gate.require_better_than_biases": False,
    "gate.require_popularity": False,
    "gate.max_rmse": 3,
    "gate.max_rmse_loss": 1,
    "gate.max_ndcg_loss": 1,
    "gate.min_refit_overlap": 0,
    "gate.bootstrap_samples": 100,
}

# What a record of the past is dated by.
_DATED = {
    "models": ("created_at", "published_at"),
    "gate_decisions": ("decided_at",),
    "promotions": ("promoted_at",),
    "snapshots": ("created_at", "used_at"),
    "runs": ("started_at", "ended_at"),
    "ingest_batches": ("started_at", "finished_at"),
}


@dataclass(frozen=True)
class Night:
    """What there is after a night, in bytes; and how many versions have lists and artifacts."""

    night: int
    warehouse: int
    artifacts: int
    snapshots: int
    models: int
    lists: int
    n_snapshots: int
    n_models: int
    n_lists: int


def main() -> None:
    """Run the nights and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ratings", type=Path, help="u.data of MovieLens 100K")
    parser.add_argument("--nights", type=int, default=40)
    parser.add_argument("--days-apart", type=int, default=1, help="days from night to night")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--name", default="growth", help="name of the file of results")
    options = parser.parse_args()

    wanted = dict(pair.split("=", 1) for pair in options.set)
    solver = make_config(wanted).rating_head.solver
    if solver != _SOLVER:
        parser.error(f"rating_head.solver is {solver}: only what {_SOLVER} leaves can be measured")
    about = this_run() | {"command": _command(options), "settings": {**LENIENT, **wanted}}
    with tempfile.TemporaryDirectory(prefix="mf-growth-") as folder:
        nights = _run(Path(folder), options, wanted)
    about["nights"] = [asdict(night) for night in nights]
    write(options.name, about, _text(about, nights))


def _run(folder: Path, options: argparse.Namespace, wanted: dict[str, str]) -> list[Night]:
    server = start_embedded(folder / "pgdata")
    try:
        bootstrap_warehouse(server.admin_url)
        url = server.url("warehouse", "mf_writer")
        migrate(url)
        place = pipeline.workplace(url, f"file://{folder}/artifacts", log=lambda line: None)
        ratings = _ratings(options.ratings)
        nights = []
        for number in range(1, options.nights + 1):
            if number > 1:
                _let_pass(place.engine, options.days_apart)
            share = _FIRST + (1 - _FIRST) * number / options.nights
            source = folder / "ratings.csv"
            ratings.head(round(share * len(ratings))).to_csv(source, index=False)
            config = make_config({"source.uri": str(source), **LENIENT, **wanted})
            _publish(config, place, f"night-{number}")
            nights.append(_measured(place, number))
            print(asdict(nights[-1]), flush=True)
        place.engine.dispose()
        return nights
    finally:
        server.stop()


def _ratings(path: Path) -> pd.DataFrame:
    columns = ["user_id", "item_id", "rating", "timestamp"]
    ratings = pd.read_csv(path, sep="\t", names=columns)
    return ratings.sort_values("timestamp", kind="stable")


def _publish(config: Config, place: Workplace, key: str) -> None:
    """Run all steps of a night but the training."""
    pipeline.start_run(place, key)
    pipeline.ingest(config, place)
    split = pipeline.split(config, place, key)
    model = _untrained(config, place, split, "evaluated")
    report = pipeline.evaluate(config, place, split, model)
    pipeline.gate(config, place, report)
    refitted = _untrained(config, place, split, "refit")
    for shard in pipeline.prepare(config, place, split, model, refitted):
        pipeline.recommend_shard(config, place, refitted, shard)
    pipeline.verify(config, place, refitted)
    pipeline.publish(config, place, split, report)
    pipeline.close_run(place, key)


def _untrained(config: Config, place: Workplace, split: SplitRef, stage: Stage) -> ModelRef:
    """Save models of random numbers in the shapes that the rating solver `bayes` leaves."""
    snapshot = read_snapshot(split.uri, split.sha256)
    manifest = Manifest.of(config, split, stage, place.artifact_root, parent_pid=0)
    bayes = config.rating_head.bayes
    rating = _random_model(snapshot, bayes.output_factors)
    ranking = _random_model(snapshot, config.ranking_head.n_factors)
    samples = PosteriorSamples(
        user=_random(bayes.kept_samples, len(snapshot.users), bayes.n_factors + 1),
        item=_random(bayes.kept_samples, len(snapshot.items), bayes.n_factors + 1),
        user_variance=1 + np.abs(_random(bayes.kept_samples, len(snapshot.users))),
        item_variance=1 + np.abs(_random(bayes.kept_samples, len(snapshot.items))),
    )
    metadata = {"config": manifest.config}
    return ModelRef(
        model_version=split.model_version,
        stage=stage,
        heads={
            "rating": _saved(rating, f"{manifest.output_uri}/rating", metadata, samples),
            "ranking": _saved(ranking, f"{manifest.output_uri}/ranking", metadata),
        },
        device="none",
        fit_seconds=0.0,
    )


def _saved(
    model: FactorModel,
    uri: str,
    metadata: dict[str, Any],
    samples: PosteriorSamples | None = None,
) -> HeadRef:
    return HeadRef(uri, save_model(model, uri, metadata, sample_files(samples)), iterations=1)


def _random_model(snapshot: Snapshot, n_factors: int) -> FactorModel:
    n_users = len(snapshot.users)
    n_items = len(snapshot.items)
    return FactorModel(
        mean=3.5,
        user_bias=_random(n_users),
        item_bias=_random(n_items),
        user_factors=_random(n_users, n_factors),
        item_factors=_random(n_items, n_factors),
        users=snapshot.users,
        items=snapshot.items,
    )


def _random(*shape: int) -> NDArray[np.float32]:
    """Return small numbers, the same for the same shape."""
    numbers = np.random.default_rng(0).normal(scale=0.05, size=shape)
    return numbers.astype(np.float32)


def _measured(place: Workplace, number: int) -> Night:
    root = store_path(place.artifact_root)
    with transaction(place.engine, isolation_level="AUTOCOMMIT") as connection:
        # What was dropped is free for the next night only when it is swept.
        connection.execute(sa.text("VACUUM"))
        [warehouse] = connection.scalars(sa.text("SELECT pg_database_size(current_database())"))
        lists = list(
            connection.scalars(
                sa.text(
                    "SELECT pg_total_relation_size(inhrelid) FROM pg_inherits "
                    "WHERE inhparent = 'mf.recommendation_rows'::regclass"
                )
            )
        )
    return Night(
        night=number,
        warehouse=warehouse,
        artifacts=size_of(root),
        snapshots=size_of(root / "snapshots"),
        models=size_of(root / "models"),
        lists=sum(lists),
        n_snapshots=len(names_in(root / "snapshots")),
        n_models=len(names_in(root / "models")),
        n_lists=len(lists),
    )


def _let_pass(engine: Engine, days: int) -> None:
    """Date every record so many days earlier."""
    with transaction(engine) as connection:
        for dated, columns in _DATED.items():
            moved = ", ".join(f"{name} = {name} - interval '{days} days'" for name in columns)
            connection.execute(sa.text(f"UPDATE mf.{dated} SET {moved}"))


def _command(options: argparse.Namespace) -> str:
    """Return the command that measures this again."""
    words = ["python", "-m", "benchmarks.growth", f"FOLDER/{options.ratings.name}"]
    words += ["--nights", str(options.nights), "--days-apart", str(options.days_apart)]
    for pair in options.set:
        words += ["--set", pair]
    return shlex.join(words)


def _text(about: dict[str, Any], nights: list[Night]) -> str:
    settings = ", ".join(f"`{name}={value}`" for name, value in about["settings"].items())
    protocol = (
        f"MovieLens 100K: `{about['command']}`. Models of random numbers, which pass by these "
        f"settings: {settings}. All others as shipped."
    )
    heads = [
        "night",
        "warehouse, MiB",
        "artifacts, MiB",
        "snapshots",
        "versions with models",
        "versions with lists",
    ]
    last = nights[-1]
    parts = (
        f"One snapshot: {last.snapshots / last.n_snapshots / _MIB:.2f} MiB. "
        f"The models of one version: {nights[0].models / _MIB:.2f} MiB (evaluated and refit). "
        f"The lists of one version: {last.lists / last.n_lists / _MIB:.2f} MiB."
    )
    weeks = (
        "Dating back leaves the day of the week as it is, so none of the versions of past weeks "
        "(`publish.keep_weeks`) is among them: add four."
    )
    grown = table(heads, map(_cells, nights))
    return "\n\n".join([heading(about), protocol, "# Growth per night", grown, f"{parts} {weeks}"])


def _cells(night: Night) -> list[str]:
    return [
        str(night.night),
        f"{night.warehouse / _MIB:.1f}",
        f"{night.artifacts / _MIB:.1f}",
        f"{night.n_snapshots}",
        f"{night.n_models}",
        f"{night.n_lists}",
    ]


if __name__ == "__main__":
    main()
