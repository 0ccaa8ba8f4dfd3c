"""How much each night adds, and when it stops: `python -m benchmarks.growth FOLDER/u.data`.

The ratings of MovieLens 100K come in night by night, in the order of their time: most of them on
night 1, a share of news on each night after it. Each night is a whole `mf run` on an embedded
Postgres and a store on a disk, published, with what nothing needs removed after it. Between two
nights the clock of the warehouse's records is put forward, so that a dozen nights can span a month.

The table has, after each night, what the warehouse and the artifacts take; below it stands what one
night leaves, part by part.
"""

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from benchmarks.results import RESULTS, this_run
from benchmarks.results import table as markdown_table
from mf_core import pipeline
from mf_core.config import make_config
from mf_core.data.store import names_in, size_of, store_path
from mf_core.pipeline import Workplace
from mf_core.warehouse import transaction
from mf_core.warehouse.bootstrap import bootstrap_warehouse, migrate
from mf_core.warehouse.embedded import start_embedded

_MIB = 1 << 20
# Ratings that are there on the first night; the others come in evenly after it.
_FIRST = 0.8

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
    parser.add_argument("--nights", type=int, default=12)
    parser.add_argument("--days-apart", type=int, default=4, help="days from night to night")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--name", default="growth", help="name of the file of results")
    options = parser.parse_args()

    wanted = dict(pair.split("=", 1) for pair in options.set)
    with tempfile.TemporaryDirectory(prefix="mf-growth-") as folder:
        nights = _run(Path(folder), options, wanted)
    _write(options, wanted, nights)


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
            config = make_config({"source.uri": str(source), "run.force": True, **wanted})
            pipeline.run_all(config, place, f"night-{number}")
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
        for table, columns in _DATED.items():
            moved = ", ".join(f"{name} = {name} - interval '{days} days'" for name in columns)
            connection.execute(sa.text(f"UPDATE mf.{table} SET {moved}"))


def _write(options: argparse.Namespace, wanted: dict[str, str], nights: list[Night]) -> None:
    run = this_run()
    content = {"run": run, "settings": wanted, "days_apart": options.days_apart}
    content["nights"] = [asdict(night) for night in nights]
    (RESULTS / f"{options.name}.json").write_text(json.dumps(content, indent=1) + "\n")

    rows = [
        [
            str(night.night),
            f"{night.warehouse / _MIB:.1f}",
            f"{night.artifacts / _MIB:.1f}",
            f"{night.n_snapshots}",
            f"{night.n_models}",
            f"{night.n_lists}",
        ]
        for night in nights
    ]
    header = [
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
    settings = " ".join(f"`{name}={value}`" for name, value in wanted.items()) or "as shipped"
    said = (
        f"MovieLens 100K, {options.days_apart} days from night to night, settings {settings}; "
        f"run {run['run']}, commit {run['commit']}."
    )
    text = "\n\n".join(["# Growth per night", said, markdown_table(header, rows), parts]) + "\n"
    (RESULTS / f"{options.name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
