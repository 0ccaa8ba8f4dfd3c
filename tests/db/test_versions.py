"""The life of a version: which state may come after which, how it went live, and who did it."""

import itertools
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mf_core import pipeline
from mf_core.errors import StateError
from mf_core.warehouse import states, transaction, versions
from mf_core.warehouse.tables import STATES

from .test_pipeline import judged
from .test_publish import rows
from .worlds import World, fit, make_world

# Written down once more, by hand: a state of the row may become those marked x.
ALLOWED = """
           created trained evaluated refused approved dry_run published retired stopped
created    x       x       .         .       .        .       .         .       x
trained    x       x       x         .       .        .       .         .       x
evaluated  x       x       x         x       x        x       .         .       x
refused    x       x       x         x       x        x       .         .       .
approved   x       x       x         x       x        x       x         .       x
dry_run    x       x       x         x       x        x       .         .       .
published  .       .       .         .       .        .       x         x       .
retired    .       .       .         .       .        .       .         .       .
stopped    x       x       .         .       .        .       .         .       .
"""
"""`stopped` stands for a run that was stopped before its training."""


def allowed_pairs() -> set[tuple[str, str]]:
    header, *lines = ALLOWED.strip().splitlines()
    after = header.split()
    table = {line.split()[0]: line.split()[1:] for line in lines}
    return {(a, b) for a in table for b, mark in zip(after, table[a], strict=True) if mark == "x"}


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    """Ratings in the warehouse."""
    return make_world(engine, tmp_path, log=[])


def put_into(connection: Connection, version: int, state: str) -> None:
    """Set a state as no code of the project would."""
    connection.execute(
        sa.text("""
            UPDATE mf.models SET state = :state,
                stopped_in = CASE WHEN :state = 'stopped' THEN 'created' END
            WHERE model_version = :version
        """),
        {"state": state, "version": version},
    )


def test_the_table_of_states_is_complete() -> None:
    header, *lines = ALLOWED.strip().splitlines()
    assert tuple(header.split()) == STATES
    assert tuple(line.split()[0] for line in lines) == STATES


def test_every_pair_of_states_is_allowed_or_refused_in_words(world: World, engine: Engine) -> None:
    version = pipeline.split(world.config, world.place, "run").model_version
    allowed = allowed_pairs()
    for before, after in itertools.product(STATES, STATES):
        with transaction(engine) as connection:
            put_into(connection, version, before)
        if (before, after) in allowed:
            with transaction(engine) as connection:
                versions.move(connection, version, after)
                assert states.state_of(connection, version) == after
            continue
        words = f"model version {version} is {before}, so it can't become {after}"
        with pytest.raises(StateError, match=words) as refusal, transaction(engine) as connection:
            versions.move(connection, version, after)
        assert str(refusal.value).endswith(".")
        assert rows(engine, "SELECT state FROM mf.models") == [(before,)]


def test_a_state_that_is_none_is_kept_out_by_the_database(world: World, engine: Engine) -> None:
    version = pipeline.split(world.config, world.place, "run").model_version
    with (
        pytest.raises(sa.exc.IntegrityError, match="models_state_check"),
        transaction(engine) as connection,
    ):
        put_into(connection, version, "famous")


@pytest.mark.parametrize("state", ["created", "trained", "evaluated", "approved"])
def test_a_stopped_run_goes_on_from_where_it_stood(
    world: World, engine: Engine, state: str
) -> None:
    version = pipeline.split(world.config, world.place, "run").model_version
    with transaction(engine) as connection:
        put_into(connection, version, state)
    assert pipeline.close_run(world.place, "run") == version
    assert pipeline.close_run(world.place, "run") is None
    assert rows(engine, "SELECT state, stopped_in FROM mf.models") == [("stopped", state)]
    with transaction(engine) as connection:
        assert states.is_in(connection, version, (state,))  # type: ignore[arg-type]
    following = {"created": "trained", "trained": "evaluated", "evaluated": "refused"}
    with transaction(engine) as connection:
        versions.move(connection, version, following.get(state, "published"))  # type: ignore[arg-type]
    assert rows(engine, "SELECT stopped_in FROM mf.models") == [(None,)]


@pytest.mark.parametrize("state", ["refused", "dry_run", "published", "retired"])
def test_a_run_that_ended_as_it_should_is_not_stopped(
    world: World, engine: Engine, state: str
) -> None:
    version = pipeline.split(world.config, world.place, "run").model_version
    with transaction(engine) as connection:
        put_into(connection, version, state)
    assert pipeline.close_run(world.place, "run") is None
    assert pipeline.close_run(world.place, "no such run") is None
    assert rows(engine, "SELECT state FROM mf.models") == [(state,)]


def test_a_run_that_is_started_over_uses_up_no_numbers(world: World) -> None:
    first = pipeline.split(world.config, world.place, "run").model_version
    for _ in range(3):
        assert pipeline.split(world.config, world.place, "run").model_version == first
    assert pipeline.split(world.config, world.place, "other").model_version == first + 1


def test_a_run_that_fails_on_the_way_is_stopped_and_its_key_goes_on_with_it(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mf_core.pipeline.whole.ingest", lambda *_: None)
    monkeypatch.setattr("mf_core.pipeline.whole.check", lambda *_: None)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the machine is on fire")

    monkeypatch.setattr("mf_core.pipeline.whole.train", fail)
    with pytest.raises(RuntimeError, match="on fire"):
        pipeline.run_all(world.config, world.place, "run")
    assert rows(engine, "SELECT run_key, state FROM mf.models") == [("run", "stopped")]
    again = pipeline.split(world.config, world.place, "run")
    assert rows(engine, "SELECT model_version, state FROM mf.models") == [
        (again.model_version, "created")
    ]


def test_a_dry_run_ends_in_a_state_of_its_own_and_can_be_judged_for_real(
    world: World, engine: Engine
) -> None:
    dry = world.with_settings(run__dry_run=True)
    split, model, report = judged(dry, "dry")
    pipeline.gate(dry.config, world.place, report)
    assert rows(engine, "SELECT state FROM mf.models") == [("dry_run",)]
    with pytest.raises(StateError, match=r"is dry_run.*without run\.dry_run"):
        pipeline.prepare(world.config, world.place, split, model, fit(world, split, "refit"))
    pipeline.gate(world.config, world.place, report)
    assert rows(engine, "SELECT state FROM mf.models") == [("approved",)]
