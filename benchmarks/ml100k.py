"""MovieLens 100K on its published folds: ours and the peers in the same run.

Protocol: fit on uN.base, measure on uN.test; predictions clipped to 1..5; lists over the full catalogue, training items left
out, relevant from 4. Three seeds, except where a peer takes none. Lists are compared with popularity (mf_core/baselines.py) and
EASE (Steck 2019, 'Embarrassingly Shallow Autoencoders for Sparse Data') on ratings from 4 with lambda 300, user by user.
"""

import io
import os
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environments import cache_folder
from benchmarks.peer_runs import ML100K, PREDICTED_IN_FULL
from benchmarks.results import heading, kept, table, this_run, write
from benchmarks.running import FAILURES, Point, peer_points
from mf_core.config import BayesConfig, Config, make_config
from mf_core.data.snapshot import Snapshot
from mf_core.judging.evaluate import make_heads
from mf_core.judging.metrics import Column, ListQuality, list_quality, paired_loss
from mf_core.models.baselines import biases_only_model, popularity_model
from mf_core.models.factors import FactorModel
from mf_core.tune.backtest import read_folds

ARCHIVE = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
FOLDS, CUTOFF, EASE_LAMBDA, SAMPLES = range(1, 6), 10, 300.0, 2_000
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "bayes": ("ours, bayes (the default)", {"rating_head.solver": "bayes"}),
    "bayes-side": (
        "ours, bayes with side information",
        {"rating_head.solver": "bayes", "rating_head.bayes.side_information": True},
    ),
    "bayes-plain": (
        "ours, bayes without implicit features, rank 10",
        {
            "rating_head.solver": "bayes",
            "rating_head.bayes.pattern_rank": 0,
            "rating_head.bayes.n_factors": 10,
        },
    ),
    "als": ("ours, als", {"rating_head.solver": "als"}),
}
BIASES = "biases"
# What `make bench` alone measures.
QUICK = {"bayes", BIASES}


def folds_folder() -> Path:
    """Return the folder with u1.base .. u5.test: ML100K, or the official archive unpacked into the cache."""
    if named := os.environ.get("ML100K"):
        return Path(named)
    cache = (
        Path(os.environ.get("MF_CACHE_DIR") or "~/.cache/mf-retrain").expanduser() / "ml-100k-folds"
    )
    if not (cache / "ml-100k" / "u5.test").exists():
        print(
            f"downloading {ARCHIVE}; or name a folder that holds u1.base .. u5.test in ML100K",
            file=sys.stderr,
        )
        with urllib.request.urlopen(ARCHIVE, timeout=30) as answer:
            zipfile.ZipFile(io.BytesIO(answer.read())).extractall(cache)
    return cache / "ml-100k"


def run_ml100k(
    only: set[str] | None,
    folds: list[int],
    seeds: int,
    overrides: dict[str, str],
    run: str | None,
    name: str,
) -> None:
    """Measure all systems, or `only` those, and write results/NAME.

    `run`: keep the other systems' figures from results/NAME.json, which must be of that run on this machine.
    """
    about = kept(name, run) or this_run() | {
        "settings": overrides,
        "n_seeds": seeds,
        "systems": {},
        "lists": None,
    }
    folder = folds_folder()
    keys = [
        key
        for key in (*OURS, *ML100K, BIASES)
        if only is None or key in only or key.split("-")[0] in only
    ]
    for key in keys:
        label = (
            OURS[key][0] if key in OURS else ML100K[key].label if key in ML100K else "biases only"
        )
        found = {"label": label, "fits": [], "failed": None}
        lists = _Lists() if key == "bayes" else None
        try:
            for fit in _fits(key, folder, folds, seeds, overrides, lists):
                print(
                    f"{label}, u{fit['fold']}, seed {fit['seed']}: RMSE {fit['rmse']:.4f}, {fit['seconds']:.2f} s",
                    flush=True,
                )
                found["fits"].append(fit)
        except FAILURES as failure:
            found["failed"] = str(failure)
            print(f"{label}: failed: {failure}", flush=True)
        about["systems"][key] = found
        about["lists"] = lists.figures() if lists else about["lists"]
        write(name, about, text_of(about))


def _fits(
    key: str,
    folder: Path,
    folds: list[int],
    seeds: int,
    overrides: dict[str, str],
    lists: "_Lists | None",
) -> Iterator[dict[str, Any]]:
    """Yield each fold's and seed's figures of one system. Raises PeerUnavailableError or FitFailedError."""
    if key == "bayes-side" and "side_information" not in BayesConfig.model_fields:
        raise FAILURES[0]("this version has no setting rating_head.bayes.side_information")
    for fold in folds:
        if key == BIASES:
            snapshot = read_folds(_config(folder, fold, {}))
            yield _figures(snapshot, biases_only_model(snapshot), fold, 0, 0.0)
        elif key in OURS:
            for seed in range(seeds):
                yield _fit_ours(folder, fold, seed, {**OURS[key][1], **overrides}, lists)
        else:
            n_seeds = seeds if ML100K[key].seeded else 1
            yield from (_fit_peer(key, folder, fold, seed) for seed in range(n_seeds))


def _config(folder: Path, fold: int, overrides: dict[str, Any]) -> Config:
    files = {
        "source.uri": str(folder / f"u{fold}.base"),
        "source.test_uri": str(folder / f"u{fold}.test"),
    }
    if overrides.get("rating_head.bayes.side_information"):
        files |= {
            "source.users_uri": str(folder / "u.user"),
            "source.items_uri": str(folder / "u.item"),
        }
    return make_config({**files, **overrides})


def _fit_ours(
    folder: Path, fold: int, seed: int, overrides: dict[str, Any], lists: "_Lists | None"
) -> dict[str, Any]:
    from mf_core.solvers.fit import fit_rating_head

    config = _config(folder, fold, {**overrides, "train.seed": seed})
    snapshot = read_folds(config)
    # From arrays to a model, all of it: FitResult's own seconds are those of the iterations.
    began = time.perf_counter()
    rating = fit_rating_head(
        config, snapshot.train, snapshot.users, snapshot.items, **_attributes(config, snapshot)
    )
    seconds = time.perf_counter() - began
    if lists is not None:
        lists.add(config, snapshot, rating.model, fold, seed)
    return _figures(snapshot, rating.model, fold, seed, seconds) | {"iterations": rating.iterations}


def _attributes(config: Config, snapshot: Snapshot) -> dict[str, Any]:
    """Return the encoded attributes as `fit_rating_head` takes them, where the settings want them."""
    if not getattr(config.rating_head.bayes, "side_information", False):
        return {}
    from mf_core.training.process import encoded_attributes

    return {"attributes": encoded_attributes(config, snapshot, print)}


def _figures(
    snapshot: Snapshot, model: FactorModel, fold: int, seed: int, seconds: float
) -> dict[str, Any]:
    predicted = np.clip(model.predict(snapshot.test.user, snapshot.test.item), *PREDICTED_IN_FULL)
    errors = predicted - snapshot.test.value
    figures = {"rmse": float(np.sqrt(np.mean(errors**2))), "mae": float(np.mean(np.abs(errors)))}
    return {"fold": fold, "seed": seed, **figures, "seconds": seconds}


def _fit_peer(key: str, folder: Path, fold: int, seed: int) -> dict[str, Any]:
    data = _fold_arrays(folder, fold)
    *_, last = peer_points(ML100K[key], data, PREDICTED_IN_FULL, seed)
    figures: Point = {
        name: last[name]
        for name in ("rmse", "mae", "seconds", "prepare_seconds", "peak_mb", "iterations")
    }
    return {"fold": fold, "seed": seed, **figures}


def _fold_arrays(folder: Path, fold: int) -> Path:
    """Return the fold as the runners' file, over the same row numbers as ours."""
    path = cache_folder() / "data" / f"ml100k_u{fold}.npz"
    if not path.exists():
        snapshot = read_folds(_config(folder, fold, {}))
        sides = {"tr": snapshot.train, "te": snapshot.test}
        arrays = {
            s + key[0]: getattr(side, key) for s, side in sides.items() for key in ("user", "item")
        }
        arrays |= {s + "r": side.value for s, side in sides.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        # Under its name only once it is whole.
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            np.savez(file, **arrays)
        Path(file.name).replace(path)
    return path


class _Lists:
    """NDCG of our lists, EASE's and popularity's, per user, fold and seed."""

    def __init__(self) -> None:
        self._ours: list[tuple[int, int, ListQuality]] = []
        self._theirs: dict[int, tuple[ListQuality, ListQuality]] = {}
        self._seconds: list[float] = []

    def add(
        self, config: Config, snapshot: Snapshot, rating: FactorModel, fold: int, seed: int
    ) -> None:
        """Fit the ranking head, and measure its lists and the peers'."""
        from mf_core.solvers.fit import fit_ranking_head

        began = time.perf_counter()
        ranking = fit_ranking_head(config, snapshot.train, snapshot.users, snapshot.items)
        self._seconds.append(time.perf_counter() - began)
        ordering = make_heads(config, snapshot, rating, ranking.model).ordering
        self._ours.append((fold, seed, _quality(config, snapshot, ordering)))
        if fold not in self._theirs:
            relevant_from = config.data.relevant_from
            models = ease(snapshot, relevant_from), popularity_model(snapshot, relevant_from)
            ease_quality, popularity_quality = (
                _quality(config, snapshot, model) for model in models
            )
            self._theirs[fold] = ease_quality, popularity_quality
        mine, theirs = _mean(self._ours[-1][2]), _mean(self._theirs[fold][0])
        print(
            f"lists of u{fold}, seed {seed}: NDCG@{CUTOFF} {mine:.4f}, EASE {theirs:.4f}",
            flush=True,
        )

    def figures(self) -> dict[str, Any]:
        """Return the figures per fold (seeds averaged by user) and over all folds together."""
        folds = list(self._theirs)
        ours = {
            fold: _columns([quality for f, _, quality in self._ours if f == fold]) for fold in folds
        }
        theirs = {fold: _columns([self._theirs[fold][0]]) for fold in folds}
        popularity = {fold: _columns([self._theirs[fold][1]]) for fold in folds}
        per_fold = {
            f"u{fold}": _compared(ours[fold], theirs[fold], popularity[fold], seed=fold)
            for fold in folds
        }
        # A user of several folds is one user: all that is his is drawn together.
        pooled = _compared(
            *(_sum(list(columns.values())) for columns in (ours, theirs, popularity)), seed=0
        )
        return {"folds": per_fold, "all": pooled, "ranking_seconds": float(np.mean(self._seconds))}


def _quality(config: Config, snapshot: Snapshot, model: FactorModel) -> ListQuality:
    return list_quality(model, snapshot.train, snapshot.test, config.data.relevant_from, CUTOFF)


def _mean(quality: ListQuality) -> float:
    return float(quality.ndcg.sum() / quality.judged.sum())


def _columns(qualities: list[ListQuality]) -> Column:
    judged = qualities[0].judged
    return Column(
        "ndcg",
        "all",
        np.mean([quality.ndcg for quality in qualities], axis=0),
        judged,
        int(judged.sum()),
    )


def _sum(columns: list[Column]) -> Column:
    numerator, denominator = (
        np.sum([getattr(c, side) for c in columns], axis=0) for side in ("numerator", "denominator")
    )
    return Column("ndcg", "all", numerator, denominator, sum(column.n for column in columns))


def _compared(ours: Column, ease_lists: Column, popularity: Column, seed: int) -> dict[str, Any]:
    """Losses are NDCG of EASE minus ours, with one-sided 95% bounds, paired by user: below 0 is better than EASE."""
    loss = paired_loss(ease_lists, ours, SAMPLES, seed)
    means = [
        float(column.numerator.sum() / column.denominator.sum())
        for column in (ours, ease_lists, popularity)
    ]
    figures = dict(zip(("ndcg", "ease_ndcg", "popularity_ndcg"), means, strict=True))
    return {
        **figures,
        "loss_against_ease": loss.value,
        "loss_low": loss.low,
        "loss_high": loss.high,
        "n": ours.n,
    }


def ease(snapshot: Snapshot, relevant_from: float) -> FactorModel:
    """Return EASE as a factor model: user factors are the users' rows, item factors the columns of its weight matrix."""
    rows = np.zeros((len(snapshot.users), len(snapshot.items)))
    liked = snapshot.train.take(snapshot.train.value >= relevant_from)
    rows[liked.user, liked.item] = 1
    inverse = np.linalg.inv(rows.T @ rows + EASE_LAMBDA * np.eye(rows.shape[1]))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    nothing = [np.zeros(n, np.float32) for n in rows.shape]
    return FactorModel(
        0.0,
        *nothing,
        rows.astype(np.float32),
        weights.T.astype(np.float32),
        snapshot.users,
        snapshot.items,
    )


def text_of(about: dict[str, Any]) -> str:
    """Return the tables."""
    rows = sorted(
        (_row(system) for system in about["systems"].values()), key=lambda row: row[1] or "~"
    )
    heads = ["system", "RMSE", "MAE", *(f"u{fold}" for fold in FOLDS), "train s per fold", "seeds"]
    parts = [heading(about), table(heads, rows)]
    if about["lists"]:
        parts += [
            f"Lists, NDCG@{CUTOFF}; the loss is EASE's NDCG minus ours, with one-sided 95% bounds.",
            _list_table(about["lists"]),
        ]
    return "\n\n".join(parts)


def _row(system: dict[str, Any]) -> list[str]:
    fits, label = system["fits"], system["label"]
    if system["failed"] or not fits:
        return [f"{label} (failed: {system['failed']})".replace("|", "/"), *[""] * 9]
    by_fold = {fold: [fit["rmse"] for fit in fits if fit["fold"] == fold] for fold in FOLDS}
    folds = [f"{np.mean(values):.4f}" if values else "" for values in by_fold.values()]
    means = [np.mean([fit[name] for fit in fits]) for name in ("rmse", "mae", "seconds")]
    n_seeds = len({fit["seed"] for fit in fits})
    return [label, f"{means[0]:.4f}", f"{means[1]:.4f}", *folds, f"{means[2]:.2f}", str(n_seeds)]


def _list_table(lists: dict[str, Any]) -> str:
    names = ("ndcg", "ease_ndcg", "popularity_ndcg", "loss_against_ease", "loss_low", "loss_high")
    rows = [
        [fold, *(f"{figures[name]:.4f}" for name in names)]
        for fold, figures in [*lists["folds"].items(), ("all", lists["all"])]
    ]
    return table(["fold", *names], rows)
