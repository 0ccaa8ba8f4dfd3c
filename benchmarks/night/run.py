"""The driver: each case from its file to its readers, a process a step, floors in between."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.environments import ROOT, cache_folder, clean_environment
from benchmarks.night.alone import PUBLISHING, TOP_N
from benchmarks.night.cases import CASES
from benchmarks.night.place import NightPlace, night_place
from benchmarks.night.text import night_text
from benchmarks.request import Request
from benchmarks.results import kept, this_run, write
from benchmarks.running import points

# Synthetic ratings of half stars, fitted by least squares as set up, and lists of 100 for
# everybody. The gate lets pass whatever is measured: what it would say is not the question here.
SETTINGS: dict[str, str] = {
    "data.scale_low": "0.5",
    "data.max_volume_growth": "1000",
    "rating_head.solver": "als",
    "train.settings": "fixed",
    "recommend.top_n": "90",
    "recommend.reserve": "10",
    "gate.require_better_than_biases": "false",
    "gate.require_popularity": "false",
    "gate.max_rmse": "5",
    "gate.max_rmse_loss": "5",
    "gate.max_ndcg_loss": "1",
    "gate.max_refit_error_ratio": "100",
    "gate.min_refit_overlap": "0",
}

# What a version's rows take in Postgres, indexes included.
_GROWTH = """
SELECT pg_total_relation_size('mf.recommendation_rows_v{version}')
    + pg_total_relation_size('mf.popular_items') + pg_total_relation_size('mf.similar_items')
"""


def run_night(request: Request, names: Sequence[str], *, alone: bool, again: bool) -> None:
    """Measure a night of each case in `names`, and write results/NAME.

    Cases that the run to go on with has finished stay as they are, unless `again`. So do the two
    steps that are measured alone as well, if `alone`.

    Raises:
        SystemExit: the figures to keep are of another run or machine, or a floor failed.
        FitFailedError: a step failed; the text has its last lines.
    """
    about = kept(request.name, request.run) or this_run() | {"cases": {}}
    about |= {"settings": SETTINGS, "overrides": request.overrides}
    due = [name for name in names if again or not about["cases"].get(name, {}).get("finished")]
    for name in due:
        night = _Night(name, request.overrides)
        about["cases"][name] = night.figures
        with night_place() as place:
            night.measure(place)
        about["cases"] = _in_order(about["cases"])
        write(request.name, about, night_text(about))
    if alone and (again or "publishing" not in about):
        about["top_n"] = [_alone("top_n", shape) for shape in TOP_N]
        about["publishing"] = _alone("publishing", PUBLISHING)
    write(request.name, about, night_text(about))


def _alone(step: str, shape: Mapping[str, int]) -> Any:
    """Return what one step measures by itself, without a night."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    task = {"step": step, "shape": shape, "folder": str(folder), "settings": {}}
    # It asks no warehouse.
    print(f"{step} alone: {dict(shape)}", flush=True)
    return _measured(task | {"database": "postgresql:///none", "artifacts": str(folder)})["result"]


def _measured(task: Mapping[str, Any]) -> dict[str, Any]:
    """Run one task in a process of its own, and return what it has printed."""
    text = json.dumps({**task, "parent_pid": os.getpid()})
    command = [sys.executable, "-m", "benchmarks.night.process", text]
    environment = {
        **clean_environment(),
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    [measured] = points(command, environment, ROOT)
    return measured


def _in_order(cases: dict[str, Any]) -> dict[str, Any]:
    return {name: cases[name] for name in CASES if name in cases}


@dataclass
class _Night:
    """One case's night.

    Attributes:
        case: its name.
        overrides: settings, by dotted name.
        figures: what has been measured.
    """

    case: str
    overrides: dict[str, str]
    figures: dict[str, Any] = field(default_factory=dict)

    def measure(self, place: NightPlace) -> None:
        """Run all steps and their floors in `place`."""
        self._place = place
        self.figures.update({"about": CASES[self.case].about, "finished": False, "steps": {}})
        self.figures["counts"] = self._run("data", folder=str(place.folder))["result"]
        self._load()
        counted = {name: self.figures["counts"][name] for name in ("ratings", "users", "items")}
        self.figures["predicted"] = self._run("forecast", counts=counted)["result"]
        split = self._split()
        model, report = self._judged_model(split)
        self._lists(split, model, report)
        self.figures["disk"] = {
            "artifacts": sum(
                file.stat().st_size for file in place.artifacts.rglob("*") if file.is_file()
            ),
            "growth": place.ask(_GROWTH.format(version=split["model_version"])),
        }
        self.figures["finished"] = True

    def _load(self) -> None:
        """Load the first file, the same again, and the next night's."""
        place = self._place
        first, delta = place.folder / "first.csv", place.folder / "delta.csv"
        # It also brings the file into memory, for whoever reads it first.
        hashed = self._run("hash", source=first)["seconds"]
        floor = self._copy_floor(first)
        loaded = self._step("ingest, first load", "ingest", source=first, floor=floor)
        self._require(loaded["rows_inserted"] == self.figures["counts"]["first"], "rows loaded")
        again = self._step("ingest, same file", "ingest", source=first, floor=hashed)
        self._require(again["already_ingested"], "the same file known")
        floor = self._copy_floor(delta)
        added = self._step("ingest, 1% delta", "ingest", source=delta, floor=floor)
        n_new = added["rows_inserted"] + added["rows_updated"]
        self._require(n_new == self.figures["counts"]["delta"], "rows of the delta loaded")
        first.unlink()

    def _copy_floor(self, file: Path) -> float:
        """Return the seconds of COPY of a file into an empty table, and of its key."""
        self._place.psql(
            'CREATE TABLE public.floor (user_id text COLLATE "C", item_id text COLLATE "C", '
            "rating double precision, rated_at bigint)"
        )
        self._place.settle()
        seconds = self._place.psql(
            f"\\copy public.floor FROM '{file}' WITH (FORMAT csv, HEADER)",
            "ALTER TABLE public.floor ADD PRIMARY KEY (user_id, item_id)",
        )
        self._place.psql("DROP TABLE public.floor")
        return seconds

    def _split(self) -> dict[str, Any]:
        self._place.settle()
        scanned = self._place.psql("SELECT min(rating), max(rating), avg(rating) FROM mf.ratings")
        self._step("check", "check", floor=scanned)
        copied = self._place.psql(
            "COPY (SELECT user_id, item_id, rating, rated_at FROM mf.ratings) TO STDOUT"
        )
        return self._step("split", "split", floor=copied)

    def _judged_model(self, split: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Train, evaluate and approve; return the model's record and that of its figures."""
        model = self._step("train", "train", split=split)
        report = self._step("evaluate", "evaluate", split=split, model=model)
        self._step("gate", "gate", report=report)
        return model, report

    def _lists(self, split: dict[str, Any], model: dict[str, Any], report: dict[str, Any]) -> None:
        """Make the lists and let readers see them; then the floors, which need their rows."""
        records: dict[str, Any] = {"split": split, "model": model}
        refitted = self._step("refit", "refit", **records)
        records["refitted"] = refitted
        shards = self._step("prepare", "prepare", **records)
        self._place.settle()
        for shard in shards:
            self._step("recommend", "recommend", shard=shard, **records)
        self._step("verify", "verify", **records)
        self._step("publish", "publish", report=report, **records)
        copied, indexed = self._rows_floor(split["model_version"])

        lists = self._run("lists", **records)
        made = lists["result"]
        shape: dict[str, Any] = {name: made[name] for name in ("users", "items", "width")}
        gemm = self._run("gemm", **shape)
        multiplied = gemm["result"]["seconds"]
        self.figures["lists"] = made | {"blocking": gemm["result"]["blocking"]}
        self._keep("top-N alone", lists | {"seconds": made["seconds"]}, multiplied)
        steps = self.figures["steps"]
        steps["evaluate"]["floor_seconds"] = made["seconds"]
        steps["recommend"]["floor_seconds"] = multiplied + copied
        steps["verify"]["floor_seconds"] = indexed

    def _rows_floor(self, version: int) -> tuple[float, float]:
        """Return the seconds of COPY of a version's rows into a bare table, and of its indexes."""
        file = self._place.folder / "rows.copy"
        rows = f"mf.recommendation_rows_v{version}"
        self._place.psql(
            f"\\copy {rows} TO '{file}'",
            f"CREATE TABLE public.floor (LIKE {rows})",
        )
        self._place.settle()
        copied = self._place.psql(f"\\copy public.floor FROM '{file}'")
        indexed = self._place.psql(
            "ALTER TABLE public.floor ADD PRIMARY KEY (model_version, user_id, rank)",
            "CREATE INDEX ON public.floor (item_id, rank, user_id)",
        )
        self._place.psql("DROP TABLE public.floor")
        file.unlink()
        self.figures["rows"] = self._place.ask(f"SELECT count(*) FROM {rows}")
        return copied, indexed

    def _step(
        self,
        name: str,
        step: str,
        *,
        floor: float | None = None,
        source: Path | None = None,
        **task: Any,
    ) -> Any:
        """Run a step and keep its figures; return its record."""
        measured = self._run(step, source=source, **task)
        self._keep(name, measured, floor)
        return measured["result"]

    def _keep(self, name: str, measured: dict[str, Any], floor: float | None) -> None:
        """Keep a step's figures; those of shards are added up, and the largest memory counts."""
        before = self.figures["steps"].get(name, {"seconds": 0.0, "peak_mb": 0.0})
        self.figures["steps"][name] = {
            "seconds": before["seconds"] + measured["seconds"],
            "peak_mb": max(before["peak_mb"], measured["peak_mb"]),
            "floor_seconds": floor,
        }
        beside = "" if floor is None else f", floor {floor:.2f} s"
        taken = f"{measured['seconds']:.2f} s, {measured['peak_mb']:,.0f} MB{beside}"
        print(f"{self.case}: {name}: {taken}", flush=True)

    def _run(self, step: str, *, source: Path | None = None, **task: Any) -> dict[str, Any]:
        """Run a step in a process of its own, and return what it has printed."""
        settings = {**SETTINGS, **CASES[self.case].settings, **self.overrides}
        if source is not None:
            settings["source.uri"] = str(source)
        task |= {
            "step": step,
            "case": self.case,
            "settings": settings,
            "database": self._place.database_url,
            "artifacts": str(self._place.artifacts),
        }
        return _measured(task)

    def _require(self, holds: bool, what: str) -> None:
        if not holds:
            raise SystemExit(f"{self.case}: expected {what}; see the figures: {self.figures}")
