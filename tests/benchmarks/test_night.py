"""The measured night: what its tables conclude, and a small one from its file to its readers."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import results
from benchmarks.night import pages
from benchmarks.night.cases import CASES, SHAPES, SIZES, plain_shape, write_case
from benchmarks.night.steps import BY_NAME, STEPS, Step
from benchmarks.night.text import night_text
from benchmarks.night.work import WORK, seconds_at


def _case(seconds: float = 4.0, peak_mb: float = 500.0) -> dict[str, Any]:
    steps = {
        step.name: {
            "seconds": seconds,
            "peak_mb": peak_mb,
            "floor_seconds": 1.0 if step.floor else None,
        }
        for step in STEPS
    }
    return {
        "about": "a set",
        "finished": True,
        "counts": {"ratings": 1_000_000, "delta": 10_000, "users": 7_000, "items": 6_000},
        "steps": steps,
        "predicted": {"memory": {"split": 400e6, "train": 800e6}, "disk": {"growth": 1e6}},
        "disk": {"growth": 1_000_000},
    }


def _about(**cases: dict[str, Any]) -> dict[str, Any]:
    return {"run": "r", "started": "s", "commit": "c", "machine": "m", "cases": cases}


def test_a_step_is_held_against_its_floor_its_seconds_and_its_memory() -> None:
    step = Step("s", "f", most_ratio=2.0, most_mb=600.0)
    assert step.missed({"seconds": 3.0, "floor_seconds": 1.0, "peak_mb": 600.0}) == []
    assert step.missed({"seconds": 3.1, "floor_seconds": 1.0, "peak_mb": 601.0}) == [
        "ratio",
        "memory",
    ]
    again = Step("s", "f", most_seconds=5.0, over_floor=True)
    assert again.missed({"seconds": 7.9, "floor_seconds": 2.0, "peak_mb": 0}) == []
    assert again.missed({"seconds": 8.1, "floor_seconds": 2.0, "peak_mb": 0}) == ["seconds"]


def test_the_table_has_ratios_targets_and_what_a_night_comes_to() -> None:
    text = night_text(_about(**{"1m": _case()}))
    assert "| 1m | split | 4.00 | 1.00 | 4.00x | 2x, 2,147 MB | MISSED: ratio | 500 |" in text
    assert "| 1m | gate | 4.00 |  |  |  |  | 500 |" in text
    of_night = [step for step in STEPS if step.of_night]
    floors = sum(bool(step.floor) for step in of_night)
    assert f"| **1m** | **a night** | {4.0 * len(of_night)} | {floors}.0 |  |  |  | 500 |" in text


def test_predictions_stand_beside_what_was_measured() -> None:
    text = night_text(_about(**{"1m": _case()}))
    assert "| 1m | memory of split | 400 | 500 | 0.80 | yes |" in text
    assert "| 1m | memory of train | 800 | 500 | 1.60 | NO |" in text
    assert "| 1m | growth | 1 | 1 | 1.00 | yes |" in text


def test_a_set_that_was_cut_off_has_no_whole_night() -> None:
    case = _case() | {"finished": False}
    del case["steps"]["publish"]
    text = night_text(_about(**{"1m": case}))
    assert "a night" not in text
    assert "| 1m | verify |" in text


def test_sets_have_the_sizes_of_movielens_in_proportion() -> None:
    assert (plain_shape(20_000_000).n_users, plain_shape(20_000_000).n_items) == (138_000, 27_000)
    assert plain_shape(1_000_000).n_users == 6_900
    # As many ratings a user, and never more than a user could give.
    for n_ratings in (10_000, 100_000, 1_000_000):
        shape = plain_shape(n_ratings)
        assert n_ratings / shape.n_users == pytest.approx(145, abs=1)
        assert shape.n_items / 2 > 145


def test_the_delta_is_a_hundredth_half_of_it_new(tmp_path: Path) -> None:
    counts = write_case(CASES["10k"], tmp_path)
    assert (counts["first"], counts["delta"]) == (10_000, 100)
    with (tmp_path / "first.csv").open() as file:
        first = {(row["user_id"], row["item_id"]): row for row in csv.DictReader(file)}
    with (tmp_path / "delta.csv").open() as file:
        delta = {(row["user_id"], row["item_id"]): row for row in csv.DictReader(file)}
    assert len(first) == 10_000
    assert len(delta) == 100
    changed = delta.keys() & first.keys()
    assert len(changed) == 50
    assert all(delta[pair]["rating"] != first[pair]["rating"] for pair in changed)


def test_odd_shapes_are_what_they_say() -> None:
    heavy = CASES["heavy_users"].draw()
    assert len(heavy.user) == 200 * 5_000 + 1
    assert (heavy.item == 0).sum() == 201
    assert (heavy.user == 200).sum() == 1

    popular = CASES["popular_item"].draw()
    assert (popular.item == 0).sum() == 100_000


def test_work_grows_as_it_says() -> None:
    one = {"ratings": 1e6, "delta": 1e4, "users": 7e3, "items": 6e3}
    twice = {"ratings": 2e6, "delta": 2e4, "users": 14e3, "items": 6e3}
    assert seconds_at("split", 3.0, one, twice) == 6.0
    assert seconds_at("evaluate", 3.0, one, twice) == 6.0
    assert seconds_at("prepare", 3.0, one, twice) == 3.0
    wider = one | {"items": 12e3}
    assert 3.0 < seconds_at("evaluate", 3.0, one, wider) < 6.0
    assert set(WORK) <= set(BY_NAME)


def test_a_step_that_degrades_on_a_shape_is_marked() -> None:
    slow = _case()
    slow["steps"]["split"]["seconds"] = 9.0
    text = pages.shapes_table(_about(**{"1m": _case(), "heavy_users": slow}))
    assert "| split | ratings | 9.0 s, 2.2x SLOWER |" in text
    assert "| check | ratings | 4.0 s, 1.0x |" in text


def test_steps_alone_are_held_against_their_targets() -> None:
    lists = {
        "n_users": 20_000,
        "n_items": 20_000,
        "rank": 32,
        "n": 100,
        "ours_users_per_second": 60_000.0,
        "floor_users_per_second": 110_000.0,
        "peer_users_per_second": 25_000.0,
        "ours_to_floor": 0.545,
        "ours_to_peer": 2.4,
    }
    published = {
        "rows": 1_000,
        "floor_s": 10.0,
        "load_and_index_s": 12.0,
        "ratio": 1.2,
        "checks_s": 4.0,
        "promotion_ms": 61.0,
        "read_ms": 0.3,
        "reader_p99_ms": {"idle": 2.0, "loading": 3.0, "publishing": 4.5},
    }
    about = _about(**{"1m": _case()}) | {"top_n": [lists], "publishing": published}
    text = night_text(about)
    assert "| 60,000 | 110,000 | 0.55 | 25,000 | 2.40 | 0.5 and 2 | yes |" in text
    assert "| 1,000 rows, load and indexes | 12.0 s, 1.20x | 1.3x | yes |" in text
    assert "| promotion while 50 read | 61.0 ms | 50 ms | MISSED |" in text
    assert "| readers' p99, publishing | 4.5 ms | 4.0 ms | MISSED |" in text


def test_the_page_has_a_place_for_every_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "scale.md"
    copy.write_text(pages.PAGE.read_text())
    monkeypatch.setattr(pages, "PAGE", copy)
    pages.write_page(_about(**{"1m": _case()}))
    assert "| 1m | split | 4.00 |" in copy.read_text()
    assert "| 10,000,000,000 |" in copy.read_text()
    with pytest.raises(ValueError, match="no lines '<!-- nowhere"):
        pages.with_part(copy.read_text(), "nowhere", "")


def test_a_small_night_runs_from_its_file_to_its_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MF_BENCH_DIR", str(tmp_path))
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    words = ["night", "--no-steps-alone", "--sizes", "10k", "--set", "rating_head.als.iterations=2"]
    words += ["--set", "ranking_head.iterations=2", "--set", "ranking_head.item_factors=8"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
    command.main()

    night = json.loads((tmp_path / "night.json").read_text())["cases"]["10k"]
    assert night["finished"]
    assert set(night["steps"]) == set(BY_NAME)
    assert all(figures["seconds"] > 0 for figures in night["steps"].values())
    assert {name for name, figures in night["steps"].items() if figures["floor_seconds"]} == {
        step.name for step in STEPS if step.floor
    }
    for step, predicted in night["predicted"]["memory"].items():
        ratio = predicted / 1e6 / night["steps"][step]["peak_mb"]
        assert 0.7 < ratio < 1.4, (step, ratio)
    assert night["rows"] == night["counts"]["users"] * 100
    # Nothing stays: no server, no artifacts.
    assert not (tmp_path / "night").exists()


def test_sizes_and_shapes_are_cases() -> None:
    assert {*SIZES, *SHAPES} == set(CASES)
