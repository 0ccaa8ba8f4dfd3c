"""What the form of `mf_rollback` is told: the versions to go back to, and which is the default."""

import time
from datetime import UTC
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.errors import DatabaseError
from mf_core.warehouse import database_engine, transaction
from mf_core.warehouse.impatient import PATIENCE_SECONDS, impatient
from mf_core.warehouse.rollbacks import RollbackChoice, rollback_choices
from mf_core.warehouse.versions import retire

from .test_publish import publish_one
from .worlds import World, make_world


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    """Ratings in the warehouse."""
    return make_world(engine, tmp_path).with_settings(publish__keep_versions=3)


def choices(engine: Engine) -> list[RollbackChoice]:
    """Return what a rollback can choose from."""
    with transaction(engine) as connection:
        return rollback_choices(connection)


def test_kept_versions_are_listed_with_when_they_were_live_and_the_default_is_where_it_goes(
    world: World, engine: Engine
) -> None:
    assert choices(engine) == []
    first = publish_one(world, "one")
    assert choices(engine) == [], "the live version is none to go back to"
    for night in ("two", "three", "four"):
        publish_one(world, night)

    found = choices(engine)
    # Those whose lists are there, without the live one.
    with engine.connect() as connection:
        lists = connection.scalars(
            sa.text("SELECT DISTINCT model_version FROM mf.recommendation_rows")
        )
        kept = set(lists) - {first + 3}
    assert [choice.model_version for choice in found] == sorted(kept, reverse=True)
    assert [choice.model_version for choice in found if choice.is_default] == [first + 2]
    assert all(choice.live_until and choice.live_from < choice.live_until for choice in found)
    day = f"{found[0].live_from.astimezone(UTC):%Y-%m-%d %H:%M}"
    assert found[0].period().startswith(f"{day} to ")
    assert f"RMSE {found[0].rmse:.4f}, NDCG@5 {found[0].ndcg:.4f}" == found[0].figures()

    assert pipeline.rollback(world.place).model_version == found[0].model_version
    after = {choice.model_version: choice.is_default for choice in choices(engine)}
    # The one that the rollback left may be named, and is not where the next one goes.
    assert after[first + 3] is False
    assert after[first + 1] is True
    assert pipeline.rollback(world.place).model_version == first + 1


def test_a_version_whose_lists_are_about_to_go_is_not_offered(world: World, engine: Engine) -> None:
    first, second, _ = (publish_one(world, night) for night in ("one", "two", "three"))
    with transaction(engine) as connection:
        retire(connection, second)
    assert [(choice.model_version, choice.is_default) for choice in choices(engine)] == [
        (first, True)
    ]


def test_whoever_must_not_wait_gives_up_on_a_locked_table(
    world: World, engine: Engine, warehouse_url: str
) -> None:
    hasty = impatient(database_engine(warehouse_url))
    with engine.begin() as locked:
        locked.execute(sa.text("LOCK TABLE mf.promotions IN ACCESS EXCLUSIVE MODE"))
        started = time.monotonic()
        with pytest.raises(DatabaseError):
            choices(hasty)
    hasty.dispose()
    assert time.monotonic() - started < PATIENCE_SECONDS + 2
