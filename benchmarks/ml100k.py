"""MovieLens 100K on its published folds: ours and the peers in the same run.

Protocol: fit on uN.base, measure on uN.test; predictions clipped to 1..5. Three seeds, except where
a peer takes none. Lists are measured by `shapes`, whose peers learn from the same rating values.
"""

import io
import os
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environments import PeerUnavailableError, cache_folder
from benchmarks.peer_runs import ML100K, PREDICTED_IN_FULL
from benchmarks.request import Request
from benchmarks.results import heading, kept, table, this_run, without_bars, write
from benchmarks.running import FAILURES, peer_points
from mf_core.backtest import read_folds
from mf_core.config import BayesConfig, Config, make_config
from mf_core.data.snapshot import Snapshot
from mf_core.models.baselines import biases_only_model
from mf_core.models.factors import FactorModel
from mf_core.sources.demo import ML100K_URL

FOLDS = range(1, 6)
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

Fit = dict[str, Any]


@dataclass(frozen=True)
class _Trials:
    """The fits that every system is measured by, and the settings of ours."""

    folder: Path
    folds: list[int]
    n_seeds: int
    overrides: dict[str, str]


def folds_folder() -> Path:
    """Return the folder with u1.base .. u5.test.

    It is what ML100K names, or else the official archive, unpacked into the cache.
    """
    if named := os.environ.get("ML100K"):
        return Path(named)

    parent = Path(os.environ.get("MF_CACHE_DIR") or "~/.cache/mf-retrain").expanduser()
    cache = parent / "ml-100k-folds"
    folder = cache / "ml-100k"
    if not (folder / "u5.test").exists():
        print(
            f"downloading {ML100K_URL}; or name a folder that holds u1.base .. u5.test in ML100K",
            file=sys.stderr,
        )
        with urllib.request.urlopen(ML100K_URL, timeout=30) as answer:
            zipfile.ZipFile(io.BytesIO(answer.read())).extractall(cache)
    return folder


def run_ml100k(request: Request, folds: list[int], n_seeds: int) -> None:
    """Measure the systems that `request` wants, and write results/NAME.

    Raises:
        SystemExit: the figures to keep are of another run or machine.
    """
    about = kept(request.name, request.run) or this_run() | {
        "settings": request.overrides,
        "n_seeds": n_seeds,
        "systems": {},
    }
    trials = _Trials(
        folder=folds_folder(),
        folds=folds,
        n_seeds=n_seeds,
        overrides=request.overrides,
    )
    for key in filter(request.wants, (*OURS, *ML100K, BIASES)):
        about["systems"][key] = _measure(key, trials)
        # After each system, so that an interrupted run leaves what it has measured.
        write(request.name, about, text_of(about))


def _measure(key: str, trials: _Trials) -> dict[str, Any]:
    """Return all fits of one system, those before a failure too."""
    label = _label(key)
    fits: list[Fit] = []
    failed = None

    try:
        for fit in _fits(key, trials):
            which = f"{label}, u{fit['fold']}, seed {fit['seed']}"
            print(f"{which}: RMSE {fit['rmse']:.4f}, {fit['seconds']:.2f} s", flush=True)
            fits.append(fit)
    except FAILURES as failure:
        failed = str(failure)
        print(f"{label}: failed: {failure}", flush=True)

    return {"label": label, "fits": fits, "failed": failed}


def _label(key: str) -> str:
    if key in OURS:
        label, _ = OURS[key]
        return label
    if key in ML100K:
        return ML100K[key].label
    return "biases only"


def _fits(key: str, trials: _Trials) -> Iterator[Fit]:
    """Yield each fold's and seed's figures of one system.

    Raises:
        PeerUnavailableError: it cannot be installed or run here.
        FitFailedError: a fit failed.
    """
    if key == "bayes-side" and "side_information" not in BayesConfig.model_fields:
        raise PeerUnavailableError("this version has no setting rating_head.bayes.side_information")

    for fold in trials.folds:
        if key == BIASES:
            yield _fit_biases(trials.folder, fold)
        elif key in OURS:
            _, settings = OURS[key]
            for seed in range(trials.n_seeds):
                # What the command line sets wins over the row's own settings.
                overrides = {**settings, **trials.overrides, "train.seed": seed}
                config = _config(trials.folder, fold, overrides)
                yield _fit_ours(config, fold, seed)
        else:
            n_seeds = trials.n_seeds if ML100K[key].seeded else 1
            for seed in range(n_seeds):
                yield _fit_peer(key, trials.folder, fold, seed)


def _config(folder: Path, fold: int, overrides: dict[str, Any]) -> Config:
    """Return the shipped defaults on one fold, but for `overrides`."""
    files = {
        "source.uri": str(folder / f"u{fold}.base"),
        "source.test_uri": str(folder / f"u{fold}.test"),
    }

    # Attributes are read only where they are used.
    if overrides.get("rating_head.bayes.side_information"):
        files["source.users_uri"] = str(folder / "u.user")
        files["source.items_uri"] = str(folder / "u.item")
    return make_config({**files, **overrides})


def _fit_biases(folder: Path, fold: int) -> Fit:
    snapshot = read_folds(_config(folder, fold, {}))
    model = biases_only_model(snapshot)
    return {
        "fold": fold,
        "seed": 0,
        **_errors(snapshot, model),
        # Nothing is drawn, and nothing worth timing is fitted.
        "seconds": 0.0,
    }


def _fit_ours(config: Config, fold: int, seed: int) -> Fit:
    from mf_core.solvers.fit import fit_rating_head

    snapshot = read_folds(config)

    # From arrays to a model, all of it: FitResult's own seconds are those of the iterations.
    began = time.perf_counter()
    rating = fit_rating_head(
        config,
        snapshot.train,
        snapshot.users,
        snapshot.items,
        **_attributes(config, snapshot),
    )
    seconds = time.perf_counter() - began

    return {
        "fold": fold,
        "seed": seed,
        **_errors(snapshot, rating.model),
        "seconds": seconds,
        "iterations": rating.iterations,
    }


def _attributes(config: Config, snapshot: Snapshot) -> dict[str, Any]:
    """Return the attributes as `fit_rating_head` takes them, where the settings want them."""
    if not getattr(config.rating_head.bayes, "side_information", False):
        return {}
    from mf_core.training.process import encoded_attributes

    return {"attributes": encoded_attributes(config, snapshot, print)}


def _errors(snapshot: Snapshot, model: FactorModel) -> dict[str, float]:
    """Return RMSE and MAE on the test rows, predictions clipped to the scale."""
    low, high = PREDICTED_IN_FULL
    test = snapshot.test
    predicted = model.predict(test.user, test.item)

    errors = np.clip(predicted, low, high) - test.value
    return {
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "mae": float(np.mean(np.abs(errors))),
    }


def _fit_peer(key: str, folder: Path, fold: int, seed: int) -> Fit:
    """Return the figures of the peer's last point.

    Raises:
        PeerUnavailableError: it cannot be installed or run here.
        FitFailedError: the fit failed.
    """
    data = _fold_arrays(folder, fold)
    # The points on the way to it are for curves.
    *_, last = peer_points(ML100K[key], data, PREDICTED_IN_FULL, seed)
    return {
        "fold": fold,
        "seed": seed,
        "rmse": last["rmse"],
        "mae": last["mae"],
        "seconds": last["seconds"],
        "prepare_seconds": last["prepare_seconds"],
        "peak_mb": last["peak_mb"],
        "iterations": last["iterations"],
    }


def _fold_arrays(folder: Path, fold: int) -> Path:
    """Return the fold as the runners' file, over the same row numbers as ours."""
    path = cache_folder() / "data" / f"ml100k_u{fold}.npz"
    if path.exists():
        return path

    snapshot = read_folds(_config(folder, fold, {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    # It gets its name only once it is whole.
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        np.savez(
            file,
            tru=snapshot.train.user,
            tri=snapshot.train.item,
            teu=snapshot.test.user,
            tei=snapshot.test.item,
            trr=snapshot.train.value,
            ter=snapshot.test.value,
        )
    Path(file.name).replace(path)
    return path


def text_of(about: dict[str, Any]) -> str:
    """Return the table: the systems from the best on."""
    rows = [_row(system) for system in about["systems"].values()]
    # By RMSE, which has its four decimals in every row; systems without one come last.
    rows.sort(key=lambda row: row[1] or "~")

    folds = [f"u{fold}" for fold in FOLDS]
    heads = ["system", "RMSE", "MAE", *folds, "train s per fold", "seeds"]
    return "\n\n".join([heading(about), table(heads, rows)])


def _row(system: dict[str, Any]) -> list[str]:
    """Return the system's line of the table; a failed one keeps it, with the reason."""
    label = system["label"]
    fits: list[Fit] = system["fits"]
    if system["failed"] or not fits:
        reason = without_bars(f"{label} (failed: {system['failed']})")
        return [reason, *[""] * 9]

    per_fold = []
    for fold in FOLDS:
        of_fold = [fit for fit in fits if fit["fold"] == fold]
        per_fold.append(f"{_mean(of_fold, 'rmse'):.4f}" if of_fold else "")

    seeds = {fit["seed"] for fit in fits}
    return [
        label,
        f"{_mean(fits, 'rmse'):.4f}",
        f"{_mean(fits, 'mae'):.4f}",
        *per_fold,
        f"{_mean(fits, 'seconds'):.2f}",
        str(len(seeds)),
    ]


def _mean(fits: list[Fit], name: str) -> float:
    """Return the mean of figure `name`.

    Folds and seeds count alike: each fold has as many seeds as any other.
    """
    return float(np.mean([fit[name] for fit in fits]))
