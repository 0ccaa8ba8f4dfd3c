"""`make bench BENCH_ARGS=shapes`: ours and peers with the same information, on sets of many shapes.

Every system finds its settings on a part of the training rows that is parted off as the test side
was, ours by the product's own search. Test rows are read once, at the end.

Each system's lists and predictions are kept in var/benchmarks/shapes-runs/RUN, so that a run that
was cut off goes on with `--run ID`, and measures only what it lacks; `--again` measures what
`--only` names once more.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.environments import (
    ROOT,
    PeerUnavailableError,
    cache_folder,
    clean_environment,
    python_of,
)
from benchmarks.request import Request
from benchmarks.results import kept, this_run, where_and_what, write
from benchmarks.running import FAILURES, points
from benchmarks.sets import ML100K, Case, protocols_of, write_case
from benchmarks.shape_pages import text_of
from benchmarks.shape_results import Measured, figures_of, measure, pooled, shape_of


@dataclass(frozen=True)
class _System:
    """One that is measured.

    Attributes:
        environment: key of `ENVIRONMENTS`; None for ours.
        runner: file of the peer in `peers`.
        overrides: settings of ours.
        head: the head of ours to fit; None fits both.
        seeded: whether more than one seed makes sense.
        rates: whether it predicts ratings and makes no lists.
        needs_features: whether it learns from attributes, which only MovieLens 100K has here.
        events: whether it is for events alone.
        most_levels: a scale of more levels is left out; an ordinal model has a cut for each.
    """

    environment: str | None = None
    runner: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    head: str | None = None
    seeded: bool = False
    rates: bool = False
    needs_features: bool = False
    events: bool = False
    most_levels: float = float("inf")


_LINEAR = _System("linear", "run_linear.py")
_SIDE = {"rating_head.bayes.side_information": True}
SYSTEMS = {
    "ours": _System(seeded=True),
    "ours_als": _System(overrides={"rating_head.solver": "als"}, head="rating", rates=True),
    "ours_side": _System(
        overrides=_SIDE, head="rating", seeded=True, rates=True, needs_features=True
    ),
    **dict.fromkeys(("ease", "dlae", "edlae", "ease_relevant", "rp3beta", "popularity"), _LINEAR),
    "bm25": _System("linear", "run_linear.py", events=True),
    "ials": _System("implicit", "run_implicit.py"),
    "biases": _System("linear", "run_linear.py", rates=True),
    "myfm": _System("myfm", "run_myfm_found.py", rates=True),
    "myfm_ordinal": _System("myfm", "run_myfm_found.py", rates=True, most_levels=20),
    "myfm_side": _System("myfm", "run_myfm_found.py", rates=True, needs_features=True),
}
# Errors of ratings are measured where the test rows are a fair part of all, not a few users'.
_RATED = ("random", "last_fifth", "u1", "u2", "u3", "u4", "u5")


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes:
        sets: their names.
        protocols: those to measure by; None for all that a set has.
        n_seeds: of ours.
        again: measure what is there already, too.
    """

    sets: list[str]
    protocols: list[str] | None
    n_seeds: int
    again: bool


def run_shapes(request: Request, extent: Extent) -> None:
    """Measure the systems that `request` wants, and write results/NAME.

    Raises:
        SystemExit: the figures to keep are of another run or machine, or no set has a protocol of
            the names given.
    """
    known = {protocol for name in extent.sets for protocol in protocols_of(name)}
    if unknown := set(extent.protocols or ()) - known:
        raise SystemExit(
            f"no set of {', '.join(extent.sets)} has the protocol {', '.join(sorted(unknown))}; "
            f"there are {', '.join(sorted(known))}"
        )
    # Lists and predictions don't hang on how busy a machine is.
    about = kept(request.name, request.run, timed=False) or this_run() | {
        "settings": request.overrides,
        "n_seeds": extent.n_seeds,
        "cases": {},
    }
    folder = cache_folder() / "shapes-runs" / about["run"]
    for name in extent.sets:
        measured = []
        for protocol in protocols_of(name):
            if extent.protocols and protocol not in extent.protocols:
                continue
            try:
                case = write_case(name, protocol)
            except PeerUnavailableError as error:
                print(f"{name}: not to be had here: {error}", flush=True)
                continue
            failed = _kept_failures(about, case, request)
            failed |= _run_systems(case, request, folder, extent)
            systems = _measured(case, folder)
            if not systems and not failed:
                continue
            about["cases"][case.name] = {
                "shape": shape_of(case),
                **figures_of(systems, case.scale),
                "failed": failed,
                "measured": where_and_what(),
            }
            measured.append((case, systems))
            # After each case, so that an interrupted run leaves what it has measured.
            write(request.name, about, text_of(about))

        folds = [(case, systems) for case, systems in measured if case.protocol.startswith("u")]
        if len(folds) > 1:
            about["cases"][f"{name}/all folds"] = {
                **figures_of(pooled(folds), case.scale),
                "measured": where_and_what(),
            }
            write(request.name, about, text_of(about))


def _kept_failures(about: dict[str, Any], case: Case, request: Request) -> dict[str, str]:
    """Return why systems failed before, of those that are not to be measured now."""
    before = about["cases"].get(case.name, {}).get("failed", {})
    return {name: reason for name, reason in before.items() if not request.wants(name)}


def _run_systems(case: Case, request: Request, folder: Path, extent: Extent) -> dict[str, str]:
    """Run what is wanted and not there yet; return the reasons of the systems that failed."""
    failed = {}
    for name, system in SYSTEMS.items():
        if not _takes_part(system, case) or not request.wants(name):
            continue
        try:
            for seed in range(extent.n_seeds if system.seeded else 1):
                out = _file(folder, case, name, seed)
                if _is_of(case, out) and not extent.again:
                    continue
                out.parent.mkdir(parents=True, exist_ok=True)
                _run(name, case, seed, out, request)
        except FAILURES as failure:
            failed[name] = str(failure)
            print(f"{case.name}, {name}: failed: {failure}", flush=True)
    return failed


def _takes_part(system: _System, case: Case) -> bool:
    if case.kind == "events":
        return not system.rates
    if system.events:
        return False
    scale = case.scale
    n_levels = 1 + (scale.high - scale.low) / scale.step
    if n_levels > system.most_levels or (system.needs_features and case.set != ML100K):
        return False
    return not system.rates or case.protocol in _RATED


def _file(folder: Path, case: Case, name: str, seed: int) -> Path:
    return folder / case.set / case.protocol / f"{name}.{seed}.npz"


def _is_of(case: Case, out: Path) -> bool:
    """Say whether `out` is there and of the case as it is now."""
    return out.exists() and out.stat().st_mtime > case.arrays.stat().st_mtime


def _run(name: str, case: Case, seed: int, out: Path, request: Request) -> None:
    """Run one system once. Raises PeerUnavailableError or FitFailedError."""
    system = SYSTEMS[name]
    if system.environment is None:
        command, environment, place = _our_command(system, case, seed, request)
    else:
        command, environment, place = _peer_command(name, system, case, seed)
    for point in points([*command, str(out)], environment, place):
        print(f"{case.name}, {name}, seed {seed}: {_short(point)}", flush=True)


def _our_command(
    system: _System, case: Case, seed: int, request: Request
) -> tuple[list[str], dict[str, str], Path | None]:
    files = {"source.uri": str(case.train), "source.test_uri": str(case.test)}
    if system.needs_features:
        files |= _attribute_files()
    overrides = {
        **case.settings(),
        **files,
        **system.overrides,
        # What the command line sets wins.
        **request.overrides,
        "train.seed": seed,
    }
    task = json.dumps({"overrides": overrides, "head": system.head})
    command = [sys.executable, "-m", "benchmarks.ours_found", str(case.arrays), task]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    return command, environment, ROOT


def _attribute_files() -> dict[str, str]:
    from benchmarks.ml100k import folds_folder

    folder = folds_folder()
    return {"source.users_uri": str(folder / "u.user"), "source.items_uri": str(folder / "u.item")}


def _peer_command(
    name: str, system: _System, case: Case, seed: int
) -> tuple[list[str], dict[str, str], Path | None]:
    assert system.environment is not None
    task = json.dumps(
        {
            "system": name,
            "seed": seed,
            "kind": case.kind,
            "low": case.scale.low,
            "high": case.scale.high,
            "relevant_from": case.scale.relevant_from,
        }
    )
    runner = Path(__file__).parent / "peers" / system.runner
    python = python_of(system.environment)
    command = [str(python), str(runner), str(case.arrays.resolve()), task]
    return command, clean_environment(), None


def _short(point: Mapping[str, Any]) -> str:
    return json.dumps(point)[:200]


def _measured(case: Case, folder: Path) -> dict[str, Measured]:
    """Return the figures of every system whose files are there."""
    return dict(_each_measured(case, folder))


def _each_measured(case: Case, folder: Path) -> Iterator[tuple[str, Measured]]:
    for name in SYSTEMS:
        files = sorted((folder / case.set / case.protocol).glob(f"{name}.*.npz"))
        files = [file for file in files if _is_of(case, file)]
        if files:
            yield name, measure(case, files)
