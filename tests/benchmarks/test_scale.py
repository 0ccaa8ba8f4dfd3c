"""What the benchmarks conclude from measured points."""

import json
from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.scale import first_at, linear_text, scale_text, verdicts


def _point(seconds: float, rmse: float, peak_mb: float = 1_000.0) -> dict[str, float]:
    return {
        "seconds": seconds,
        "rmse": rmse,
        "peak_mb": peak_mb,
        "prepare_seconds": 0.1,
        "iterations": 1,
    }


def _systems() -> dict[str, object]:
    ours = [_point(2.0, 0.80), _point(4.0, 0.78), _point(8.0, 0.77, 3_000.0)]
    peer = [_point(5.0, 0.79), _point(10.0, 0.775), _point(20.0, 0.776)]
    better = [_point(30.0, 0.70)]
    return {
        "als": {"label": "ours, als", "points": ours, "failed": None},
        "libmf": {"label": "LIBMF", "points": peer, "failed": None},
        "cmfrec": {"label": "cmfrec", "points": better, "failed": None},
        "spark": {"label": "Spark", "points": [], "failed": "no `java` on PATH | install it"},
    }


def test_a_target_is_reached_at_a_measured_point_and_not_between_two() -> None:
    points = [_point(4.0, 0.78), _point(2.0, 0.80)]
    slow = first_at(points, 0.79)
    quick = first_at(points, 0.80)
    assert slow is not None
    assert quick is not None
    assert slow["seconds"] == 4.0
    assert quick["seconds"] == 2.0
    assert first_at(points, 0.77) is None


def test_verdicts_give_the_ratio_at_the_peers_best_and_say_where_it_is_not_reached() -> None:
    lines = verdicts("20m", _systems())
    assert lines[0] == "- ours, als: best 0.7700; peak memory 3.00 GB, OVER the limit of 2.5 GB"
    assert "0.7700 after 8.0 s; LIBMF at its best, 0.7750, after 10.0 s: 1.25x as fast" in lines[1]
    assert lines[2] == "- ours, als does not reach cmfrec's best, 0.7000 at 30.0 s"
    assert len(lines) == 3


def test_a_failed_peer_keeps_its_row_with_the_reason() -> None:
    about = {"run": "r", "started": "s", "commit": "c", "machine": "m", "sets": {"20m": _systems()}}
    assert "| Spark | failed: no `java` on PATH / install it |" in scale_text(about)


def test_growth_beyond_the_limit_is_said() -> None:
    sets = ("1m", "5m", "20m", "1m_users", "5m_users")
    pace = {size: {"nanoseconds_per_rating": 100.0} for size in sets} | {
        "1m": {"nanoseconds_per_rating": 160.0}
    }
    text = linear_text(
        {"run": "r", "started": "s", "commit": "c", "machine": "m", "pace": {"als": pace}}
    )
    assert "| als | 160 | 100 | 100 | 1.60x (OVER 1.5x) |" in text
    assert "| als | 100 | 100 | 100 | 1.00x (within 1.5x) |" in text


def test_figures_of_another_run_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    (tmp_path / "scale.json").write_text(
        json.dumps({"run": "a", "machine": results.machine(), "sets": {}})
    )
    assert results.kept("scale", None) == {}
    assert results.kept("scale", "a")["run"] == "a"
    with pytest.raises(SystemExit, match="holds run a"):
        results.kept("scale", "b")

    # Seconds of two machines are not to be compared; lists are.
    monkeypatch.setattr(results, "machine", lambda: "another one")
    assert results.kept("scale", "a", timed=False)["run"] == "a"
    with pytest.raises(SystemExit, match="not run a on another one"):
        results.kept("scale", "a")
