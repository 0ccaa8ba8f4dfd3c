"""What nothing needs any more goes, and nothing else: on a disk and in a real S3 server."""

import threading
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.data.artifacts import check_artifact, remove_artifact
from mf_core.data.snapshot import read_snapshot
from mf_core.data.store import exists, files_below, size_of, store_path
from mf_core.errors import ArtifactStoreError, InputError
from mf_core.pipeline import Removed, pruning
from mf_core.records import SplitRef
from mf_core.tune.storage import stored_studies
from mf_core.warehouse import database_engine, history, lineage, transaction, versions
from tests.s3 import BUCKET, Door

from .databases import url_of
from .test_cli import Mf
from .test_publish import prepared, publish_one, rows, table_of
from .worlds import World, fit, load, make_ratings, make_world


@pytest.fixture(params=["file", "s3"])
def world(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> World:
    """Ratings in the warehouse; artifacts on a disk, or in an object store."""
    made = make_world(engine, tmp_path, log=[])
    if request.param == "s3":
        request.getfixturevalue("s3")
        root = f"s3://{BUCKET}/{uuid.uuid4().hex}"
        made = replace(made, place=replace(made.place, artifact_root=root))
    return made.with_settings(publish__keep_versions=2, publish__keep_weeks=0)


def age(engine: Engine, days: int, version: int | None = None) -> None:
    """Let a version, or all versions, and their snapshots be so many days older."""
    chosen = "" if version is None else f" WHERE model_version = {version}"
    past = f"- interval '{days} days'"
    statements = [
        f"UPDATE mf.models SET created_at = created_at {past}{chosen}",
        f"UPDATE mf.gate_decisions SET decided_at = decided_at {past}{chosen}",
        f"UPDATE mf.snapshots SET used_at = used_at {past}",
    ]
    with transaction(engine) as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def night(world: World, key: str) -> SplitRef:
    """Let new ratings come in, and publish; return what it was made from."""
    engine = world.place.engine
    with transaction(engine) as connection:
        connection.execute(
            sa.text("UPDATE mf.ratings SET rating = 3 WHERE user_id = :user"),
            {"user": f"u{int(key):03d}"},
        )
    version = publish_one(world, key)
    with transaction(engine) as connection:
        return lineage.load_split_ref(connection, version)


def stored(world: World) -> list[str]:
    """Return the artifacts in the store."""
    names = files_below(store_path(world.place.artifact_root))
    return sorted(
        name.removesuffix("/manifest.json") for name in names if name.endswith("manifest.json")
    )


def heads(version: int, stage: str) -> list[str]:
    return [f"models/{version}/{stage}/{head}" for head in ("ranking", "rating")]


def prune(world: World, **how: Any) -> list[Removed]:
    return pipeline.prune(world.config, world.place, **how)


def test_of_many_nights_stays_what_is_kept_or_compared_with(world: World, engine: Engine) -> None:
    nights = [night(world, str(n)) for n in range(1, 5)]
    one, two, three, four = (night.model_version for night in nights)
    # The last two have lists. The others have an evaluated model, which nights are compared with.
    assert stored(world) == sorted(
        [
            *heads(one, "evaluated"),
            *heads(two, "evaluated"),
            *heads(three, "evaluated"),
            *heads(three, "refit"),
            *heads(four, "evaluated"),
            *heads(four, "refit"),
            *(f"snapshots/{night.snapshot_id}" for night in nights),
        ]
    )

    age(engine, days=31)
    would_go = prune(world, dry_run=True)
    before = stored(world)
    assert prune(world) == would_go
    assert len(would_go) == 4
    assert len(before) - len(stored(world)) == 2 * 2 + 2
    assert stored(world) == sorted(
        [
            *heads(three, "evaluated"),
            *heads(three, "refit"),
            *heads(four, "evaluated"),
            *heads(four, "refit"),
            *(f"snapshots/{night.snapshot_id}" for night in nights[2:]),
        ]
    )
    assert prune(world) == []

    # A rollback goes to the kept one, and the next night is judged against it.
    pipeline.rollback(world.place)
    fifth = night(world, "5")
    with transaction(engine) as connection:
        assert history.judged_against(connection, fifth.model_version) == three
    figures = (
        "SELECT count(*) FROM mf.evaluations WHERE model_version = :v AND subject = 'champion'"
    )
    [(n_figures,)] = rows(engine, figures, v=fifth.model_version)
    assert n_figures > 0


def test_a_dry_run_counts_the_refits_of_versions_that_are_over_once(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay where the store has refused to remove them."""

    def refuse(_uri: str) -> None:
        raise ArtifactStoreError("the store refuses it")

    with monkeypatch.context() as patch:
        patch.setattr(pruning, "remove_artifact", refuse)
        for n in range(1, 5):
            night(world, str(n))
    # Of the two without lists, one is over and of the other one only the refit.
    age(engine, 31, version=1)
    assert heads(1, "refit")[0] in stored(world)

    would_go = prune(world, dry_run=True)
    before = size_of(store_path(world.place.artifact_root))
    assert [one.what for one in would_go] == [
        "models of version 1",
        "refit of version 2",
        *(one.what for one in would_go[2:]),
    ]
    assert prune(world) == would_go
    after = size_of(store_path(world.place.artifact_root))
    assert before - after == sum(one.bytes or 0 for one in would_go)


def test_what_a_run_left_goes_when_its_time_is_over(world: World, engine: Engine) -> None:
    publish_one(world, "1")
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE mf.ratings SET rating = 3 WHERE user_id = 'u017'"))
    left = pipeline.split(world.config, world.place, "left")
    fit(world, left)
    with transaction(engine) as connection:
        versions.stop_run(connection, "left")

    age(engine, 13, left.model_version)
    assert prune(world) == []
    age(engine, 2, left.model_version)
    gone = prune(world)
    assert [one.what for one in gone] == [
        f"models of version {left.model_version}",
        f"snapshot {left.snapshot_id}",
    ]
    assert all(one.bytes for one in gone)

    # Its run may be started over all the same: it takes its snapshot anew.
    again = pipeline.split(world.config, world.place, "left")
    assert again.snapshot_id == left.snapshot_id
    check_artifact(again.uri, again.sha256)
    assert prune(world) == []
    read_snapshot(again.uri, again.sha256)


def test_nights_that_publish_nothing_clean_up_as_well(
    world: World, engine: Engine, tmp_path: Path
) -> None:
    publish_one(world, "1")
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE mf.ratings SET rating = 3 WHERE user_id = 'u017'"))
    # It died with its lists verified, and a batch was refused for its bad rows.
    dead, _ = prepared(world, "dead")
    bad = tmp_path / "bad.csv"
    bad.write_text("user_id,item_id,rating\nu1,i1,no number\n")
    refused = world.with_settings(source__uri=str(bad), run__force=False)
    with pytest.raises(InputError, match="are bad, more than"):
        pipeline.run_all(refused.config, refused.place, "first")
    assert [row.raw for row in rows(engine, "SELECT raw FROM mf.rejected_ratings")] != []
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE mf.ingest_batches SET finished_at = '2020-01-01'"))
    age(engine, 20, dead)
    assert heads(dead, "evaluated")[0] in stored(world)

    bad.write_text("user_id,item_id,rating\nu1,i1,no number either\n")
    with pytest.raises(InputError, match="are bad, more than"):
        pipeline.run_all(refused.config, refused.place, "second")

    assert f"models/{dead}" not in " ".join(stored(world))
    assert table_of(engine, dead) is None
    [(left,)] = rows(engine, "SELECT raw FROM mf.rejected_ratings")
    assert "either" in left


def test_a_snapshot_that_a_run_is_about_to_take_stays(world: World, engine: Engine) -> None:
    """The run that has no version yet is at its most vulnerable between files and record."""
    split = pipeline.split(world.config, world.place, "left")
    age(engine, 40)
    with transaction(engine) as connection:
        lineage.take_snapshot_again(connection, split.snapshot_id)
    assert [one.what for one in prune(world)] == []
    check_artifact(split.uri, split.sha256)
    age(engine, 3)
    assert [one.what for one in prune(world)] == [f"snapshot {split.snapshot_id}"]


def test_a_run_that_comes_while_its_snapshot_goes_waits_and_writes_it_anew(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = pipeline.split(world.config, world.place, "left")
    age(engine, 40)
    removing, go_on = threading.Event(), threading.Event()

    def remove_slowly(uri: str) -> None:
        if "snapshots" in uri:
            removing.set()
            assert go_on.wait(30)
        remove_artifact(uri)

    monkeypatch.setattr("mf_core.pipeline.pruning.remove_artifact", remove_slowly)
    pruner = threading.Thread(target=prune, args=[world])
    pruner.start()
    assert removing.wait(30)
    again: list[SplitRef] = []
    other = replace(world.place, engine=database_engine(url_of(engine)))
    run = threading.Thread(target=lambda: again.append(pipeline.split(world.config, other, "left")))
    run.start()
    run.join(0.5)
    assert run.is_alive()
    go_on.set()
    pruner.join(30)
    run.join(30)
    other.engine.dispose()
    assert again[0].snapshot_id == split.snapshot_id
    check_artifact(again[0].uri, again[0].sha256)


def test_a_version_that_somebody_works_on_is_left_to_the_next_time(
    world: World, engine: Engine
) -> None:
    left = pipeline.split(world.config, world.place, "left")
    fit(world, left)
    age(engine, 40)
    with transaction(engine) as connection:
        versions.lock(connection, left.model_version)
        prune(world)
        assert exists(store_path(f"{world.place.artifact_root}/models/{left.model_version}"))
    prune(world)
    assert not exists(store_path(f"{world.place.artifact_root}/models/{left.model_version}"))


def test_two_that_prune_at_once_disturb_neither_each_other_nor_a_night(
    world: World, engine: Engine
) -> None:
    for n in range(1, 4):
        night(world, str(n))
    age(engine, 31)
    failed: list[BaseException] = []

    def prune_often() -> None:
        mine = replace(world.place, engine=database_engine(url_of(engine)))
        try:
            for _ in range(5):
                pipeline.prune(world.config, mine)
        except BaseException as error:
            failed.append(error)
        mine.engine.dispose()

    pruners = [threading.Thread(target=prune_often) for _ in range(2)]
    for thread in pruners:
        thread.start()
    last = night(world, "4")
    for thread in pruners:
        thread.join()
    assert failed == []
    check_artifact(last.uri, last.sha256)
    with transaction(engine) as connection:
        model = lineage.load_model_ref(connection, last.model_version, "evaluated")
    check_artifact(model.heads["rating"].uri, model.heads["rating"].sha256)
    assert night(world, "5").model_version > last.model_version


def test_what_is_not_on_record_here_stays(world: World, engine: Engine) -> None:
    """A wrong MF_DATABASE_URL must not empty the store of another warehouse."""
    split = pipeline.split(world.config, world.place, "one")
    fit(world, split)
    with transaction(engine) as connection:
        for table in ("mf.models", "mf.snapshots"):
            connection.execute(sa.text(f"DELETE FROM {table}"))
    assert prune(world) == []
    check_artifact(split.uri, split.sha256)


def test_old_rows_go(engine: Engine, tmp_path: Path) -> None:
    world = make_world(engine, tmp_path, log=[])
    batches = [load(engine, make_ratings(seed).head(0)) for seed in (1, 2)]
    with transaction(engine) as connection:
        for batch in batches:
            connection.execute(
                sa.text("INSERT INTO mf.rejected_ratings VALUES (:batch, 'f', 1, 'raw', 'why')"),
                {"batch": batch},
            )
        connection.execute(
            sa.text("UPDATE mf.ingest_batches SET finished_at = now() - interval '15 days'")
        )
    pipeline.start_run(world.place, "old")
    pipeline.start_run(world.place, "new")
    with transaction(engine) as connection:
        connection.execute(
            sa.text(
                "UPDATE mf.runs SET started_at = now() - interval '401 days' WHERE run_key = 'old'"
            )
        )
    assert [one.rows for one in prune(world, dry_run=True)] == [1, 1]
    assert [one.rows for one in prune(world)] == [1, 1]
    assert [row.run_key for row in rows(engine, "SELECT run_key FROM mf.runs")] == ["new"]
    # What the last batch has rejected stays, however old.
    assert [row.batch_id for row in rows(engine, "SELECT batch_id FROM mf.rejected_ratings")] == [
        batches[-1]
    ]
    assert prune(world) == []


def test_a_store_that_refuses_fails_no_night(s3: Door, engine: Engine, tmp_path: Path) -> None:
    log: list[str] = []
    made = make_world(engine, tmp_path, log=log)
    place = replace(made.place, artifact_root=f"s3://{BUCKET}/{uuid.uuid4().hex}")
    world = replace(made, place=place).with_settings(
        publish__keep_versions=1, publish__keep_weeks=0
    )
    night(world, "1")
    with s3.acting(lambda method, _path, _now: 403 if method == "DELETE" else None):
        second = night(world, "2")
    [(live,)] = rows(engine, "SELECT model_version FROM mf.live")
    assert live == second.model_version
    assert any("needed no more is not removed yet" in line for line in log)
    assert prune(world) != []


def test_old_studies_go_and_looking_begins_none(engine: Engine, tmp_path: Path) -> None:
    world = make_world(engine, tmp_path, log=[])
    assert prune(world) == []
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'mf_tune'"
    assert rows(engine, tables) == [(0,)]

    with stored_studies(engine) as storage:
        for name in ("old", "new", "empty"):
            begun = optuna.create_study(study_name=name, storage=storage)
            if name != "empty":
                begun.add_trial(optuna.trial.create_trial(value=1.0))
    with transaction(engine) as connection:
        connection.execute(
            sa.text(
                "UPDATE mf_tune.trials SET datetime_start = now() - interval '402 days', "
                "datetime_complete = now() - interval '401 days' "
                "WHERE study_id = (SELECT study_id FROM mf_tune.studies WHERE study_name = 'old')"
            )
        )
    assert [one.what for one in prune(world, dry_run=True)] == ["study old of `mf tune`"]
    assert [one.what for one in prune(world)] == ["study old of `mf tune`"]
    left = rows(engine, "SELECT study_name FROM mf_tune.studies ORDER BY 1")
    assert [row.study_name for row in left] == ["empty", "new"]
    assert rows(engine, "SELECT count(*) FROM mf_tune.trials") == [(1,)]


def test_the_command_lists_and_removes(engine: Engine, tmp_path: Path) -> None:
    world = make_world(engine, tmp_path, log=[])
    split = pipeline.split(world.config, world.place, "left")
    fit(world, split)
    age(engine, 40)
    mf = Mf(MF_DATABASE_URL=url_of(engine), MF_ARTIFACT_ROOT=world.place.artifact_root)

    would_go = mf.json("prune", "--dry-run")
    assert [one["what"] for one in would_go] == [
        f"models of version {split.model_version}",
        f"snapshot {split.snapshot_id}",
    ]
    assert "would remove models of version" in mf.errors
    check_artifact(split.uri, split.sha256)
    assert f"snapshot {split.snapshot_id}" in mf("prune")
    assert mf("prune") == ""
    assert "nothing to remove" in mf.errors
