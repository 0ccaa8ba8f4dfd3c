"""The data check refuses what would not fit, before anything is trained; on a real Postgres."""

from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from mf_core import machine, pipeline
from mf_core.errors import CapacityError

from .worlds import World, make_world


@pytest.fixture
def log() -> list[str]:
    """What the steps have said."""
    return []


@pytest.fixture
def world(engine: Engine, tmp_path: Path, log: list[str]) -> World:
    """Ratings in the warehouse."""
    return make_world(engine, tmp_path, log=log)


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's memory can't be shrunk; what the check reads of it can."""
    monkeypatch.setattr(machine, "free_memory", lambda: 100 << 20)


def test_a_run_that_fits_says_what_it_will_need(world: World, log: list[str]) -> None:
    pipeline.check(world.config, world.place)
    [said] = [line for line in log if line.startswith("capacity:")]
    assert "GiB of memory" in said
    assert "Postgres grows by" in said


def test_a_run_that_does_not_fit_is_refused(world: World, little_memory: None) -> None:
    with pytest.raises(
        CapacityError,
        match=r"memory: needs about 0\.\d GiB, and 0\.1 GiB is free.*Nothing was trained.*"
        r"run\.capacity=warn.*docs/scale\.md#capacity",
    ):
        pipeline.check(world.config, world.place)


def test_with_warn_it_goes_on_and_says_so(
    world: World, log: list[str], little_memory: None
) -> None:
    warned = world.with_settings(**{"run.capacity": "warn"})
    report = pipeline.check(warned.config, warned.place)
    assert report.n_ratings > 0
    assert any(line.startswith("WARNING: step `") for line in log)


def test_with_off_nobody_looks(world: World, log: list[str], little_memory: None) -> None:
    off = world.with_settings(**{"run.capacity": "off"})
    pipeline.check(off.config, off.place)
    assert not any("GiB" in line for line in log)
