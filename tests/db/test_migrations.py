"""A warehouse that has been in use comes through the migrations with its history."""

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.engine import Engine

from mf_core.warehouse import revisions, transaction
from mf_core.warehouse.bootstrap import alembic_config, migrate, replace_readers_objects

from .test_publish import rows

USED = """
INSERT INTO mf.snapshots (snapshot_id, split_id, uri, sha256, protocol)
VALUES ('s', 'd', 'file:///s', '', 'hash');

INSERT INTO mf.models (run_key, state, snapshot_id, split_id, training_fingerprint, config,
                       code_version, top_n, published_at, retired_at)
VALUES
  ('by the gate', 'published', 's', 'd', '', '{}', '0.1.0', 10, now(), NULL),
  ('overridden', 'published', 's', 'd', '', '{}', '0.1.0', 10, now(), NULL),
  ('a dry run', 'approved', 's', 'd', '', '{"run": {"dry_run": true}}', '0.1.0', 10, NULL, NULL),
  ('dead', 'retired', 's', 'd', '', '{}', '0.1.0', 10, NULL, now());

INSERT INTO mf.gate_decisions (model_version, stage, approved, reasons, decided_by)
VALUES
  (1, 'evaluated', true, '[]', 'gate'),
  (2, 'evaluated', false, '[]', 'gate'),
  (2, 'override', true, '[{"text": "catalogue replaced", "passed": true}]', 'Ada');

INSERT INTO mf.promotions (model_version, previous_version, action, promoted_by)
VALUES
  (1, NULL, 'publish', 'mf_writer'),
  (2, 1, 'publish', 'mf_writer'),
  (1, 2, 'rollback', 'mf_writer');

UPDATE mf.live SET model_version = 1;
"""


@pytest.fixture
def used(engine: Engine, warehouse_url: str) -> str:
    """A warehouse as the release before left it, with some history."""
    migrate(warehouse_url, "base")
    migrate(warehouse_url, "0005")
    with transaction(engine) as connection:
        connection.execute(sa.text(USED))
    return warehouse_url


def test_history_says_how_versions_went_live(used: str, engine: Engine) -> None:
    migrate(used)
    promoted = rows(
        engine,
        "SELECT model_version, how, overridden_by, reason FROM mf.promotions ORDER BY promotion_id",
    )
    assert promoted == [
        (1, "gate", None, None),
        (2, "override", "Ada", "catalogue replaced"),
        (1, "rollback", None, None),
    ]
    history = rows(engine, "SELECT model_version, went_live FROM mf.model_history ORDER BY 1")
    assert history == [
        (1, "by a rollback of mf_writer, from version 2"),
        (2, "by an override of Ada: catalogue replaced"),
        (3, None),
        (4, None),
    ]


def test_dry_runs_and_dead_runs_get_states_of_their_own(used: str, engine: Engine) -> None:
    migrate(used)
    assert rows(engine, "SELECT state, stopped_in FROM mf.models ORDER BY model_version") == [
        ("published", None),
        ("published", None),
        ("dry_run", None),
        ("stopped", "created"),
    ]


def test_a_step_back_brings_back_the_view_of_then(used: str, engine: Engine) -> None:
    before = _columns(engine)
    migrate(used)
    assert _columns(engine)[: len(before)] == before
    with transaction(engine) as connection:
        command.downgrade(alembic_config(connection), "0005")
    assert _columns(engine) == before
    assert rows(engine, "SELECT state FROM mf.models ORDER BY model_version") == [
        ("published",),
        ("published",),
        ("approved",),
        ("created",),
    ]
    migrate(used)
    assert _columns(engine)[: len(before)] == before


POPULAR = """
INSERT INTO mf.popular_items (model_version, rank, item_id, score, predicted_rating)
VALUES (1, 1, 'often', 9, 4), (1, 2, 'seldom', 1, 3)
"""
OF_THE_WEEK = """
INSERT INTO mf.popular_items (model_version, rank, item_id, score, predicted_rating, days)
VALUES (1, 1, 'lately', 2, 4, 7), (1, 2, 'seldom', 1, 3, 7)
"""
TEXT_OF_FUNCTION = """
SELECT prosrc FROM pg_proc
WHERE pronamespace = 'mf'::regnamespace AND proname = 'recommendations_for'
"""
FUNCTIONS = """
SELECT proname FROM pg_proc WHERE pronamespace = 'mf'::regnamespace ORDER BY 1
"""


def test_popular_lists_of_before_stay_and_those_of_the_last_days_go_on_the_way_back(
    used: str, engine: Engine
) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.text(POPULAR))
    functions = rows(engine, FUNCTIONS)
    for_nobody = "SELECT item_id FROM mf.recommendations_for('nobody')"
    migrate(used)
    assert rows(engine, "SELECT item_id FROM mf.popular()") == [("often",), ("seldom",)]
    assert rows(engine, "SELECT item_id FROM mf.popular(days => 7)") == []
    assert rows(engine, for_nobody) == [("often",), ("seldom",)]

    with transaction(engine) as connection:
        connection.execute(sa.text(OF_THE_WEEK))
    assert rows(engine, "SELECT item_id FROM mf.popular(1, 7)") == [("lately",)]
    assert rows(engine, for_nobody) == [("often",), ("seldom",)]

    # Who reads meanwhile has a function that is right before the column goes, and after.
    with transaction(engine) as connection:
        [prepare] = revisions.before_downgrade(revisions.known()[0], "0009")
        prepare(connection)
    assert rows(engine, for_nobody) == [("often",), ("seldom",)]
    assert "listed.days" not in rows(engine, TEXT_OF_FUNCTION)[0][0]

    with transaction(engine) as connection:
        command.downgrade(alembic_config(connection), "0009")
    assert rows(engine, for_nobody) == [("often",), ("seldom",)]
    assert rows(engine, FUNCTIONS) == functions
    assert rows(engine, "SELECT count(*) FROM mf.popular_items") == [(2,)]
    migrate(used)
    assert rows(engine, for_nobody) == [("often",), ("seldom",)]


def _columns(engine: Engine) -> list[str]:
    query = """
        SELECT attname FROM pg_attribute
        WHERE attrelid = 'mf.model_history'::regclass AND attnum > 0 ORDER BY attnum
    """
    return [row[0] for row in rows(engine, query)]


def test_readers_objects_can_be_replaced_while_others_build_on_them(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.text("CREATE VIEW mf.mine AS SELECT user_id FROM mf.recommendations"))
        connection.execute(sa.text("GRANT SELECT ON mf.model_history TO pg_monitor"))
        replace_readers_objects(connection)
    assert rows(engine, "SELECT * FROM mf.mine") == []
    kept = "SELECT has_table_privilege('pg_monitor', 'mf.model_history', 'SELECT')"
    assert rows(engine, kept) == [(True,)]
