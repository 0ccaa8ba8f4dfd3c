"""What a warm start saves and what it costs: `python -m benchmarks.warm_start FOLDER/u1.base`.

The training ratings of a MovieLens 100K fold come in night by night: most of them on night 0, a share of news on each night after
it, in the order of their time (or shuffled, `--order random`). A tenth of them, chosen by a hash of the ids, is held out and
judged on; the fold's test rows are not looked at. Every night is fitted cold, and from the night before (`warm`: from the model
that was itself started warm, as a lineage in production is). Predictions clipped to 1..5; lists over tonight's catalogue,
training items left out, relevant from 4.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mf_core.config import Config, make_config
from mf_core.data.ratings import Ratings, id_map, pair_draws
from mf_core.data.snapshot import Snapshot, sort_ratings
from mf_core.judging.evaluate import make_heads
from mf_core.judging.metrics import list_quality
from mf_core.models.factors import FactorModel

JUDGED, JUDGED_SEED, CUTOFF = 0.1, 77, 10


@dataclass(frozen=True)
class NightResult:
    """One fit of one head on one night. `figure` is the rating head's RMSE or the ranking head's NDCG@10."""

    night: int
    head: str
    start: str
    n_train: int
    iterations: int
    seconds: float
    figure: float


def read_ratings(path: str, order: str) -> pd.DataFrame:
    """Return the ratings in the order in which they come in."""
    frame = pd.read_csv(
        path,
        sep="\t",
        names=["user_id", "item_id", "rating", "time"],
        dtype={"user_id": str, "item_id": str},
    )
    return (
        frame.sort_values("time", kind="stable")
        if order == "time"
        else frame.sample(frac=1, random_state=0)
    )


def make_snapshot(rows: pd.DataFrame) -> Snapshot:
    """Return tonight's ratings; the test side is the part that is judged on, whose pairs stay the same every night."""
    users, items = id_map(rows["user_id"]), id_map(rows["item_id"])
    value = rows["rating"].to_numpy(dtype=np.float32)
    ratings = Ratings(users.rows(rows["user_id"]), items.rows(rows["item_id"]), value)
    judged = pair_draws(ratings, users, items, JUDGED_SEED) < JUDGED
    return Snapshot(
        users, items, sort_ratings(ratings.take(~judged)), sort_ratings(ratings.take(judged))
    )


def fit(
    config: Config, snapshot: Snapshot, night: int, head: str, start: FactorModel | None
) -> tuple[NightResult, FactorModel]:
    """Fit one head and judge it."""
    from mf_core.solvers.fit import fit_ranking_head, fit_rating_head

    fit_head = fit_rating_head if head == "rating" else fit_ranking_head
    fitted = fit_head(config, snapshot.train, snapshot.users, snapshot.items, start=start)
    figure = (
        rmse(config, snapshot, fitted.model)
        if head == "rating"
        else ndcg(config, snapshot, fitted.model)
    )
    kind, n_train = "cold" if start is None else "warm", len(snapshot.train)
    return NightResult(
        night, head, kind, n_train, fitted.iterations, fitted.seconds, figure
    ), fitted.model


def rmse(config: Config, snapshot: Snapshot, model: FactorModel) -> float:
    """Return the RMSE on the judged part."""
    predicted = model.predict(snapshot.test.user, snapshot.test.item)
    errors = np.clip(predicted, config.data.scale_low, config.data.scale_high) - snapshot.test.value
    return float(np.sqrt(np.mean(errors**2)))


def ndcg(config: Config, snapshot: Snapshot, model: FactorModel) -> float:
    """Return the NDCG of the lists on the judged part."""
    ordering = make_heads(config, snapshot, model, model).ordering
    quality = list_quality(
        ordering, snapshot.train, snapshot.test, config.data.relevant_from, CUTOFF
    )
    return float(quality.ndcg.sum() / quality.judged.sum())


def measure(config: Config, rows: pd.DataFrame, nights: int, news: float) -> list[NightResult]:
    """Fit all nights, cold and warm."""
    results = []
    for head in ("rating", "ranking"):
        start = None
        for night in range(nights + 1):
            snapshot = make_snapshot(rows[: round(len(rows) * (1 - (nights - night) * news))])
            cold, model = fit(config, snapshot, night, head, None)
            results.append(cold)
            if start is not None:
                warm, model = fit(config, snapshot, night, head, start)
                results.append(warm)
            start = model
            for result in results[-2 if night else -1 :]:
                print(
                    f"night {night}, {head}, {result.start}: {result.figure:.4f} in {result.seconds:.2f} s",
                    file=sys.stderr,
                )
    return results


def table(results: list[NightResult]) -> str:
    """Return the results as a Markdown table."""
    names = list(asdict(results[0]))
    lines = ["| " + " | ".join(names) + " |", "| " + " | ".join("---" for _ in names) + " |"]
    for result in results:
        cells = (
            f"{value:.4f}" if isinstance(value, float) else str(value)
            for value in asdict(result).values()
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, and write the JSON where told."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.warm_start", description=__doc__)
    parser.add_argument("ratings", help="a fold's training ratings, such as ml-100k/u1.base")
    parser.add_argument("--nights", type=int, default=3, help="nights after the first one")
    parser.add_argument(
        "--news",
        type=float,
        default=0.01,
        help="share of the ratings that comes in on each of them",
    )
    parser.add_argument(
        "--order", choices=["time", "random"], default="time", help="order in which ratings come in"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="override a setting"
    )
    parser.add_argument("--json", type=Path, help="file for the results as JSON")
    options = parser.parse_args()
    overrides: dict[str, Any] = {
        "train.warm_start": True,
        **dict(pair.split("=", 1) for pair in options.set),
    }
    results = measure(
        make_config(overrides),
        read_ratings(options.ratings, options.order),
        options.nights,
        options.news,
    )
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


if __name__ == "__main__":
    main()
