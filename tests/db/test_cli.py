"""The `mf` command as people and scripts use it: real processes, a real Postgres, real training."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .worlds import make_ratings

SMALL = [
    "--set=gate.min_test_ratings=20",
    "--set=gate.bootstrap_samples=100",
    "--set=data.min_ratings=100",
    "--set=recommend.top_n=5",
    "--set=recommend.reserve=5",
    "--set=ranking_head.n_factors=4",
    "--set=rating_head.solver=als",
    "--set=rating_head.als.n_factors=4",
    "--set=gate.require_better_than_biases=false",
    "--set=gate.require_popularity=false",
    "--set=gate.min_refit_overlap=0",
    "--set=gate.max_rmse=3",
]

MF = [sys.executable, "-c", "from mf_core.cli import main; main()"]


class Mf:
    """Runs `mf` on one warehouse."""

    def __init__(self, **environ: str) -> None:
        """`environ` holds what is set beside the environment of the tests."""
        self.environ = {**os.environ, **environ}
        self.errors = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run a command, check its exit code, and return what it prints."""
        done = subprocess.run(
            [*MF, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=self.environ,
        )
        said = f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"

        assert done.returncode == code, said

        self.errors = done.stderr
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """Run with --json and return what it prints."""
        printed = self(*arguments, "--json")
        return json.loads(printed)


@pytest.fixture
def ratings_file(tmp_path: Path) -> Path:
    """Planted ratings as a CSV file."""
    path = tmp_path / "ratings.csv"
    ratings = make_ratings().rename(columns={"rated_at": "timestamp"})
    ratings.to_csv(path, index=False)

    return path


@pytest.fixture
def mf(warehouse_url: str, tmp_path: Path) -> Mf:
    """`mf` on an empty warehouse."""
    return Mf(
        MF_DATABASE_URL=warehouse_url,
        MF_ARTIFACT_ROOT=(tmp_path / "artifacts").as_uri(),
        MF_GPU_LOCK=str(tmp_path / "lock"),
    )


def test_the_steps_one_by_one_end_in_published_lists(mf: Mf, ratings_file: Path) -> None:
    settings = [f"--set=source.uri={ratings_file}", *SMALL]
    ingested = mf.json("ingest", *settings)

    assert ingested["rows_inserted"] == len(make_ratings())
    assert ingested["total_ratings"] == len(make_ratings())

    assert mf.json("ingest", *settings)["already_ingested"]
    assert mf.json("check", *settings)["n_users"] == 60
    assert mf.json("split", "--key", "a", *settings)["model_version"] == 1
    assert mf.json("train", *settings)["device"]
    assert "sweep 1/" in mf.errors
    assert 0 < mf.json("evaluate", *settings)["rmse"] < 3
    assert mf.json("gate", *settings)["approved"]
    assert mf.json("recommend", *settings) == {"model_version": 1, "rows": 60 * 10}
    assert mf.json("recommend", "u001") == []

    published = mf.json("publish", *settings)
    assert published["model_version"] == 1
    assert published["users"] == 60
    assert published["previous_version"] is None

    known = mf.json("recommend", "u001")
    unknown = mf.json("recommend", "nobody", "-n", "2")

    assert [row["rank"] for row in known] == [1, 2, 3, 4, 5]
    assert unknown[1]["source"] == "popular"

    status = mf.json("status")
    assert status["live_version"] == 1
    assert status["ratings"] == ingested["total_ratings"]
    assert status["latest_verdict_approved"] is True
    assert mf.json("history")[0]["state"] == "published"
    assert "published" in mf("history")


def test_a_whole_run_a_second_one_and_a_refused_third(mf: Mf, ratings_file: Path) -> None:
    settings = [f"--set=source.uri={ratings_file}", *SMALL]
    first = mf.json("run", *settings)

    assert first["model_version"] == 1

    unchanged = mf.json("run", *settings)
    assert unchanged["news"] is False
    assert unchanged["model_version"] == 1

    # A limit of the gate is no news, so a night has to be asked for.
    assert mf.json("run", *settings, "--set=gate.max_rmse=0.001")["news"] is False
    strict = [*settings, "--set=gate.max_rmse=0.001", "--set=run.force=true"]
    mf("run", *strict, code=5)

    assert "exceeds the limit 0.0010" in mf.errors
    assert mf.json("status")["live_version"] == 1

    mf("override", "2", "--by", "Ada", "--reason", "a test of the override")
    verdict = mf.json("gate", *strict, "--version", "2")

    assert verdict["overridden_by"] == "Ada"

    mf("recommend", *settings, "--version", "2")
    assert mf.json("publish", *settings)["model_version"] == 2
    assert mf.json("rollback")["model_version"] == 1

    top = mf.json("recommend", "u001")[0]["item_id"]
    assert mf.json("hide", top)["known"]

    without = mf.json("recommend", "u001")
    assert top not in [row["item_id"] for row in without]

    mf("unhide", top)
    with_it_again = mf.json("recommend", "u001")

    assert with_it_again[0]["item_id"] == top

    mf("hide", "no such item")
    assert "no item 'no such item'" in mf.errors


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["ingest", "--set=source.uri=/no/such/file.csv"], 3, "/no/such/file.csv"),
        (["check"], 4, "0 ratings"),
        (["split"], 4, "mf.ratings is empty"),
        (["gate"], 2, "run the step before this one first"),
        (["train", "--version", "9"], 2, "there is no model version 9"),
        (["rollback"], 2, "can't roll back"),
        (["rollback", "7"], 2, "can't roll back to version 7"),
        (["split", "--set=split.seed=-1"], 2, "split.seed"),
        (["split", "--set=nonsense"], 2, "NAME=VALUE"),
        (["override", "1", "--by", "x", "--reason", "y"], 2, "there is no model version 1"),
        (["nonsense"], 2, "No such command"),
        (["backtest", "--train", "a", "--test", "b", "--scale", "5"], 2, "LOW,HIGH"),
    ],
)
def test_errors_have_a_message_and_an_exit_code(
    mf: Mf, arguments: list[str], code: int, words: str
) -> None:
    mf(*arguments, code=code)
    assert words in mf.errors
    assert "Traceback" not in mf.errors


def test_a_database_that_is_not_there_is_exit_code_10() -> None:
    mf = Mf(MF_DATABASE_URL="postgresql://x@127.0.0.1:1/none")
    mf("status", code=10)

    assert "Check MF_DATABASE_URL" in mf.errors


def without_warehouse(home: Path) -> dict[str, str]:
    """Return an environment that names no database, and a home of its own."""
    environ = {**os.environ, "MF_HOME": str(home)}
    environ.pop("MF_DATABASE_URL", None)

    return environ


def test_without_a_database_url_the_embedded_server_starts_and_stops(tmp_path: Path) -> None:
    home = tmp_path / "home"
    mf = Mf()
    mf.environ = without_warehouse(home)
    status = mf.json("status")
    history = mf.json("history")

    assert status["live_version"] is None
    assert history == []
    assert not (home / "pgdata" / "postmaster.pid").exists()


def test_commands_side_by_side_share_the_embedded_server(tmp_path: Path) -> None:
    home = tmp_path / "home"
    running = [
        subprocess.Popen(
            [*MF, "status", "--json"],
            env=without_warehouse(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]

    for process in running:
        printed, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        status = json.loads(printed)
        assert status["live_version"] is None

    assert not (home / "pgdata" / "postmaster.pid").exists()


def test_backtest_needs_no_database_and_prints_every_metric(tmp_path: Path) -> None:
    train = tmp_path / "train.csv"
    test = tmp_path / "test.csv"
    ratings = make_ratings().drop(columns="rated_at")
    held_out = ratings[::4]
    held_out.to_csv(test, index=False)
    ratings.drop(held_out.index).to_csv(train, index=False)

    nowhere = "postgresql://x@127.0.0.1:1/none"
    mf = Mf(MF_DATABASE_URL=nowhere, MF_GPU_LOCK=str(tmp_path / "lock"))
    backtest = ["backtest", "--train", str(train), "--test", str(test)]
    found = mf.json(*backtest, *SMALL)

    assert {
        "rmse",
        "mae",
        "average_error",
        "ndcg_at_10",
        "recall_at_10",
        "map_at_10",
        "hit_rate_at_10",
        "fit_seconds",
    } <= set(found)
    assert found["rmse"] < found["global_mean_rmse"]
    assert found["average_error"] == pytest.approx(found["rmse"] ** 2 / 2)
    assert found["n_train"] + found["n_test"] == len(ratings)

    # Without a rating head no predicted rating counts in the lists.
    only = mf.json(*backtest, "--head", "ranking", *SMALL)
    assert "rmse" not in only
    without = mf.json(*backtest, "--set", "recommend.rating_weight=0", *SMALL)
    assert only["ndcg_at_10"] == without["ndcg_at_10"]

    test.write_text("user_id,item_id,rating\nu1,i1,99\n")
    mf(*backtest, code=3)

    assert "line 2" in mf.errors
