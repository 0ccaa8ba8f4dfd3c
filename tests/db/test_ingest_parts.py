"""Several files that are one table, loaded into a real Postgres."""

from pathlib import Path

from sqlalchemy.engine import Engine

from mf_core.config import Config, make_config
from mf_core.intake.ingest import ingest

from .test_ingest import NOW, ratings, table

HEADER = "user_id,item_id,rating,timestamp\n"


def load(engine: Engine, config: Config) -> bool:
    """Load a source; return whether there was something to load."""
    return not ingest(engine, config, NOW, print, {}).already_ingested


def test_parts_are_one_batch_and_a_bad_row_names_its_part(engine: Engine, tmp_path: Path) -> None:
    for day, row in (("01", "u,i,4,0"), ("02", "u,i,5,0"), ("03", "v,i,9,0")):
        folder = tmp_path / f"date=2025-12-{day}"
        folder.mkdir()
        (folder / "part-00000.csv").write_text(f"{HEADER}{row}\n")
    (tmp_path / "_SUCCESS").touch()
    config = make_config(
        {
            "source.uri": str(tmp_path),
            "source.time_column": "date",
            "data.max_rejected_share": 0.5,
        }
    )
    assert load(engine, config)
    # Of two ratings the later one wins, by the date of the folder.
    assert ratings(engine) == [("u", "i", 5.0)]
    rejected = table(engine, "SELECT file, line FROM mf.rejected_ratings")
    assert rejected == [("date=2025-12-03/part-00000.csv", 2)]

    assert not load(engine, config)
    (tmp_path / "date=2025-12-01").rename(tmp_path / "date=2025-12-04")
    assert load(engine, config)
    assert ratings(engine) == [("u", "i", 4.0)]


def test_what_was_guessed_is_told(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("u,i,4,881250949\nv,i,5,881250949\n")
    config = make_config({"source.uri": f"{tmp_path}/a.csv\n{tmp_path}/*.csv"})
    report = ingest(engine, config, NOW, print, {})
    assert "a.csv: no header" in report.notes
    assert ratings(engine) == [("u", "i", 4.0), ("v", "i", 5.0)]
    [[uri]] = table(engine, "SELECT source_uri FROM mf.ingest_batches")
    assert uri == f"{tmp_path}/a.csv\n{tmp_path}/*.csv"
