"""What a run will need, by its counts and settings, and what happens where there is less."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mf_core import capacity, machine
from mf_core.capacity import Counts, Forecast, forecast, shortages
from mf_core.cli.capacity import capacity as capacity_command
from mf_core.config import Config, make_config
from mf_core.judging import item_item
from mf_core.solvers import forecast as training

GIB = 1 << 30
SMALL = Counts(100_000, 943, 1_682)
LARGE = Counts(20_000_000, 138_000, 27_000)
# Where the item-item baseline takes more than anything else does.
SQUARE = Counts(1_000_000, 6_000, 6_000)
ALS = {"rating_head.solver": "als"}


def _largest(config: Config, counts: Counts) -> int:
    return max(forecast(config, counts).memory.values())


def test_a_small_run_fits_anywhere_and_a_large_one_on_the_documented_machine() -> None:
    config = make_config({})
    assert _largest(config, SMALL) < 1 * GIB
    assert 2 * GIB < _largest(config, LARGE) < 24 * GIB


@pytest.mark.parametrize(
    "more", [Counts(40_000_000, 138_000, 27_000), Counts(20_000_000, 276_000, 27_000)]
)
def test_every_prediction_grows_with_ratings_and_with_users(more: Counts) -> None:
    config = make_config(ALS)
    before, after = forecast(config, LARGE), forecast(config, more)
    for step, size in before.memory.items():
        assert after.memory[step] > size, step
    assert after.artifacts > before.artifacts


def test_growth_is_linear_however_large_the_counts() -> None:
    config = make_config(ALS)
    ten_billion = forecast(config, Counts(10_000_000_000, 100_000_000, 10_000_000))
    billion = forecast(config, Counts(1_000_000_000, 10_000_000, 1_000_000))
    for step, size in billion.memory.items():
        assert 9 < ten_billion.memory[step] / size < 11, step
    assert 9.9 < ten_billion.growth / billion.growth < 10.1


def test_settings_count() -> None:
    shipped = forecast(make_config(ALS), LARGE)
    no_refit = forecast(make_config({**ALS, "publish.refit": False}), LARGE)
    assert no_refit.artifacts < shipped.artifacts
    assert no_refit.memory["prepare"] < shipped.memory["prepare"]

    no_baseline = make_config({**ALS, "gate.require_item_baseline": "off"})
    less = forecast(no_baseline, SQUARE).memory["evaluate"]
    assert less < forecast(make_config(ALS), SQUARE).memory["evaluate"]

    longer = forecast(make_config({**ALS, "recommend.top_n": 190}), LARGE)
    assert 5 < longer.growth / shipped.growth < 11

    fewer = forecast(
        make_config({**ALS, "publish.keep_versions": 1, "publish.keep_weeks": 0}), LARGE
    )
    assert fewer.kept == fewer.growth
    assert shipped.kept == 9 * shipped.growth


def test_the_baseline_takes_no_more_than_half_of_what_is_free() -> None:
    config = make_config(ALS)
    roomy = forecast(config, SQUARE).memory["evaluate"]
    assert forecast(config, SQUARE, 100 * GIB).memory["evaluate"] == roomy
    short = forecast(config, SQUARE, GIB).memory["evaluate"]
    assert short < roomy
    without = make_config({**ALS, "gate.require_item_baseline": "off"})
    assert short <= forecast(without, SQUARE).memory["evaluate"] + GIB // 2


def test_events_have_one_head_and_bayes_keeps_samples() -> None:
    events = forecast(make_config({"data.kind": "events"}), LARGE)
    als = forecast(make_config(ALS), LARGE)
    bayes = forecast(make_config({"rating_head.solver": "bayes"}), LARGE)
    assert events.artifacts < als.artifacts < bayes.artifacts


def _wanted(**changes: int) -> Forecast:
    small = {"temporary": 1 * GIB, "artifacts": 1 * GIB, "growth": 1, "kept": 1}
    memory = {"split": 2 * GIB, "evaluate": changes.pop("memory", 3 * GIB)}
    return Forecast(memory=memory, **{**small, **changes})


def _have(monkeypatch: pytest.MonkeyPatch, memory: int, disk: int) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: memory)
    monkeypatch.setattr(machine, "free_disk", lambda folder: disk)


def test_what_is_short_is_named_with_what_is_needed_and_what_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _have(monkeypatch, memory=2 * GIB, disk=10 * GIB)
    [short] = shortages(_wanted(), tmp_path, tmp_path)
    assert short.sentence() == ("step `evaluate`, memory: needs about 3.0 GiB, and 2.0 GiB is free")


def test_what_fits_exactly_fits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _have(monkeypatch, memory=3 * GIB, disk=2 * GIB)
    assert shortages(_wanted(), tmp_path, tmp_path) == []


def test_temporary_files_and_artifacts_on_one_disk_share_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _have(monkeypatch, memory=9 * GIB, disk=GIB + GIB // 2)
    [short] = shortages(_wanted(), tmp_path, tmp_path / "artifacts")
    assert short.needed == 2 * GIB
    monkeypatch.setattr(machine, "same_disk", lambda one, other: False)
    assert shortages(_wanted(), tmp_path, tmp_path / "artifacts") == []


def test_an_object_store_has_no_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _have(monkeypatch, memory=9 * GIB, disk=GIB)
    assert shortages(_wanted(artifacts=10_000 * GIB), tmp_path, None) == []


def test_memory_names_are_those_of_the_steps_that_run_here() -> None:
    assert set(forecast(make_config({}), SMALL).memory) == {
        "split",
        "evaluate",
        "prepare",
        "recommend",
    }


def test_mf_capacity_says_it_before_there_are_data() -> None:
    asked = ["--ratings", "20000000", "--users", "138000", "--items", "27000", "--json"]
    found = CliRunner().invoke(capacity_command, asked)
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    wanted = forecast(make_config({}), LARGE)
    assert said["memory_evaluate"] == pytest.approx(wanted.memory["evaluate"] / GIB, abs=0.001)
    assert said["postgres_lists_kept"] == pytest.approx(9 * said["postgres_grows_by"], rel=0.01)
    assert said["memory_refit"] > said["memory_train"] > 1

    nothing = CliRunner().invoke(capacity_command, ["--ratings", "0", *asked[2:]])
    assert nothing.exit_code == 2


def test_the_page_has_the_multiples_that_are_used() -> None:
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
    mib = 1 << 20
    per_row = f"({training._ID} + {training._COPIES_OF_MODEL * training._FLOAT} F) R"
    named = (
        f"{capacity._PROCESS // mib} MiB, {training._PROCESS // mib} MiB",
        f"{capacity._SPLIT_CHUNKS // mib} MiB + {capacity._SPLIT_RATING} n + {capacity._ID} R",
        f"{capacity._READ_RATING} n + {capacity._ID} R (1 + m H)",
        f"{capacity._COPIES_OF_MODEL * capacity._FLOAT} F R m",
        f"{capacity._RESAMPLED_BYTES} x min(`gate.bootstrap_samples` x U, 2^24)",
        f"{training._HELD_RATING} n + {per_row}",
        f"| temporary files, of the split | {capacity._SPOOLED} n |",
        f"{capacity._STORED_RATING} n + {capacity._STORED_ID} R (the snapshot)",
        f"{capacity._LIST_ROW} U x places + {capacity._ITEM_ROW} I x ({capacity._POPULAR_LISTS} +",
        f"4 x the larger of k m + s^2 and {item_item._COPIES} s^2",
    )
    for formula in named:
        assert formula in page, formula
