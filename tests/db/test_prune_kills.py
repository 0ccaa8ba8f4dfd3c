"""Who prunes is killed on the way, after each thing that he removes; the next one ends it."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from mf_core.data.artifacts import check_artifact, remove_artifact
from mf_core.pipeline import pruning
from mf_core.warehouse import database_engine, lineage, transaction

from .databases import url_of
from .nights import child
from .test_prune import age, night, prune, stored
from .test_publish import rows
from .worlds import World, make_world


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    """Ratings in the warehouse; only the live version keeps its lists."""
    made = make_world(engine, tmp_path, log=[])
    return made.with_settings(publish__keep_versions=1, publish__keep_weeks=0)


def killed_after_a_removal(world: World, work: Callable[[World], object]) -> bool:
    """Do work in a process that kills itself after a removal; say whether there was one."""
    url = url_of(world.place.engine)
    world.place.engine.dispose()

    def remove_and_die(uri: str) -> None:
        remove_artifact(uri)
        os.kill(os.getpid(), signal.SIGKILL)

    def work_and_die() -> None:
        place = replace(world.place, engine=database_engine(url))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pruning, "remove_artifact", remove_and_die)
            work(World(place, world.config))

    with child(work_and_die) as wait:
        status = wait()
    assert status in (0, -signal.SIGKILL)
    return status != 0


def test_one_who_is_killed_on_the_way_leaves_the_rest_to_the_next(
    world: World, engine: Engine
) -> None:
    for n in range(1, 4):
        night(world, str(n))
    age(engine, 31)
    removals = 0
    while killed_after_a_removal(world, prune):
        removals += 1
    assert removals >= 4
    [(live,)] = rows(engine, "SELECT model_version FROM mf.live")
    assert {name.split("/")[1] for name in stored(world) if name.startswith("models")} == {
        str(live)
    }
    assert len([name for name in stored(world) if name.startswith("snapshots")]) == 1
    assert prune(world) == []


def test_a_refit_that_is_gone_stays_on_record_for_one_night_at_most(
    world: World, engine: Engine
) -> None:
    """A backup would name it as missing for as long as nights are compared with its version."""
    night(world, "1")
    # The publication retires version 1, and is killed as it has removed its refit.
    assert killed_after_a_removal(world, lambda own: night(own, "2"))
    assert not [name for name in stored(world) if name.startswith("models/1/refit")]
    assert prune(world) == []
    with transaction(engine) as connection:
        named = lineage.stored_artifacts(connection)
    assert f"{world.place.artifact_root}/models/1/evaluated/rating" in [one.uri for one in named]
    for artifact in named:
        check_artifact(artifact.uri, artifact.sha256)
