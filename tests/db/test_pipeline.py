"""The steps together: refusals, overrides, repeats, and rivals, on a real Postgres."""

import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.data.split import split_bucket
from mf_core.errors import ArtifactError, ConfigError, GateError, PromotionRaceError, QualityError
from mf_core.models.factors import load_model, save_model
from mf_core.records import EvalReport, ModelRef, SplitRef

from .test_publish import prepared, publish_one, rows
from .worlds import World, fill_table, fit, load, make_ratings, make_world


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    """Ratings in the warehouse."""
    return make_world(engine, tmp_path, log=[])


def judged(world: World, key: str, noise: float = 0.0) -> tuple[SplitRef, ModelRef, EvalReport]:
    """Split, fit and evaluate a candidate, spoiled by `noise`."""
    split = pipeline.split(world.config, world.place, key)
    model = fit(world, split, noise=noise)

    return split, model, pipeline.evaluate(world.config, world.place, split, model)


def test_a_refusal_leaves_what_readers_see_as_it_was(world: World, engine: Engine) -> None:
    publish_one(world, "one")
    before = rows(engine, "SELECT * FROM mf.recommendations ORDER BY user_id, rank")
    split, _, report = judged(world, "two", noise=3.0)

    with pytest.raises(GateError, match=r"is refused: .*test RMSE.*Recommendations are unchanged"):
        pipeline.gate(world.config, world.place, report)

    assert rows(engine, "SELECT * FROM mf.recommendations ORDER BY user_id, rank") == before

    [(state,)] = rows(
        engine, "SELECT state FROM mf.models WHERE model_version = :v", v=split.model_version
    )

    assert state == "refused"

    [(approved, reasons)] = rows(
        engine,
        "SELECT approved, reasons FROM mf.gate_decisions WHERE model_version = :v",
        v=split.model_version,
    )

    assert not approved
    assert any(not rule["passed"] and rule["text"] for rule in reasons)


def test_a_person_can_override_a_refusal_on_record(world: World, engine: Engine) -> None:
    split, _, report = judged(world, "one", noise=3.0)
    with pytest.raises(ConfigError, match="only a refused version"):
        pipeline.override(world.place, split.model_version, "Ada", "because")

    with pytest.raises(GateError):
        pipeline.gate(world.config, world.place, report)

    with pytest.raises(ConfigError, match="a name and a reason"):
        pipeline.override(world.place, split.model_version, "Ada", " ")

    pipeline.override(world.place, split.model_version, "Ada", "the catalogue was replaced")
    verdict = pipeline.gate(world.config, world.place, report)

    assert verdict.approved is True
    assert verdict.overridden_by == "Ada"

    [(by, reasons)] = rows(
        engine, "SELECT decided_by, reasons FROM mf.gate_decisions WHERE stage = 'override'"
    )

    assert by == "Ada"
    assert reasons[0]["text"] == "the catalogue was replaced"


def test_the_same_run_keeps_its_version_until_it_is_published(world: World) -> None:
    first = pipeline.split(world.config, world.place, "run")
    assert pipeline.split(world.config, world.place, "run") == first
    assert publish_one(world, "run") == first.model_version
    assert pipeline.split(world.config, world.place, "run").model_version > first.model_version


def test_two_runs_may_split_at_the_same_time(world: World) -> None:
    start = threading.Barrier(2)

    def split(key: str) -> SplitRef:
        start.wait()
        return pipeline.split(world.config, world.place, key)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(split, ("one", "two"))

    assert first.snapshot_id == second.snapshot_id
    assert first.model_version != second.model_version


def test_nothing_new_is_said_so_and_force_trains_all_the_same(world: World) -> None:
    unforced = world.with_settings(run__force=False)
    version = publish_one(unforced, "one")
    again = pipeline.split(unforced.config, world.place, "two")

    assert again.news is False
    assert again.model_version == version

    other_settings = unforced.with_settings(rating_head__als__n_factors=7)
    assert pipeline.split(other_settings.config, world.place, "three").news
    assert pipeline.split(world.config, world.place, "four").news


def test_the_champion_is_judged_on_the_same_rows(world: World, engine: Engine) -> None:
    champion = publish_one(world, "one")
    split, _, report = judged(world, "two")

    assert report.champion_version == champion
    assert report.champion_rmse == pytest.approx(report.rmse)

    losses = rows(
        engine,
        "SELECT value, n FROM mf.evaluations WHERE metric = 'rmse_loss' AND slice = 'all' AND model_version = :v",
        v=split.model_version,
    )

    assert {tuple(row) for row in losses} == {(0.0, split.n_test)}


def test_another_split_compares_only_rows_that_the_champion_has_not_seen(
    world: World, engine: Engine
) -> None:
    publish_one(world, "one")
    other = world.with_settings(split__seed=1)
    split, _, _ = judged(other, "two")
    fresh = sum(
        split_bucket(row.user_id, row.item_id, 0) < 3000
        and split_bucket(row.user_id, row.item_id, 1) < 3000
        for row in rows(engine, "SELECT user_id, item_id FROM mf.ratings")
    )
    [(n,)] = rows(
        engine,
        "SELECT n FROM mf.evaluations WHERE subject = 'champion' AND metric = 'rmse' AND model_version = :v",
        v=split.model_version,
    )

    assert n == fresh < split.n_test


def test_a_champion_whose_artifact_is_damaged_makes_the_gate_refuse(world: World) -> None:
    champion = publish_one(world, "one")
    path = (
        Path(world.place.artifact_root.removeprefix("file://"))
        / "models"
        / str(champion)
        / "evaluated"
        / "rating"
        / "user_bias.npy"
    )
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    _, _, report = judged(world, "two")

    with pytest.raises(GateError, match=r"against the champion .* is unknown"):
        pipeline.gate(world.config, world.place, report)


def test_a_damaged_candidate_is_refused_with_advice(world: World) -> None:
    split = pipeline.split(world.config, world.place, "one")
    model = fit(world, split)

    with pytest.raises(ArtifactError, match="was changed or damaged"):
        pipeline.evaluate(world.config, world.place, split, replace(model, rating_sha256="0" * 64))


def test_the_champion_is_compared_with_the_best_of_the_last_days(
    world: World, engine: Engine
) -> None:
    world = world.with_settings(
        gate__max_rmse=3, gate__require_better_than_biases=False, gate__require_popularity=False
    )
    publish_one(world, "good")
    _publish_spoiled(
        world.with_settings(gate__max_rmse_loss=9, gate__max_ndcg_loss=9), "worse", noise=0.4
    )
    split, _, report = judged(world, "next", noise=0.4)

    with pytest.raises(GateError, match="against the best of the last 30 days"):
        pipeline.gate(world.config, world.place, report)

    [(loss,)] = rows(
        engine,
        "SELECT value FROM mf.evaluations WHERE subject = 'champion' AND metric = 'rmse_loss' AND slice = 'all' AND model_version = :v",
        v=split.model_version,
    )

    assert loss == 0.0


def _publish_spoiled(world: World, key: str, noise: float) -> None:
    split, model, report = judged(world, key, noise=noise)
    pipeline.gate(world.config, world.place, report)
    refitted = fit(world, split, "refit", noise=noise)
    fill_table(world, split, model, refitted)
    pipeline.verify(world.config, world.place, refitted)
    pipeline.publish(world.config, world.place, split, report)


@pytest.mark.parametrize(
    ("noise", "rule"), [(1.5, "RMSE of the refit on all ratings"), (50.0, "share")]
)
def test_a_refit_that_strays_is_refused(
    world: World, engine: Engine, noise: float, rule: str
) -> None:
    loose = (
        world.with_settings(gate__max_refit_error_ratio=1e6, gate__min_refit_overlap=0.9)
        if rule == "share"
        else world
    )
    split, model, report = judged(loose, "one")
    pipeline.gate(loose.config, world.place, report)
    refitted = fit(world, split, "refit", noise=noise)

    with pytest.raises(GateError, match=rule):
        pipeline.prepare(loose.config, world.place, split, model, refitted)

    assert rows(engine, "SELECT state FROM mf.models") == [("refused",)]
    assert rows(engine, "SELECT * FROM mf.recommendations") == []


def test_without_refit_the_evaluated_model_is_published(world: World, engine: Engine) -> None:
    plain = world.with_settings(publish__refit=False)
    split, model, report = judged(plain, "one")
    pipeline.gate(plain.config, world.place, report)

    assert pipeline.refit(plain.config, world.place.artifact_root, split, model) == model

    fill_table(plain, split, model, model)
    pipeline.verify(plain.config, world.place, model)
    pipeline.publish(plain.config, world.place, split, report)

    assert (
        rows(engine, "SELECT 1 FROM mf.recommendations JOIN mf.ratings USING (user_id, item_id)")
        == []
    )


def test_lists_are_the_same_for_any_number_of_shards(world: World, engine: Engine) -> None:
    publish_one(world.with_settings(recommend__shards=1), "one")
    query = "SELECT user_id, rank, item_id, score, predicted_rating FROM mf.recommendations ORDER BY 1, 2"
    one = rows(engine, query)
    publish_one(world.with_settings(recommend__shards=7, recommend__tile_mib=1), "seven")

    assert rows(engine, query) == one


def test_new_ratings_keep_old_rows_on_their_side(world: World, engine: Engine) -> None:
    publish_one(world, "one")
    more = make_ratings(seed=5)
    more["user_id"] = "n" + more["user_id"]
    load(engine, more)
    split, _, report = judged(world, "two")

    assert split.n_users == 120

    [(n,)] = rows(
        engine,
        "SELECT n FROM mf.evaluations WHERE subject = 'champion' AND slice = 'warm_both' AND metric = 'rmse_loss' AND model_version = :v",
        v=split.model_version,
    )

    assert 0 < n < report.n_test


def test_every_figure_of_a_gate_run_is_stored(world: World, engine: Engine) -> None:
    split, _, report = judged(world, "one")
    stored = dict(
        rows(
            engine,
            "SELECT metric, value FROM mf.evaluations WHERE subject = 'candidate' AND slice = 'all'",
        )
    )  # type: ignore[arg-type]

    assert set(stored) >= {
        "rmse",
        "mae",
        "average_error",
        "ndcg_at_5",
        "recall_at_5",
        "map_at_5",
        "hit_rate_at_5",
        "coverage_at_5",
        "novelty_at_5",
        "gini_at_5",
    }
    assert stored["average_error"] == pytest.approx(report.rmse**2 / 2)
    assert {r[0] for r in rows(engine, "SELECT DISTINCT subject FROM mf.evaluations")} == {
        "candidate",
        "global_mean",
        "biases",
        "popularity",
    }
    assert split.cold_test_ratings >= 0


def test_a_model_with_nan_is_refused(world: World) -> None:
    split = pipeline.split(world.config, world.place, "one")
    model = fit(world, split)
    broken = load_model(model.rating_uri, model.rating_sha256)
    broken.user_factors[3] = np.nan
    sha256 = save_model(broken, model.rating_uri, {"broken": True})
    report = pipeline.evaluate(
        world.config, world.place, split, replace(model, rating_sha256=sha256)
    )

    with pytest.raises(GateError, match="figures missing or not finite"):
        pipeline.gate(world.config, world.place, report)


def test_a_split_without_a_test_side_is_refused(world: World) -> None:
    with pytest.raises(QualityError, match=r"set source\.test_uri"):
        pipeline.split(world.with_settings(split__protocol="given").config, world.place, "one")


_STEPS = ("split", "evaluate", "gate", "prepare", "recommend", "verify", "publish")
_RUN = """
    import os, signal, sys
    from pathlib import Path
    import mf_core.warehouse.engine as engine_module
    from mf_core import pipeline
    from mf_core.warehouse import database_engine
    from tests.db.worlds import World, SETTINGS, fit
    from mf_core.config import make_config

    url, root, victim, statement = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    world = World(pipeline.workplace(url, root), make_config(SETTINGS))
    step = ""

    def kill_in_victim(*args):
        global statement
        if step == victim:
            statement -= 1
            if statement < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    import sqlalchemy as sa
    sa.event.listen(world.place.engine, "before_cursor_execute", kill_in_victim)
    sa.event.listen(world.place.engine, "commit", kill_in_victim)
    step = "split"; split = pipeline.split(world.config, world.place, "the run")
    model = fit(world, split)
    step = "evaluate"; report = pipeline.evaluate(world.config, world.place, split, model)
    step = "gate"; pipeline.gate(world.config, world.place, report)
    refitted = fit(world, split, "refit")
    step = "prepare"; shards = pipeline.prepare(world.config, world.place, split, model, refitted)
    step = "recommend"
    for shard in shards:
        pipeline.recommend_shard(world.config, world.place, refitted, shard)
    step = "verify"; pipeline.verify(world.config, world.place, refitted)
    step = "publish"; print(pipeline.publish(world.config, world.place, split, report))
"""


@pytest.mark.parametrize("step", _STEPS)
def test_a_run_killed_in_any_step_ends_right_when_it_runs_again(
    world: World, engine: Engine, warehouse_url: str, step: str
) -> None:
    killed = [
        _run_process(world, warehouse_url, step, statement).returncode for statement in (0, 2)
    ]

    assert killed[0] == -9

    finished = _run_process(world, warehouse_url, "none", 0)
    assert finished.returncode == 0, finished.stderr
    assert len(rows(engine, "SELECT DISTINCT user_id FROM mf.recommendations")) == 60
    assert (
        len({row[0] for row in rows(engine, "SELECT model_version FROM mf.recommendation_rows")})
        <= 2
    )
    assert rows(engine, "SELECT state, count(*) FROM mf.models GROUP BY 1") == [
        ("published", len(rows(engine, "SELECT 1 FROM mf.models")))
    ]

    leftovers = rows(
        engine,
        "SELECT relname FROM pg_class WHERE relname ~ '^recommendation_rows_v[0-9]+$' AND NOT relispartition",
    )

    assert leftovers == []

    root = Path(world.place.artifact_root.removeprefix("file://"))
    assert [path.name for path in root.rglob(".*")] == []


def _run_process(
    world: World, url: str, victim: str, statement: int
) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(_RUN),
        url,
        world.place.artifact_root,
        victim,
        str(statement),
    ]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env=dict(os.environ),
    )


def test_a_run_that_loses_the_race_every_time_gives_up_and_promotes_nothing(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_one(world, "one")
    publish_one(world, "two")
    late, publish_late = prepared(world, "late")
    pipeline.rollback(world.place)
    evaluate = pipeline.evaluate

    def evaluate_while_another_goes_live(*arguments: Any) -> EvalReport:
        report = evaluate(*arguments)
        pipeline.rollback(world.place)

        return report

    monkeypatch.setattr(pipeline, "evaluate", evaluate_while_another_goes_live)
    with pytest.raises(PromotionRaceError, match="another run promoted its own") as race:
        publish_late()

    assert race.value.exit_code == 6
    assert rows(engine, "SELECT 1 FROM mf.promotions WHERE model_version = :v", v=late) == []
