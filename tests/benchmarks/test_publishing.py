"""The benchmark of publishing runs whole on few rows."""

from benchmarks.publishing import KEPT_VERSIONS, measure


def test_a_small_measurement_has_every_figure_and_prunes_all_other_versions() -> None:
    figures = measure(1_500, 10, idle_seconds=1.0)
    assert figures["rows"] == 15_000
    for name in ("floor_s", "load_and_index_s", "checks_s", "promotion_ms", "read_ms"):
        assert figures[name] > 0, name
    assert figures["verify_s"] >= figures["checks_s"]
    assert set(figures["reader_p99_ms"]) == {"idle", "loading", "publishing"}
    assert figures["never_executed"] == KEPT_VERSIONS - 1
