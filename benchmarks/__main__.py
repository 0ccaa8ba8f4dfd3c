"""`make bench`: MovieLens 100K on its published folds, ours and the strongest simple peers in the same run.

Protocol: fit on uN.base, measure on uN.test; predictions clipped to 1..5; lists over the full catalogue, training items left
out, relevant from 4. Peers: biases only and popularity (mf_core/baselines.py), and EASE (Steck 2019, 'Embarrassingly Shallow
Autoencoders for Sparse Data') on ratings from 4 with lambda 300.
"""

import argparse
import io
import json
import os
import platform
import sys
import urllib.request
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mf_core.backtest import read_folds
from mf_core.config import Config, make_config
from mf_core.evaluate import make_heads
from mf_core.factors import FactorModel
from mf_core.metrics import Column, ListQuality, list_quality, paired_loss
from mf_core.snapshot import Snapshot

ARCHIVE = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
RESULTS = Path(__file__).parent / "results"
FOLDS, CUTOFF, EASE_LAMBDA, SAMPLES = range(1, 6), 10, 300.0, 1_000


@dataclass(frozen=True)
class FoldResult:
    """One fold. Losses are NDCG of EASE minus ours, with one-sided 95% bounds, paired by user: below 0 is better than EASE."""

    fold: int
    rmse: float
    mae: float
    rating_seconds: float
    ndcg: float
    ranking_seconds: float
    ease_ndcg: float
    popularity_ndcg: float
    biases_rmse: float
    loss_against_ease: float
    loss_low: float
    loss_high: float


def folds_folder() -> Path:
    """Return the folder with u1.base .. u5.test: ML100K, or the official archive unpacked into the cache."""
    if named := os.environ.get("ML100K"):
        return Path(named)
    cache = Path(os.environ.get("MF_CACHE_DIR") or "~/.cache/mf-retrain").expanduser() / "ml-100k-folds"
    if not (cache / "ml-100k" / "u5.test").exists():
        print(f"downloading {ARCHIVE}; or name a folder that holds u1.base .. u5.test in ML100K", file=sys.stderr)
        with urllib.request.urlopen(ARCHIVE, timeout=30) as answer:
            zipfile.ZipFile(io.BytesIO(answer.read())).extractall(cache)
    return cache / "ml-100k"


def ease(snapshot: Snapshot, relevant_from: float) -> FactorModel:
    """Return EASE as a factor model: user factors are the users' rows, item factors the columns of its weight matrix."""
    rows = np.zeros((len(snapshot.users), len(snapshot.items)))
    liked = snapshot.train.take(snapshot.train.value >= relevant_from)
    rows[liked.user, liked.item] = 1
    inverse = np.linalg.inv(rows.T @ rows + EASE_LAMBDA * np.eye(rows.shape[1]))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    nothing = [np.zeros(n, np.float32) for n in rows.shape]
    return FactorModel(0.0, *nothing, rows.astype(np.float32), weights.T.astype(np.float32), snapshot.users, snapshot.items)


def measure_fold(folder: Path, fold: int, overrides: dict[str, Any]) -> FoldResult:
    """Fit and measure one fold."""
    from mf_core.baselines import biases_only_model, popularity_model
    from mf_core.solvers.heads import fit_ranking_head, fit_rating_head

    files = {"source.uri": str(folder / f"u{fold}.base"), "source.test_uri": str(folder / f"u{fold}.test")}
    config = make_config({**files, **overrides})
    snapshot = read_folds(config)
    rating = fit_rating_head(config, snapshot.train, snapshot.users, snapshot.items)
    ranking = fit_ranking_head(config, snapshot.train, snapshot.users, snapshot.items)
    relevant_from = config.data.relevant_from
    ours = _lists(config, snapshot, make_heads(config, snapshot, rating.model, ranking.model).ordering)
    theirs = _lists(config, snapshot, ease(snapshot, relevant_from))
    loss = paired_loss(_column(theirs), _column(ours), SAMPLES, seed=fold)
    errors = _errors(config, snapshot, rating.model)
    return FoldResult(
        fold=fold,
        rmse=float(np.sqrt(np.mean(errors**2))),
        mae=float(np.mean(np.abs(errors))),
        rating_seconds=rating.seconds,
        ndcg=_mean(ours),
        ranking_seconds=ranking.seconds,
        ease_ndcg=_mean(theirs),
        popularity_ndcg=_mean(_lists(config, snapshot, popularity_model(snapshot, relevant_from))),
        biases_rmse=float(np.sqrt(np.mean(_errors(config, snapshot, biases_only_model(snapshot)) ** 2))),
        loss_against_ease=loss.value,
        loss_low=loss.low,
        loss_high=loss.high,
    )


def _errors(config: Config, snapshot: Snapshot, model: FactorModel) -> np.ndarray:
    predicted = model.predict(snapshot.test.user, snapshot.test.item)
    return np.asarray(np.clip(predicted, config.data.scale_low, config.data.scale_high) - snapshot.test.value)


def _lists(config: Config, snapshot: Snapshot, model: FactorModel) -> ListQuality:
    return list_quality(model, snapshot.train, snapshot.test, config.data.relevant_from, CUTOFF)


def _column(quality: ListQuality) -> Column:
    return Column("ndcg", "all", quality.ndcg, quality.judged, int(quality.judged.sum()))


def _mean(quality: ListQuality) -> float:
    return float(quality.ndcg.sum() / quality.judged.sum())


def table(results: list[FoldResult]) -> str:
    """Return the results as a Markdown table with a row of means."""
    shown = ("fold", "rmse", "mae", "biases_rmse", "rating_seconds", "ndcg", "ease_ndcg", "popularity_ndcg", "ranking_seconds")
    lines = ["| " + " | ".join(shown) + " |", "| " + " | ".join("---" for _ in shown) + " |"]
    for result in results:
        lines.append("| " + " | ".join(f"{asdict(result)[n]:.4f}" if n != "fold" else f"u{result.fold}" for n in shown) + " |")
    means = [f"{np.mean([asdict(r)[n] for r in results]):.4f}" for n in shown[1:]]
    return "\n".join([*lines, "| mean | " + " | ".join(means) + " |"])


def main() -> None:
    """Measure all folds, print the table, and write it and the JSON beside this file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="override a setting")
    parser.add_argument("--name", default="ml100k", help="name of the files of results")
    options = parser.parse_args()
    overrides = dict(pair.split("=", 1) for pair in options.set)
    results = []
    for fold in FOLDS:
        result = measure_fold(folds_folder(), fold, overrides)
        print(f"u{fold}: RMSE {result.rmse:.4f}, NDCG@10 {result.ndcg:.4f} (EASE {result.ease_ndcg:.4f})", flush=True)
        results.append(result)
    print(table(results))
    RESULTS.mkdir(exist_ok=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    about = {"settings": overrides, "machine": machine, "folds": [asdict(result) for result in results]}
    (RESULTS / f"{options.name}.json").write_text(json.dumps(about, indent=1) + "\n")
    (RESULTS / f"{options.name}.md").write_text(table(results) + "\n")


if __name__ == "__main__":
    main()
