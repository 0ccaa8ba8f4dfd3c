"""The steps together: refusals, overrides, repeats, and rivals, on a real Postgres."""

import itertools
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.data.split import split_bucket
from mf_core.errors import (
    ArtifactError,
    ConfigError,
    GateError,
    PromotionRaceError,
    QualityError,
    StateError,
)
from mf_core.models.factors import load_model, save_model
from mf_core.records import EvalReport, ModelRef, SplitRef
from mf_core.warehouse import transaction

from .test_publish import prepared, publish_one, rows
from .worlds import (
    World,
    artifact_folder,
    fill_table,
    fit,
    load,
    make_ratings,
    make_world,
    with_sha256,
)


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    """Ratings in the warehouse."""
    return make_world(engine, tmp_path, log=[])


def judged(world: World, key: str, noise: float = 0.0) -> tuple[SplitRef, ModelRef, EvalReport]:
    """Split, fit and evaluate a candidate, spoiled by `noise`."""
    split = pipeline.split(world.config, world.place, key)
    model = fit(world, split, noise=noise)
    report = pipeline.evaluate(world.config, world.place, split, model)

    return split, model, report


def champion_figure(
    engine: Engine, version: int, metric: str, name: str = "all"
) -> sa.Row[*tuple[Any, ...]]:
    """Return value and n of the one figure of the champion that a version was judged against."""
    query = """
        SELECT value, n
        FROM mf.evaluations
        WHERE model_version = :version
          AND subject = 'champion'
          AND metric = :metric
          AND slice = :name
    """
    [found] = rows(engine, query, version=version, metric=metric, name=name)

    return found


def test_a_refusal_leaves_what_readers_see_as_it_was(world: World, engine: Engine) -> None:
    publish_one(world, "one")
    lists = "SELECT * FROM mf.recommendations ORDER BY user_id, rank"
    before = rows(engine, lists)

    split, _, report = judged(world, "two", noise=3.0)

    with pytest.raises(GateError, match=r"is refused: .*test RMSE.*Recommendations are unchanged"):
        pipeline.gate(world.config, world.place, report)

    version = split.model_version
    state = "SELECT state FROM mf.models WHERE model_version = :v"

    assert rows(engine, lists) == before
    assert rows(engine, state, v=version) == [("refused",)]

    decision = "SELECT approved, reasons FROM mf.gate_decisions WHERE model_version = :v"
    [(approved, reasons)] = rows(engine, decision, v=version)

    assert not approved
    assert any(not rule["passed"] and rule["text"] for rule in reasons)


def test_a_night_whose_ratings_can_not_fade_ends_before_its_snapshot(
    engine: Engine, tmp_path: Path
) -> None:
    world = make_world(engine, tmp_path, make_ratings().assign(rated_at=None), log=[])
    fading = world.with_settings(ranking_head__recent_half_life=5)

    with pytest.raises(QualityError, match=r"recent_half_life is 5, but no rating has a time"):
        pipeline.split(fading.config, fading.place, "one")

    assert rows(engine, "SELECT * FROM mf.snapshots") == []


def test_popularity_that_fades_is_published_and_judged_so(world: World, engine: Engine) -> None:
    # The ratings were given an hour apart, so that with a half-life of a day few count whole.
    fading = world.with_settings(data__popular_half_life_days=1)
    plain_version = publish_one(world, "one")
    faded_version = publish_one(fading, "two")
    scores = """
        SELECT score FROM mf.popular_items WHERE model_version = :v AND days = 0 ORDER BY rank
    """
    plain = [row.score for row in rows(engine, scores, v=plain_version)]
    faded = [row.score for row in rows(engine, scores, v=faded_version)]

    assert all(score == int(score) for score in plain)
    assert not all(score == int(score) for score in faded)
    assert faded == sorted(faded, reverse=True)
    assert max(faded) < max(plain)


def test_a_person_can_override_a_refusal_on_record(world: World, engine: Engine) -> None:
    split, _, report = judged(world, "one", noise=3.0)
    version = split.model_version

    with pytest.raises(StateError, match=r"is evaluated, .* takes one that is refused"):
        pipeline.override(world.place, version, "Ada", "because")

    with pytest.raises(GateError):
        pipeline.gate(world.config, world.place, report)
    with pytest.raises(ConfigError, match="a name and a reason"):
        pipeline.override(world.place, version, "Ada", " ")

    pipeline.override(world.place, version, "Ada", "the catalogue was replaced")
    verdict = pipeline.gate(world.config, world.place, report)

    assert verdict.approved is True
    assert verdict.overridden_by == "Ada"

    overrides = "SELECT decided_by, reasons FROM mf.gate_decisions WHERE stage = 'override'"
    [(by, reasons)] = rows(engine, overrides)

    assert by == "Ada"
    assert reasons[0]["text"] == "the catalogue was replaced"


def test_the_same_run_keeps_its_version_until_it_is_published(world: World) -> None:
    first = pipeline.split(world.config, world.place, "run")
    again = pipeline.split(world.config, world.place, "run")

    assert again == first
    assert publish_one(world, "run") == first.model_version

    after = pipeline.split(world.config, world.place, "run")
    assert after.model_version > first.model_version


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
    with_others = pipeline.split(other_settings.config, world.place, "three")
    forced = pipeline.split(world.config, world.place, "four")

    assert with_others.news
    assert forced.news


def test_the_champion_is_judged_on_the_same_rows(world: World, engine: Engine) -> None:
    champion = publish_one(world, "one")
    split, _, report = judged(world, "two")

    assert report.champion_version == champion
    assert report.champion_rmse == pytest.approx(report.rmse)

    query = """
        SELECT value, n
        FROM mf.evaluations
        WHERE model_version = :v AND metric = 'rmse_loss' AND slice = 'all'
    """
    losses = rows(engine, query, v=split.model_version)

    assert {tuple(row) for row in losses} == {(0.0, split.n_test)}


def test_another_split_compares_only_rows_that_the_champion_has_not_seen(
    world: World, engine: Engine
) -> None:
    publish_one(world, "one")
    other = world.with_settings(split__seed=1)
    split, _, _ = judged(other, "two")

    # Unseen are the rows that both splits hold out.
    unseen = 0
    for user_id, item_id in rows(engine, "SELECT user_id, item_id FROM mf.ratings"):
        held_out = split_bucket(user_id, item_id, 0) < 3000
        held_out_again = split_bucket(user_id, item_id, 1) < 3000
        unseen += held_out and held_out_again

    query = """
        SELECT n
        FROM mf.evaluations
        WHERE model_version = :v AND subject = 'champion' AND metric = 'rmse'
    """
    [(n,)] = rows(engine, query, v=split.model_version)

    assert n == unseen
    assert n < split.n_test


def test_a_champion_whose_artifact_is_damaged_makes_the_gate_refuse(world: World) -> None:
    champion = publish_one(world, "one")
    folder = artifact_folder(world) / "models" / str(champion) / "evaluated"
    path = folder / "rating" / "user_bias.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    _, _, report = judged(world, "two")

    with pytest.raises(GateError, match=r"against the champion .* is unknown"):
        pipeline.gate(world.config, world.place, report)


def test_a_damaged_candidate_is_refused_with_advice(world: World) -> None:
    split = pipeline.split(world.config, world.place, "one")
    model = fit(world, split)
    damaged = with_sha256(model, "rating", "0" * 64)

    with pytest.raises(ArtifactError, match="was changed or damaged"):
        pipeline.evaluate(world.config, world.place, split, damaged)


def test_the_champion_is_compared_with_the_best_of_the_last_days(
    world: World, engine: Engine
) -> None:
    world = world.with_settings(
        gate__max_rmse=3,
        gate__require_better_than_biases=False,
        gate__require_popularity=False,
    )
    publish_one(world, "good")
    loose = world.with_settings(gate__max_rmse_loss=9, gate__max_ndcg_loss=9)
    _publish_spoiled(loose, "worse", noise=0.4)

    split, _, report = judged(world, "next", noise=0.4)

    with pytest.raises(GateError, match="against the best of the last 30 days"):
        pipeline.gate(world.config, world.place, report)

    loss = champion_figure(engine, split.model_version, "rmse_loss")

    assert loss.value == 0.0


def _publish_spoiled(world: World, key: str, noise: float) -> None:
    """Publish a version whose factors are spoiled."""
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
    if rule == "share":
        world = world.with_settings(gate__max_refit_error_ratio=1e6, gate__min_refit_overlap=0.9)
    split, model, report = judged(world, "one")
    pipeline.gate(world.config, world.place, report)
    refitted = fit(world, split, "refit", noise=noise)

    with pytest.raises(GateError, match=rule):
        pipeline.prepare(world.config, world.place, split, model, refitted)

    assert rows(engine, "SELECT state FROM mf.models") == [("refused",)]
    assert rows(engine, "SELECT * FROM mf.recommendations") == []


def test_without_refit_the_evaluated_model_is_published(world: World, engine: Engine) -> None:
    plain = world.with_settings(publish__refit=False)
    split, model, report = judged(plain, "one")
    pipeline.gate(plain.config, world.place, report)
    refitted = pipeline.refit(plain.config, world.place.artifact_root, split, model)

    assert refitted == model

    fill_table(plain, split, model, model)
    pipeline.verify(plain.config, world.place, model)
    pipeline.publish(plain.config, world.place, split, report)

    seen = "SELECT 1 FROM mf.recommendations JOIN mf.ratings USING (user_id, item_id)"

    assert rows(engine, seen) == []


def test_lists_are_the_same_for_any_number_of_shards(world: World, engine: Engine) -> None:
    query = """
        SELECT user_id, rank, item_id, score, predicted_rating
        FROM mf.recommendations
        ORDER BY 1, 2
    """
    one_shard = world.with_settings(recommend__shards=1)
    publish_one(one_shard, "one")
    by_one = rows(engine, query)

    seven_shards = world.with_settings(recommend__shards=7, recommend__tile_mib=1)
    publish_one(seven_shards, "seven")
    by_seven = rows(engine, query)

    assert by_seven == by_one


def test_new_ratings_keep_old_rows_on_their_side(world: World, engine: Engine) -> None:
    publish_one(world, "one")
    more = make_ratings(seed=5)
    more["user_id"] = "n" + more["user_id"]
    load(engine, more)

    split, _, report = judged(world, "two")

    assert split.n_users == 120

    loss = champion_figure(engine, split.model_version, "rmse_loss", "warm_both")
    assert 0 < loss.n < report.n_test


def test_every_figure_of_a_gate_run_is_stored(world: World, engine: Engine) -> None:
    split, _, report = judged(world, "one")
    query = """
        SELECT metric, value
        FROM mf.evaluations
        WHERE subject = 'candidate' AND slice = 'all'
    """
    stored = {row.metric: row.value for row in rows(engine, query)}

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
    assert report.rmse is not None
    assert stored["average_error"] == pytest.approx(report.rmse**2 / 2)

    subjects = rows(engine, "SELECT DISTINCT subject FROM mf.evaluations ORDER BY 1")
    baselines = ["biases", "global_mean", "item_item", "popularity"]
    assert [row.subject for row in subjects] == sorted(["candidate", *baselines])
    assert split.cold_test_ratings >= 0


def test_a_model_with_nan_is_refused(world: World) -> None:
    split = pipeline.split(world.config, world.place, "one")
    model = fit(world, split)
    rating = model.heads["rating"]
    broken = load_model(rating.uri, rating.sha256)
    broken.user_factors[3] = np.nan

    sha256 = save_model(broken, rating.uri, {"broken": True})
    candidate = with_sha256(model, "rating", sha256)
    report = pipeline.evaluate(world.config, world.place, split, candidate)

    with pytest.raises(GateError, match="figures missing or not finite"):
        pipeline.gate(world.config, world.place, report)


def test_a_split_without_a_test_side_is_refused(world: World) -> None:
    given = world.with_settings(split__protocol="given")

    with pytest.raises(QualityError, match=r"set source\.test_uri"):
        pipeline.split(given.config, world.place, "one")


def test_what_this_warehouse_cant_honour_is_refused_before_any_work(
    world: World, engine: Engine
) -> None:
    given = world.with_settings(split__protocol="given", source__uri="/nowhere.csv")
    with pytest.raises(ConfigError, match=r"split\.protocol is given, but nothing says which"):
        pipeline.run_all(given.config, world.place, "one")
    (run,) = rows(engine, "SELECT run_key, outcome, message FROM mf.runs")
    assert run[:2] == ("one", "failed")
    assert "source.side_column and source.test_uri are empty" in run[2]
    assert rows(engine, "SELECT count(*) FROM mf.ingest_batches") == [(1,)], "nothing was loaded"

    named_twice = given.with_settings(source__side_column="side", source__test_uri="/test.csv")
    with pytest.raises(ConfigError, match=r"source\.side_column and source\.test_uri both say"):
        pipeline.check_settings(named_twice.config, world.place)


@pytest.mark.parametrize("source", [{"source__side_column": "s"}, {"source__test_uri": "/t.csv"}])
def test_a_source_that_says_the_sides_will_do_for_protocol_given(
    world: World, source: dict[str, object]
) -> None:
    given = world.with_settings(split__protocol="given", **source)
    pipeline.check_settings(given.config, world.place)


def test_sides_that_an_earlier_run_loaded_will_do_for_protocol_given(
    world: World, engine: Engine
) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE mf.ratings SET side = 'test' WHERE user_id = 'u001'"))
    given = world.with_settings(split__protocol="given")
    pipeline.check_settings(given.config, world.place)


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
    at_once = _run_process(world, warehouse_url, step, 0)
    _run_process(world, warehouse_url, step, 2)

    assert at_once.returncode == -9

    finished = _run_process(world, warehouse_url, "none", 0)
    assert finished.returncode == 0, finished.stderr

    served = rows(engine, "SELECT DISTINCT user_id FROM mf.recommendations")
    kept = rows(engine, "SELECT DISTINCT model_version FROM mf.recommendation_rows")
    states = rows(engine, "SELECT state FROM mf.models")

    assert len(served) == 60
    assert len(kept) <= 2
    assert {row.state for row in states} == {"published"}

    unattached = """
        SELECT relname
        FROM pg_class
        WHERE relname ~ '^recommendation_rows_v[0-9]+$' AND NOT relispartition
    """
    half_written = list(artifact_folder(world).rglob(".*"))

    assert rows(engine, unattached) == []
    assert half_written == []


def _run_process(
    world: World, url: str, victim: str, statement: int
) -> subprocess.CompletedProcess[str]:
    """Run every step in a process that kills itself at a statement of the step `victim`."""
    script = textwrap.dedent(_RUN)
    root = world.place.artifact_root

    return subprocess.run(
        [sys.executable, "-c", script, url, root, victim, str(statement)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env=dict(os.environ),
    )


def test_a_run_that_loses_the_race_every_time_gives_up_and_promotes_nothing(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = publish_one(world, "one")
    two = publish_one(world, "two")
    late, publish_late = prepared(world, "late")
    pipeline.rollback(world.place, one)
    evaluate = pipeline.evaluate

    # The two published versions take turns.
    others = itertools.cycle([two, one])

    def evaluate_while_another_goes_live(*arguments: Any) -> EvalReport:
        report = evaluate(*arguments)
        pipeline.rollback(world.place, next(others))

        return report

    monkeypatch.setattr("mf_core.pipeline.live.evaluate", evaluate_while_another_goes_live)
    with pytest.raises(PromotionRaceError, match="another run promoted its own") as race:
        publish_late()

    promotions = "SELECT 1 FROM mf.promotions WHERE model_version = :v"

    assert race.value.exit_code == 6
    assert rows(engine, promotions, v=late) == []
