"""Every run leaves a trace, whatever it dies of: `mf.runs` on a real Postgres."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.errors import GateError, InputError
from mf_core.intake import ingest, quality
from mf_core.judging import gate
from mf_core.pipeline import data as data_steps
from mf_core.pipeline import models as model_steps
from mf_core.publishing import publish, verification
from mf_core.records import ModelRef
from mf_core.training.manifest import Manifest
from mf_core.warehouse import runs, transaction
from mf_core.warehouse.text import storable

from .test_publish import rows
from .worlds import World, fit, make_ratings, make_world

KEY = "night"


@pytest.fixture
def world(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A source of ratings, and a trainer that needs no TensorFlow."""
    source = tmp_path / "ratings.csv"
    make_ratings().rename(columns={"rated_at": "timestamp"}).to_csv(source, index=False)
    ratings = make_ratings().head(0)
    made = make_world(engine, tmp_path / "artifacts", ratings, log=[])

    def train(manifest: Manifest, *_: object) -> ModelRef:
        """Fit by NumPy what the trainer would."""
        split: Any = SimpleNamespace(
            uri=manifest.snapshot_uri,
            sha256=manifest.snapshot_sha256,
            model_version=manifest.model_version,
            search=manifest.search,
            found=manifest.found,
        )
        return fit(made, split, manifest.stage)

    monkeypatch.setattr("mf_core.pipeline.models.run_trainer", train)
    return made.with_settings(source__uri=str(source), data__min_ratings=100, run__force=False)


def last_run(engine: Engine) -> dict[str, Any]:
    """Return the run that was started last."""
    with transaction(engine) as connection:
        [run] = runs.latest(connection)
    return run


def breaking(
    message: str, stage: str | None = None, spared: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """Return a function that fails; with a `stage`, `spared` does the work of other stages."""

    def fail(*arguments: Any, **options: Any) -> Any:
        """Raise what a step may raise."""
        if stage is not None and spared is not None and arguments[0].stage != stage:
            return spared(*arguments, **options)
        raise InputError(message)

    return fail


# What is broken to end a run in each step; of the trainer, the work of one stage.
BROKEN: dict[str, tuple[Any, str, str | None]] = {
    "ingest": (ingest, "ingest", None),
    "check": (quality, "check_ratings", None),
    "split": (data_steps, "take_snapshot", None),
    "train": (model_steps, "run_trainer", "evaluated"),
    "evaluate": (model_steps, "measure", None),
    "gate": (gate, "judge", None),
    "refit": (model_steps, "run_trainer", "refit"),
    "prepare": (publish, "create_table", None),
    "recommend": (publish, "write_shard", None),
    "verify": (verification, "verify_table", None),
    "publish": (publish, "attach", None),
}


@pytest.mark.parametrize("step", BROKEN)
def test_a_run_that_dies_says_in_which_step_and_of_what(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    place, name, stage = BROKEN[step]
    broken = breaking("the machine is on fire", stage, spared=getattr(place, name))
    monkeypatch.setattr(place, name, broken)
    with pytest.raises(InputError, match="on fire"):
        pipeline.run_all(world.config, world.place, KEY)
    run = last_run(engine)
    assert (run["run_key"], run["outcome"], run["step"]) == (KEY, "failed", step)
    assert run["message"] == "the machine is on fire"
    assert run["started_by"] == world.place.actor
    assert run["started_at"] < run["ended_at"]
    assert run["summary"] == f"failed in step {step}"
    assert "docs/runbook.md" in run["what_to_do"]
    made = dict(rows(engine, "SELECT model_version, state FROM mf.models"))
    assert made == ({} if run["model_version"] is None else {run["model_version"]: "stopped"})


def test_a_run_that_goes_live_and_one_that_finds_nothing_new(world: World, engine: Engine) -> None:
    pipeline.run_all(world.config, world.place, KEY)
    run = last_run(engine)
    assert (run["outcome"], run["model_version"], run["step"]) == ("published", 1, None)
    assert run["what_to_do"] == ""

    pipeline.run_all(world.config, world.place, "next night")
    run = last_run(engine)
    assert (run["run_key"], run["outcome"]) == ("next night", "nothing_new")
    assert (run["model_version"], run["message"]) == (None, None)
    assert "nothing was new" in run["summary"]


def test_a_dry_run_and_a_refusal(world: World, engine: Engine) -> None:
    dry = world.with_settings(run__dry_run=True)
    pipeline.run_all(dry.config, dry.place, KEY)
    run = last_run(engine)
    assert (run["outcome"], run["model_version"]) == ("dry_run", 1)
    assert "would have gone live" in run["summary"]

    strict = world.with_settings(gate__max_rmse=0.001)
    with pytest.raises(GateError):
        pipeline.run_all(strict.config, strict.place, "strict")
    run = last_run(engine)
    assert (run["outcome"], run["step"], run["model_version"]) == ("refused", "gate", 2)
    assert "exceeds the limit" in run["message"]
    assert "mf override" in run["what_to_do"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyboardInterrupt(), "interrupted from the keyboard"),
        (SystemExit(143), "ended with status 143, as a signal asked for"),
        (ValueError("x"), "ValueError: x"),
        (ValueError(), "ValueError"),
        (InputError("a \0 and half a character \ud800"), "a ? and half a character ?"),
        (InputError("long" * 10_000), ("long" * 10_000)[: runs.MAX_MESSAGE]),
    ],
)
def test_whatever_ends_a_run_is_put_in_words(
    world: World, engine: Engine, error: BaseException, words: str
) -> None:
    pipeline.start_run(world.place, KEY)
    pipeline.record_failure(world.place, KEY, "check", error)
    assert last_run(engine)["message"] == words


def test_a_run_that_is_killed_runs_for_ever_and_says_since_when(
    world: World, engine: Engine
) -> None:
    pipeline.start_run(world.place, KEY)
    with transaction(engine) as connection:
        connection.execute(
            sa.text("UPDATE mf.runs SET started_at = started_at - interval '31 hours'")
        )
    run = last_run(engine)
    assert (run["outcome"], run["ended_at"]) == ("running", None)
    assert run["summary"] == "running for 31 hours"
    assert f"mf run --key {KEY}" in run["what_to_do"]


def test_a_run_started_over_begins_again(world: World, engine: Engine) -> None:
    pipeline.start_run(world.place, KEY)
    pipeline.record_failure(world.place, KEY, "check", InputError("too few"))
    pipeline.close_run(world.place, KEY, ["check"])
    pipeline.start_run(world.place, KEY)
    run = last_run(engine)
    assert (run["outcome"], run["step"], run["message"]) == ("running", None, None)


def test_a_failed_step_that_went_well_the_second_time_is_forgotten(
    world: World, engine: Engine
) -> None:
    pipeline.run_all(world.config, world.place, KEY)
    pipeline.record_failure(world.place, KEY, "verify", InputError("a passing trouble"))
    pipeline.close_run(world.place, KEY)
    run = last_run(engine)
    assert (run["outcome"], run["step"], run["message"]) == ("published", None, None)


def test_what_failed_after_going_live_is_kept(world: World, engine: Engine) -> None:
    pipeline.run_all(world.config, world.place, KEY)
    pipeline.record_failure(world.place, KEY, "publish", InputError("no room"))
    pipeline.close_run(world.place, KEY, ["publish"])
    run = last_run(engine)
    assert run["summary"] == "its version went live; step publish failed"
    assert run["message"] == "no room"


def test_a_failure_is_on_record_though_the_start_is_not(world: World, engine: Engine) -> None:
    pipeline.record_failure(world.place, KEY, "start", InputError("no such setting"))
    run = last_run(engine)
    assert (run["run_key"], run["outcome"], run["step"]) == (KEY, "failed", "start")
    assert run["started_by"] == world.place.actor


def test_a_step_that_could_not_tell_its_reason_is_named(world: World, engine: Engine) -> None:
    pipeline.start_run(world.place, KEY)
    pipeline.close_run(world.place, KEY, ["train", "evaluate"])
    run = last_run(engine)
    assert (run["outcome"], run["step"]) == ("failed", "train")
    assert "log" in run["message"]


def test_a_run_that_ended_before_split_has_not_found_nothing_new(
    world: World, engine: Engine
) -> None:
    pipeline.start_run(world.place, KEY)
    pipeline.close_run(world.place, KEY)
    assert last_run(engine)["outcome"] == "failed"


def test_a_record_that_can_not_be_kept_fails_no_run_that_went_live(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "end", breaking("no room"))
    log: list[str] = []
    place = pipeline.Workplace(engine, world.place.artifact_root, log.append)
    pipeline.run_all(world.config, place, KEY)
    assert rows(engine, "SELECT model_version FROM mf.live") == [(1,)]
    assert f"the end of run {KEY} could not be put on record: no room" in log


@pytest.mark.parametrize("text", ["", "ü", "\ufffe", "\U0010ffff", "\x01", "日本"])
def test_what_postgres_can_store_stays_as_it_is(engine: Engine, text: str) -> None:
    assert storable(text) == text
    with transaction(engine) as connection:
        assert connection.scalar(sa.text("SELECT CAST(:text AS text)"), {"text": text}) == text


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800"])
def test_what_it_can_not_store_is_found(engine: Engine, text: str) -> None:
    assert storable(text) != text
    with transaction(engine) as connection:
        with pytest.raises(ValueError, match=r"NUL|surrogates"):
            connection.scalar(sa.text("SELECT CAST(:text AS text)"), {"text": text})
        stored = storable(text)
        assert connection.scalar(sa.text("SELECT CAST(:text AS text)"), {"text": stored}) == stored
