"""What a warm start saves and what it costs: `python -m benchmarks.warm_start FOLDER/u1.base`.

The training ratings of a MovieLens 100K fold come in night by night: most of them on night 0, a
share of news on each night after it, in the order of their time (or shuffled, `--order random`).
A tenth of them, chosen by a hash of the ids, is held out and judged on; the fold's test rows are
not looked at. Every night is fitted cold, and from the night before (`warm`: from the model that
was itself started warm, as a lineage in production is). Predictions clipped to 1..5; lists over
tonight's catalogue, training items left out, relevant from 4.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.results import table as markdown_table
from mf_core.config import Config, make_config
from mf_core.data.ratings import Ratings, id_map, pair_draws
from mf_core.data.snapshot import Snapshot, sort_ratings
from mf_core.judging.metrics import list_quality
from mf_core.models.factors import FactorModel
from mf_core.models.heads import Models, make_heads

# Share of the ratings that is judged on, and the seed of the hash that chooses them.
JUDGED = 0.1
JUDGED_SEED = 77
CUTOFF = 10


@dataclass(frozen=True)
class NightResult:
    """One fit of one head on one night.

    `figure` is the rating head's RMSE or the ranking head's NDCG@10.
    """

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
    if order == "time":
        return frame.sort_values("time", kind="stable")
    return frame.sample(frac=1, random_state=0)


def make_snapshot(rows: pd.DataFrame) -> Snapshot:
    """Return tonight's ratings.

    The test side is the part that is judged on; its pairs stay the same every night.
    """
    users = id_map(rows["user_id"])
    items = id_map(rows["item_id"])
    ratings = Ratings(
        user=users.rows(rows["user_id"]),
        item=items.rows(rows["item_id"]),
        value=rows["rating"].to_numpy(dtype=np.float32),
    )
    judged = pair_draws(ratings, users, items, JUDGED_SEED) < JUDGED
    return Snapshot(
        users=users,
        items=items,
        train=sort_ratings(ratings.take(~judged)),
        test=sort_ratings(ratings.take(judged)),
    )


def fit(
    config: Config, snapshot: Snapshot, night: int, head: str, start: FactorModel | None
) -> tuple[NightResult, FactorModel]:
    """Fit one head and judge it."""
    from mf_core.solvers.fit import fit_ranking_head, fit_rating_head

    is_rating = head == "rating"
    fit_head = fit_rating_head if is_rating else fit_ranking_head
    fitted = fit_head(config, snapshot.train, snapshot.users, snapshot.items, start=start)

    judge = rmse if is_rating else ndcg
    result = NightResult(
        night=night,
        head=head,
        start="cold" if start is None else "warm",
        n_train=len(snapshot.train),
        iterations=fitted.iterations,
        seconds=fitted.seconds,
        figure=judge(config, snapshot, fitted.model),
    )
    return result, fitted.model


def rmse(config: Config, snapshot: Snapshot, model: FactorModel) -> float:
    """Return the RMSE on the judged part, predictions clipped to the scale."""
    low = config.data.scale_low
    high = config.data.scale_high
    judged = snapshot.test
    predicted = model.predict(judged.user, judged.item)

    errors = np.clip(predicted, low, high) - judged.value
    return float(np.sqrt(np.mean(errors**2)))


def ndcg(config: Config, snapshot: Snapshot, model: FactorModel) -> float:
    """Return the NDCG of the lists on the judged part."""
    lists = make_heads(config, snapshot, Models(model, model), snapshot.train).lists
    quality = list_quality(lists, snapshot.test, config.data, CUTOFF)
    return float(quality.ndcg.sum() / quality.judged.sum())


def measure(config: Config, rows: pd.DataFrame, nights: int, news: float) -> list[NightResult]:
    """Fit all nights, cold and warm; a share `news` of the ratings comes in on each."""
    snapshots = []
    for night in range(nights + 1):
        # Night by night, up to all of them on the last one.
        share = 1 - (nights - night) * news
        n_rows = round(len(rows) * share)
        snapshots.append(make_snapshot(rows[:n_rows]))

    results = []
    for head in ("rating", "ranking"):
        for result in _lineage(config, snapshots, head):
            results.append(result)
            print(
                f"night {result.night}, {head}, {result.start}: "
                f"{result.figure:.4f} in {result.seconds:.2f} s",
                file=sys.stderr,
            )
    return results


def _lineage(config: Config, snapshots: list[Snapshot], head: str) -> Iterator[NightResult]:
    """Yield each night's cold fit, and from the second night on the warm one too."""
    start = None
    for night, snapshot in enumerate(snapshots):
        cold, model = fit(config, snapshot, night, head, start=None)
        yield cold
        if start is not None:
            warm, model = fit(config, snapshot, night, head, start=start)
            yield warm

        # The warm one where there is one: production starts from such models too.
        start = model


def table(results: list[NightResult]) -> str:
    """Return the results as a Markdown table."""
    heads = list(asdict(results[0]))

    rows = []
    for result in results:
        values = asdict(result).values()
        rows.append([_cell(value) for value in values])
    return markdown_table(heads, rows)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return str(value)


def main() -> None:
    """Measure, print the table, and write the JSON where told."""
    options = _parser().parse_args()
    overrides: dict[str, Any] = {"train.warm_start": True}
    overrides |= dict(pair.split("=", 1) for pair in options.set)

    config = make_config(overrides)
    rows = read_ratings(options.ratings, options.order)
    results = measure(config, rows, options.nights, options.news)

    print(table(results))
    if options.json:
        figures = [asdict(result) for result in results]
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
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
        "--order",
        choices=["time", "random"],
        default="time",
        help="order in which ratings come in",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="override a setting",
    )
    parser.add_argument("--json", type=Path, help="file for the results as JSON")
    return parser


if __name__ == "__main__":
    main()
