"""`mf tune`: real fits, real studies, on a real Postgres."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import textwrap
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from alembic import command
from optuna.distributions import IntDistribution
from sqlalchemy.engine import Engine

from mf_core import tune
from mf_core.config import AlsConfig, Config, load_config, make_config
from mf_core.data.split import split_bucket
from mf_core.errors import ConfigError, DatabaseError, QualityError, TrainingError
from mf_core.tune import storage
from mf_core.warehouse import transaction
from mf_core.warehouse.bootstrap import alembic_config, migrate

from .test_cli import Mf, without_warehouse
from .test_publish import rows
from .worlds import load, make_ratings

SMALL = {
    "train.device": "cpu",
    "rating_head.solver": "als",
    "rating_head.als.n_factors": 4,
    "rating_head.als.iterations": 9,
    "ranking_head.n_factors": 8,
    "ranking_head.iterations": 4,
}
CONFIG = make_config(SMALL)
SLOW = make_config({"rating_head.als.iterations": 100, "rating_head.patience": 100}, CONFIG)


def quiet(line: str) -> None:
    """Say nothing."""


def task_of(engine: Engine, head: tune.Head = "rating", config: Config = CONFIG) -> tune.Task:
    """Return the task of tuning a head on the warehouse's ratings."""
    rows_to_tune = tune.read_warehouse(config, engine)
    return tune.make_task(config, head, rows_to_tune)


def search(
    engine: Engine,
    head: tune.Head = "rating",
    trials: int = 3,
    study: str = "s",
    config: Config = CONFIG,
    *,
    parts: int = 0,
) -> tune.TuneReport:
    """Search for a number of trials, with time enough for them."""
    task = task_of(engine, head, config)
    return tune.tune(
        task,
        engine,
        study,
        300,
        quiet,
        max_trials=trials,
        parts=parts,
    )


def values(report: tune.TuneReport) -> dict[int, float | None]:
    """Return what each trial reached, by its number."""
    return {trial.number: trial.value for trial in report.trials}


def tried(report: tune.TuneReport) -> list[tuple[Any, ...]]:
    """Return the settings of each trial."""
    return [tuple(trial.settings.values()) for trial in report.trials]


@pytest.mark.parametrize("head", ["rating", "ranking"])
def test_a_search_ends_no_worse_than_it_began(engine: Engine, head: tune.Head) -> None:
    load(engine, make_ratings())
    report = search(engine, head, trials=6)
    numbers = sorted(trial.number for trial in report.trials)

    assert numbers == list(range(6))

    finished = report.finished
    (begun,) = [trial for trial in finished if trial.number == 0]
    n_factors = {
        "rating": "rating_head.als.n_factors",
        "ranking": "ranking_head.n_factors",
    }

    assert begun.settings[n_factors[head]] in (4, 8)

    first = begun.value
    best = finished[0].value

    assert best is not None
    assert first is not None
    assert best <= first if head == "rating" else best >= first
    assert 0 < best < 2
    assert make_config(finished[0].settings) != Config()


def test_the_best_settings_are_a_settings_file(engine: Engine, tmp_path: Path) -> None:
    load(engine, make_ratings())
    report = search(engine)
    path = tmp_path / "mf.toml"
    path.write_text(report.best_toml())

    best = report.finished[0].settings["rating_head.als.regularization"]

    assert load_config(path).rating_head.als.regularization == best


@pytest.mark.parametrize(("protocol", "searched"), [("temporal", True), ("hash", False)])
def test_only_late_rows_tell_whether_old_ratings_say_less(
    engine: Engine, protocol: str, searched: bool
) -> None:
    load(engine, make_ratings())
    config = make_config({"split.protocol": protocol}, CONFIG)
    report = search(engine, "ranking", config=config)

    of_trials = [trial.settings.get("data.half_life_days") for trial in report.trials]
    assert [days is not None for days in of_trials] == [searched] * 3
    # As shipped nothing fades, which a study knows as a hundred years.
    [first] = [trial for trial in report.trials if trial.number == 0]
    assert first.settings.get("data.half_life_days") == (36_500 if searched else None)


def strange_test_side() -> pd.DataFrame:
    """Return ratings far outside the scale that the split puts on the test side."""
    users = [f"x{n}" for n in range(200)]
    held_out = [user for user in users if split_bucket(user, "strange", 0) < 3000]

    return pd.DataFrame(
        {
            "user_id": held_out,
            "item_id": "strange",
            "rating": -1e6,
            "rated_at": None,
        }
    )


def test_test_rows_do_not_matter(engine: Engine) -> None:
    heads: tuple[tune.Head, ...] = ("rating", "ranking")
    ratings = make_ratings()
    load(engine, ratings)
    before = [search(engine, head, study=f"{head} before") for head in heads]

    spoil = """
        UPDATE mf.ratings
        SET rating = 1e6
        WHERE mf.split_bucket(user_id, item_id, 0) < 3000
    """
    remove = """
        DELETE FROM mf.ratings
        WHERE mf.split_bucket(user_id, item_id, 0) BETWEEN 1000 AND 2000
    """

    with transaction(engine) as connection:
        connection.execute(sa.text(spoil))
        connection.execute(sa.text(remove))
    load(engine, strange_test_side())

    pairs = zip(ratings["user_id"], ratings["item_id"], strict=True)
    n_train = sum(split_bucket(user_id, item_id, 0) >= 3000 for user_id, item_id in pairs)
    task = task_of(engine)

    assert len(task.fitted) + len(task.validation) == n_train
    assert "strange" not in task.rows.items.ids

    after = [search(engine, head, study=f"{head} after") for head in heads]
    assert [values(report) for report in after] == [values(report) for report in before]


def test_the_rating_head_is_tuned_with_the_attributes_that_it_is_trained_with(
    engine: Engine,
) -> None:
    load(engine, make_ratings())
    of_rated = """
        INSERT INTO mf.items (item_id, attributes)
        SELECT item_id, jsonb_build_object('age', item_id < 'i020')
        FROM mf.ratings
        GROUP BY 1
    """
    of_unrated = """
        INSERT INTO mf.items (item_id, attributes)
        VALUES ('unrated', '{"age": true}')
    """

    with transaction(engine) as connection:
        connection.execute(sa.text(of_rated))
        connection.execute(sa.text(of_unrated))

    config = make_config(
        {
            "rating_head.solver": "bayes",
            "rating_head.bayes.sweeps": 8,
            "rating_head.bayes.burn_in": 2,
            "rating_head.bayes.n_factors": 4,
            "rating_head.bayes.side_information": True,
        },
        CONFIG,
    )
    task = task_of(engine, config=config)

    assert task.attributes is not None
    assert task.attributes.item.shape == (len(task.rows.items), 2)
    assert "unrated" not in task.rows.items.ids

    plain = make_config({"rating_head.bayes.side_information": False}, config)
    with_them = search(engine, trials=1, config=config)
    without = search(engine, trials=1, study="n", config=plain)

    assert with_them.finished[0].value != without.finished[0].value


def test_a_study_goes_on_under_its_name(engine: Engine) -> None:
    load(engine, make_ratings())
    first = search(engine, trials=2)
    again = search(engine, trials=2)

    assert len(again.trials) == 4

    begun = {number: value for number, value in values(again).items() if number < 2}
    assert begun == values(first)
    assert values(tune.show(engine, "s")) == values(again)

    whole = search(engine, trials=4, study="in one go")
    assert values(whole) == values(again)
    assert len(set(tried(again))) == 4

    counts = {row["study"]: row["trials"] for row in tune.studies(engine)}
    assert counts == {"s": 4, "in one go": 4}


def test_a_study_of_other_rows_or_settings_is_not_gone_on_with(engine: Engine) -> None:
    ratings = make_ratings()
    load(engine, ratings[::2])
    search(engine, trials=1)

    other_scale = make_config({"data.scale_high": 6}, CONFIG)
    said = "begun on other training rows or with other fixed settings"

    with pytest.raises(ConfigError, match=said):
        search(engine, trials=1, config=other_scale)

    # What is searched may have other values now.
    other_rank = make_config({"rating_head.als.n_factors": 7}, CONFIG)
    report = search(engine, trials=1, config=other_rank)

    assert len(report.trials) == 2

    before = task_of(engine).default_study()
    load(engine, ratings[1::2])
    after = task_of(engine).default_study()

    assert after != before

    with pytest.raises(ConfigError, match="Name another one with --study"):
        search(engine, trials=1)


_SEARCH = """
    import sys
    from mf_core import tune
    from mf_core.warehouse import database_engine
    from tests.db import test_tune

    def say(line):
        print(line, flush=True)

    url, trials, settings = sys.argv[1:]
    engine = database_engine(url)
    config = getattr(test_tune, settings)
    task = tune.make_task(config, "rating", tune.read_warehouse(config, engine))
    report = tune.tune(
        task, engine, "s", 300, say, max_trials=int(trials), heartbeat_seconds=1
    )
    print(len(report.trials))
"""


def searching(url: str, trials: int, config: str = "CONFIG") -> "subprocess.Popen[str]":
    """Start a search in a process of its own."""
    script = textwrap.dedent(_SEARCH)
    return subprocess.Popen(
        [sys.executable, "-c", script, url, str(trials), config],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env=dict(os.environ),
    )


def test_two_searches_at_once_work_on_one_study(engine: Engine, warehouse_url: str) -> None:
    load(engine, make_ratings())
    processes = [searching(warehouse_url, 4) for _ in range(2)]

    for process in processes:
        process.communicate(timeout=300)
        assert process.returncode == 0

    report = tune.show(engine, "s")

    assert sorted(values(report)) == list(range(8))
    assert len(set(tried(report))) == 8

    # The settings that a study begins with are tried once, not by each search.
    as_begun = [
        trial
        for trial in report.trials
        if trial.settings["rating_head.als.regularization"] == AlsConfig().regularization
    ]
    assert len(as_begun) == 1


def test_a_killed_trial_is_run_again_once(engine: Engine, warehouse_url: str) -> None:
    load(engine, make_ratings())
    process = searching(warehouse_url, 100, "SLOW")

    assert process.stdout is not None

    process.stdout.readline()

    # The second trial runs, and all of its settings are stored.
    alive = """
        SELECT trial_id
        FROM mf_tune.trials
        JOIN mf_tune.trial_heartbeats USING (trial_id)
        JOIN mf_tune.trial_params USING (trial_id)
        WHERE state = 'RUNNING' AND number = 1
        GROUP BY 1
        HAVING count(*) = 3
    """

    while not rows(engine, alive):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()

    let_it_be_old = """
        UPDATE mf_tune.trial_heartbeats
        SET heartbeat = heartbeat - interval '1 hour'
    """

    with transaction(engine) as connection:
        connection.execute(sa.text(let_it_be_old))

    report = search(engine, trials=1, config=SLOW)
    trials = {trial.number: trial for trial in report.trials}

    assert trials[1].state == "fail"
    assert trials[2].settings == trials[1].settings
    assert trials[2].state in ("complete", "pruned")


def test_when_the_time_is_up_the_first_trial_is_finished_and_others_are_broken_off(
    engine: Engine,
) -> None:
    load(engine, make_ratings())
    task = task_of(engine, config=SLOW)
    report = tune.tune(task, engine, "s", 0.2, quiet)
    states = {trial.number: trial.state for trial in report.trials}

    assert states == {0: "complete"}

    report = tune.tune(task, engine, "s", 0.2, quiet)
    states = {trial.number: trial.state for trial in report.trials}

    assert states == {0: "complete", 1: "fail", 2: "waiting"}

    report = tune.tune(task, engine, "s", 300, quiet, max_trials=1)
    trials = {trial.number: trial for trial in report.trials}

    assert trials[2].settings == trials[1].settings
    assert trials[2].state in ("complete", "pruned")


def test_what_does_badly_is_stopped_early(engine: Engine) -> None:
    load(engine, make_ratings())
    report = search(engine, trials=12)
    stopped = [trial for trial in report.trials if trial.state == "pruned"]

    assert stopped

    for trial in stopped:
        assert trial.iterations in (2, 6)
        assert trial.value is not None


def best_numbers(report: tune.TuneReport, n: int) -> list[int]:
    """Return the numbers of the `n` best trials with settings of their own, but for the first."""
    numbers: dict[tuple[Any, ...], int] = {}
    for trial in reversed(report.finished):
        if trial.number:
            numbers[tuple(trial.settings.values())] = trial.number

    best_first = list(numbers.values())[::-1]

    return best_first[:n]


@pytest.mark.parametrize("head", ["rating", "ranking"])
def test_the_best_are_compared_on_other_parts(engine: Engine, head: tune.Head) -> None:
    load(engine, make_ratings())
    searched = search(engine, head, trials=8)

    assert searched.compared == []
    assert searched.best == searched.finished[0]

    report = search(engine, head, trials=0, parts=2)
    assert values(report) == values(searched)

    # Compared are the settings that the search began with and the five best others.
    expected = {0, *best_numbers(searched, 5)}
    assert {trial.number for trial in report.compared} == expected

    for trial in report.compared:
        assert len({trial.value, *trial.again}) == 3

    means = [np.mean(trial.again) for trial in report.compared]

    assert means == sorted(means, reverse=head == "ranking")
    assert report.best == report.compared[0]

    as_begun = [trial for trial in report.compared if trial.as_begun]
    assert as_begun
    assert all(report.gain(trial) == (0.0, 0.0) for trial in as_begun)

    # What is there is not fitted again, and another part is added to it.
    lines: list[str] = []
    task = task_of(engine, head)
    more = tune.tune(task, engine, "s", 300, lines.append, max_trials=0, parts=3)
    kept = sorted(trial.again[:2] for trial in more.compared)

    assert kept == sorted(trial.again for trial in report.compared)
    assert len(lines) == len(expected)
    assert tune.show(engine, "s") == more


def finished_trial(
    number: int, value: float, again: tuple[float, ...], as_begun: bool = False
) -> tune.TrialReport:
    """Return a trial that was compared on other parts."""
    return tune.TrialReport(
        number=number,
        state="complete",
        value=value,
        iterations=9,
        seconds=1.0,
        settings={},
        as_begun=as_begun,
        again=again,
    )


def test_a_gain_is_the_mean_of_the_differences_with_its_standard_error() -> None:
    begun = finished_trial(0, 0.9, (0.91, 0.88, 0.92), as_begun=True)
    better = finished_trial(4, 0.8, (0.90, 0.86, 0.89))
    report = tune.TuneReport("s", "RMSE", [better, begun], lower_is_better=True)
    standard_error = 0.01 / 3**0.5

    assert report.compared == [better, begun]
    assert report.gain(better) == pytest.approx((0.02, standard_error))

    ndcg = dataclasses.replace(report, lower_is_better=False)
    assert ndcg.best == begun
    assert ndcg.gain(better) == pytest.approx((-0.02, standard_error))

    # One part tells nothing of the error.
    once = dataclasses.replace(begun, again=begun.again[:1])
    _, error = tune.TuneReport("s", "RMSE", [once], lower_is_better=True).gain(once)

    assert np.isnan(error)


def test_a_comparison_without_time_leaves_the_search_s_word_and_is_gone_on_with(
    engine: Engine,
) -> None:
    load(engine, make_ratings())
    searched = search(engine, trials=3)
    lines: list[str] = []
    task = task_of(engine)
    report = tune.tune(task, engine, "s", 1e-6, lines.append, max_trials=0, parts=1)

    assert report.compared == []
    assert report.best == searched.best
    assert lines == ["the time is up; start it again to have the best trials compared on all parts"]

    report = search(engine, trials=0, parts=1)
    assert report.compared


def test_the_same_settings_are_not_fitted_twice_and_a_search_without_others_ends(
    engine: Engine,
) -> None:
    load(engine, make_ratings())
    number = "rating_head.als.n_factors"
    space = {number: IntDistribution(4, 6)}
    lines: list[str] = []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune.Task, "space", space)
        report = tune.tune(task_of(engine), engine, "s", 300, lines.append)

    not_failed = [trial for trial in report.trials if trial.state != "fail"]
    told = [line for line in lines if line.startswith("trial")]

    assert sorted(trial.settings[number] for trial in not_failed) == [4, 5, 6]
    assert lines[-1] == "nothing new is proposed any more"
    assert len(told) == 3


def test_settings_that_fail_every_time_end_the_search(engine: Engine) -> None:
    load(engine, make_ratings())
    on_a_gpu = make_config({"train.device": "gpu"}, CONFIG)
    task = task_of(engine, config=on_a_gpu)

    with pytest.raises(TrainingError, match="TensorFlow sees no GPU"):
        tune.tune(task, engine, "s", 60, quiet)


def test_too_few_ratings_and_nothing_to_tune_are_refused(engine: Engine) -> None:
    load(engine, make_ratings())
    enough = tune.read_warehouse(CONFIG, engine)
    three = enough.ratings.take(np.arange(3))
    few = dataclasses.replace(enough, ratings=three)

    with pytest.raises(QualityError, match="too few to set a validation part aside"):
        tune.make_task(CONFIG, "rating", few)

    preset = make_config(
        {
            "rating_head.solver": "gradient",
            "rating_head.gradient.preset": "seed",
        }
    )

    with pytest.raises(ConfigError, match="the 2016 post's model"):
        tune.search_space(preset, "rating")


def test_optunas_tables_stay_out_of_ours(engine: Engine, warehouse_url: str) -> None:
    load(engine, make_ratings())
    search(engine, trials=1)
    ours = rows(engine, "SELECT version_num FROM mf.alembic_version")
    optunas = rows(engine, "SELECT version_num FROM mf_tune.alembic_version")

    assert ours != optunas

    in_public = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert rows(engine, in_public) == []

    with transaction(engine) as connection:
        command.downgrade(alembic_config(connection), "0004")
    with pytest.raises(ConfigError, match="mf db migrate"):
        tune.studies(engine)

    migrate(warehouse_url)

    assert tune.studies(engine) == []


def test_the_command_searches_a_file_shows_and_goes_on(warehouse_url: str, tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    make_ratings().drop(columns="rated_at").to_csv(path, index=False)
    settings = [f"--set={name}={value}" for name, value in SMALL.items()]
    mine = ["tune", "--train", str(path), "--study", "mine", *settings]

    mf = Mf(MF_DATABASE_URL=warehouse_url)
    printed = mf(*mine, "--trials", "2", "--parts", "2")
    title = r"^again, mean of 2 other parts:\n\ntrial +RMSE +gain over trial 0 +\+-\n"

    assert re.search(title, printed, re.M)
    assert re.search(r"^0 +0\.\d{4} +0\.0000 +0\.0000$", printed, re.M)
    assert "[rating_head.als]" in printed
    assert tomllib.loads(printed[printed.index("[rating_head") :])
    assert "trial 0 (n_factors 4" in mf.errors

    gone_on = mf.json(*mine, "--trials", "1", "--parts", "0")
    shown = mf.json("tune", "--show", "--study", "mine")
    listed = mf.json("tune", "--show")

    assert len(gone_on["trials"]) == 3
    assert shown["metric"] == "RMSE"
    assert [row["trials"] for row in listed] == [3]

    mf("tune", "--show", "--study", "none", code=2)
    assert "there is no study 'none'" in mf.errors

    mf("tune", "--trials", "1", *settings, code=4)
    assert "mf.ratings is empty" in mf.errors


def test_studies_leave_no_embedded_server_behind(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    make_ratings().drop(columns="rated_at").to_csv(path, index=False)
    settings = [f"--set={name}={value}" for name, value in SMALL.items()]
    mf = Mf()
    mf.environ = without_warehouse(tmp_path / "home")
    running = tmp_path / "home" / "pgdata" / "postmaster.pid"
    mf("tune", "--train", str(path), "--study", "mine", "--trials", "1", "--parts", "0", *settings)
    assert not running.exists()
    for arguments in (("prune",), ("prune", "--dry-run"), ("tune", "--show")):
        mf(*arguments)
        assert not running.exists(), arguments


def test_studies_that_somebody_has_locked_are_an_error_of_the_database(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(engine, make_ratings())
    search(engine, trials=1)
    monkeypatch.setattr(storage, "LOCK_TIMEOUT", timedelta(milliseconds=300))
    with transaction(engine) as other:
        other.execute(sa.text("LOCK TABLE mf_tune.trials IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(DatabaseError, match="lock"):
            storage.forget(engine, timedelta(0))
    assert len(storage.forget(engine, timedelta(0))) == 1
