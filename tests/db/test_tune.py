"""`mf tune`: real fits, real studies, on a real Postgres."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from alembic import command
from optuna.distributions import IntDistribution
from sqlalchemy.engine import Engine

from mf_core import tune
from mf_core.config import Config, load_config, make_config
from mf_core.data.split import split_bucket
from mf_core.errors import ConfigError, QualityError, TrainingError
from mf_core.warehouse import transaction
from mf_core.warehouse.bootstrap import alembic_config, migrate

from .test_cli import Mf
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
    return tune.make_task(config, head, tune.read_warehouse(config, engine))


def search(
    engine: Engine,
    head: tune.Head = "rating",
    trials: int = 3,
    study: str = "s",
    config: Config = CONFIG,
    parts: int = 0,
) -> tune.TuneReport:
    return tune.tune(task_of(engine, head, config), engine, study, 300, quiet, trials, parts)


def values(report: tune.TuneReport) -> dict[int, float | None]:
    return {trial.number: trial.value for trial in report.trials}


@pytest.mark.parametrize("head", ["rating", "ranking"])
def test_a_search_ends_no_worse_than_it_began(engine: Engine, head: tune.Head) -> None:
    load(engine, make_ratings())
    report = search(engine, head, trials=6)

    assert [
        trial.number for trial in sorted(report.trials, key=lambda trial: trial.number)
    ] == list(range(6))

    finished = report.finished
    (begun,) = [trial for trial in finished if trial.number == 0]

    assert begun.settings[
        f"{head}_head.als.n_factors" if head == "rating" else "ranking_head.n_factors"
    ] in (4, 8)

    best = finished[0].value
    first = begun.value

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

    assert (
        load_config(path).rating_head.als.regularization
        == report.finished[0].settings["rating_head.als.regularization"]
    )


def test_test_rows_do_not_matter(engine: Engine) -> None:
    ratings = make_ratings()
    is_test = np.array(
        [split_bucket(row.user_id, row.item_id, 0) < 3000 for row in ratings.itertuples()]
    )
    load(engine, ratings)
    before = [search(engine, head, study=f"{head} before") for head in ("rating", "ranking")]

    with transaction(engine) as connection:
        connection.execute(
            sa.text(
                "UPDATE mf.ratings SET rating = 1e6 WHERE mf.split_bucket(user_id, item_id, 0) < 3000"
            )
        )
        connection.execute(
            sa.text(
                "DELETE FROM mf.ratings WHERE mf.split_bucket(user_id, item_id, 0) BETWEEN 1000 AND 2000"
            )
        )

    strange = pd.DataFrame(
        {
            "user_id": [f"x{n}" for n in range(200)],
            "item_id": "strange",
            "rating": -1e6,
            "rated_at": None,
        }
    )
    load(engine, strange[[split_bucket(user, "strange", 0) < 3000 for user in strange["user_id"]]])
    task = task_of(engine)

    assert len(task.fitted) + len(task.validation) == (~is_test).sum()
    assert "strange" not in task.rows.items.ids

    after = [search(engine, head, study=f"{head} after") for head in ("rating", "ranking")]
    assert [values(report) for report in after] == [values(report) for report in before]


def test_the_rating_head_is_tuned_with_the_attributes_that_it_is_trained_with(
    engine: Engine,
) -> None:
    load(engine, make_ratings())

    with transaction(engine) as connection:
        connection.execute(
            sa.text(
                "INSERT INTO mf.items (item_id, attributes) SELECT item_id, jsonb_build_object('age', item_id < 'i020') FROM mf.ratings GROUP BY 1"
            )
        )
        connection.execute(
            sa.text(
                "INSERT INTO mf.items (item_id, attributes) VALUES ('unrated', '{\"age\": true}')"
            )
        )

    settings = {
        "rating_head.solver": "bayes",
        "rating_head.bayes.sweeps": 8,
        "rating_head.bayes.burn_in": 2,
    }
    config = make_config(
        {**settings, "rating_head.bayes.n_factors": 4, "rating_head.bayes.side_information": True},
        CONFIG,
    )
    task = task_of(engine, config=config)

    assert task.attributes is not None
    assert task.attributes.item.shape == (len(task.rows.items), 2)
    assert "unrated" not in task.rows.items.ids

    with_them = search(engine, trials=1, config=config)
    without = search(
        engine,
        trials=1,
        study="n",
        config=make_config({"rating_head.bayes.side_information": False}, config),
    )

    assert with_them.finished[0].value != without.finished[0].value


def test_a_study_goes_on_under_its_name(engine: Engine) -> None:
    load(engine, make_ratings())
    first = search(engine, trials=2)
    again = search(engine, trials=2)

    assert len(again.trials) == 4
    assert {n: v for n, v in values(again).items() if n < 2} == values(first)
    assert values(tune.show(engine, "s")) == values(again)

    whole = search(engine, trials=4, study="in one go")
    assert values(whole) == values(again)

    tried = [tuple(trial.settings.values()) for trial in again.trials]
    assert len(set(tried)) == 4
    assert {row["study"]: row["trials"] for row in tune.studies(engine)} == {"s": 4, "in one go": 4}


def test_a_study_of_other_rows_or_settings_is_not_gone_on_with(engine: Engine) -> None:
    load(engine, make_ratings()[::2])
    search(engine, trials=1)

    with pytest.raises(
        ConfigError, match="begun on other training rows or with other fixed settings"
    ):
        search(engine, trials=1, config=make_config({"data.scale_high": 6}, CONFIG))

    # What is searched may have other values now.
    assert (
        len(
            search(
                engine, trials=1, config=make_config({"rating_head.als.n_factors": 7}, CONFIG)
            ).trials
        )
        == 2
    )

    before = task_of(engine).default_study()
    load(engine, make_ratings()[1::2])

    assert task_of(engine).default_study() != before

    with pytest.raises(ConfigError, match="Name another one with --study"):
        search(engine, trials=1)


_SEARCH = """
    import sys
    from mf_core import tune
    from mf_core.config import make_config
    from mf_core.warehouse import database_engine
    from tests.db import test_tune
    engine, config = database_engine(sys.argv[1]), getattr(test_tune, sys.argv[3])
    task = tune.make_task(config, "rating", tune.read_warehouse(config, engine))
    say = lambda line: print(line, flush=True)
    print(len(tune.tune(task, engine, "s", 300, say, max_trials=int(sys.argv[2]), heartbeat_seconds=1).trials))
"""


def searching(url: str, trials: int, config: str = "CONFIG") -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", textwrap.dedent(_SEARCH), url, str(trials), config]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env=dict(os.environ),
    )


def test_two_searches_at_once_work_on_one_study(engine: Engine, warehouse_url: str) -> None:
    load(engine, make_ratings())
    for process in [searching(warehouse_url, 4) for _ in range(2)]:
        process.communicate(timeout=300)
        assert process.returncode == 0

    report = tune.show(engine, "s")
    assert sorted(values(report)) == list(range(8))
    assert len({tuple(trial.settings.values()) for trial in report.trials}) == 8
    assert (
        sum(trial.settings["rating_head.als.regularization"] == 0.09 for trial in report.trials)
        == 1
    )


def test_a_killed_trial_is_run_again_once(engine: Engine, warehouse_url: str) -> None:
    load(engine, make_ratings())
    process = searching(warehouse_url, 100, "SLOW")

    assert process.stdout is not None

    process.stdout.readline()
    alive = """SELECT trial_id FROM mf_tune.trials JOIN mf_tune.trial_heartbeats USING (trial_id) JOIN mf_tune.trial_params USING (trial_id)
               WHERE state = 'RUNNING' AND number = 1 GROUP BY 1 HAVING count(*) = 3"""

    while not rows(engine, alive):
        assert process.poll() is None

    process.send_signal(signal.SIGKILL)
    process.communicate()

    with transaction(engine) as connection:
        connection.execute(
            sa.text("UPDATE mf_tune.trial_heartbeats SET heartbeat = heartbeat - interval '1 hour'")
        )

    trials = {trial.number: trial for trial in search(engine, trials=1, config=SLOW).trials}
    assert trials[1].state == "fail"
    assert trials[2].settings == trials[1].settings
    assert trials[2].state in ("complete", "pruned")


def test_when_the_time_is_up_the_first_trial_is_finished_and_others_are_broken_off(
    engine: Engine,
) -> None:
    load(engine, make_ratings())
    task = task_of(engine, config=SLOW)
    report = tune.tune(task, engine, "s", 0.2, quiet)

    assert [(trial.number, trial.state) for trial in report.trials] == [(0, "complete")]

    report = tune.tune(task, engine, "s", 0.2, quiet)
    assert {trial.number: trial.state for trial in report.trials} == {
        0: "complete",
        1: "fail",
        2: "waiting",
    }

    trials = {
        trial.number: trial
        for trial in tune.tune(task, engine, "s", 300, quiet, max_trials=1).trials
    }

    assert trials[2].settings == trials[1].settings
    assert trials[2].state in ("complete", "pruned") is True


def test_what_does_badly_is_stopped_early(engine: Engine) -> None:
    load(engine, make_ratings())
    report = search(engine, trials=12)
    stopped = [trial for trial in report.trials if trial.state == "pruned"]

    assert stopped
    assert all(trial.iterations in (2, 6) and trial.value is not None for trial in stopped)


@pytest.mark.parametrize("head", ["rating", "ranking"])
def test_the_best_are_compared_on_other_parts(engine: Engine, head: tune.Head) -> None:
    load(engine, make_ratings())
    searched = search(engine, head, trials=8)

    assert searched.compared == []
    assert searched.best == searched.finished[0]

    report = tune.tune(task_of(engine, head), engine, "s", 300, quiet, 0, parts=2)
    assert values(report) == values(searched)

    others = {
        tuple(trial.settings.values()): trial.number
        for trial in searched.finished[::-1]
        if trial.number
    }
    expected = {0, *list(others.values())[::-1][:5]}

    assert {trial.number for trial in report.compared} == expected
    assert all(len({trial.value, *trial.again}) == 3 for trial in report.compared)

    means = [np.mean(trial.again) for trial in report.compared]
    assert means == sorted(means, reverse=head == "ranking")
    assert report.best == report.compared[0]
    assert {report.gain(trial) == (0.0, 0.0) for trial in report.compared if trial.as_begun} == {
        True
    }

    # What is there is not fitted again, and another part is added to it.
    lines: list[str] = []
    more = tune.tune(task_of(engine, head), engine, "s", 300, lines.append, 0, parts=3)

    assert sorted(trial.again[:2] for trial in more.compared) == sorted(
        trial.again for trial in report.compared
    )
    assert len(lines) == len(expected)
    assert tune.show(engine, "s") == more


def test_a_gain_is_the_mean_of_the_differences_with_its_standard_error() -> None:
    begun = tune.TrialReport(
        0, "complete", 0.9, 9, 1.0, {}, as_begun=True, again=(0.91, 0.88, 0.92)
    )
    better = tune.TrialReport(4, "complete", 0.8, 9, 1.0, {}, again=(0.90, 0.86, 0.89))
    report = tune.TuneReport("s", "RMSE", [better, begun], lower_is_better=True)

    assert report.compared == [better, begun]
    assert report.gain(better) == pytest.approx((0.02, 0.01 / 3**0.5))

    ndcg = dataclasses.replace(report, lower_is_better=False)
    assert ndcg.best == begun
    assert ndcg.gain(better) == pytest.approx((-0.02, 0.01 / 3**0.5))

    (one, _) = (dataclasses.replace(trial, again=trial.again[:1]) for trial in (begun, better))
    assert np.isnan(tune.TuneReport("s", "RMSE", [one], lower_is_better=True).gain(one)[1])


def test_a_comparison_without_time_leaves_the_search_s_word_and_is_gone_on_with(
    engine: Engine,
) -> None:
    load(engine, make_ratings())
    searched = search(engine, trials=3)
    lines: list[str] = []
    report = tune.tune(task_of(engine), engine, "s", 1e-6, lines.append, 0, parts=1)

    assert report.compared == []
    assert report.best == searched.best
    assert lines == ["the time is up; start it again to have the best trials compared on all parts"]
    assert tune.tune(task_of(engine), engine, "s", 300, quiet, 0, parts=1).compared


def test_the_same_settings_are_not_fitted_twice_and_a_search_without_others_ends(
    engine: Engine,
) -> None:
    load(engine, make_ratings())
    number = "rating_head.als.n_factors"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune.Task, "space", {number: IntDistribution(4, 6)})
        lines: list[str] = []
        report = tune.tune(task_of(engine), engine, "s", 300, lines.append)

    assert sorted(trial.settings[number] for trial in report.trials if trial.state != "fail") == [
        4,
        5,
        6,
    ]
    assert lines[-1] == "nothing new is proposed any more"
    assert sum(line.startswith("trial") for line in lines) == 3


def test_settings_that_fail_every_time_end_the_search(engine: Engine) -> None:
    load(engine, make_ratings())
    task = task_of(engine, config=make_config({"train.device": "gpu"}, CONFIG))

    with pytest.raises(TrainingError, match="TensorFlow sees no GPU"):
        tune.tune(task, engine, "s", 60, quiet)


def test_too_few_ratings_and_nothing_to_tune_are_refused(engine: Engine) -> None:
    load(engine, make_ratings())
    rows = tune.read_warehouse(CONFIG, engine)
    few = dataclasses.replace(rows, ratings=rows.ratings.take(np.arange(3)))

    with pytest.raises(QualityError, match="too few to set a validation part aside"):
        tune.make_task(CONFIG, "rating", few)

    preset = make_config({"rating_head.solver": "gradient", "rating_head.gradient.preset": "seed"})
    with pytest.raises(ConfigError, match="the 2016 post's model"):
        tune.search_space(preset, "rating")


def test_optunas_tables_stay_out_of_ours(engine: Engine, warehouse_url: str) -> None:
    load(engine, make_ratings())
    search(engine, trials=1)

    assert rows(engine, "SELECT version_num FROM mf.alembic_version") != rows(
        engine, "SELECT version_num FROM mf_tune.alembic_version"
    )
    assert (
        rows(engine, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        == []
    )

    with transaction(engine) as connection:
        command.downgrade(alembic_config(connection), "0004")

    with pytest.raises(ConfigError, match="mf db migrate"):
        tune.studies(engine)

    migrate(warehouse_url)
    assert tune.studies(engine) == []


def test_the_command_searches_a_file_shows_and_goes_on(warehouse_url: str, tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    make_ratings().drop(columns="rated_at").to_csv(path, index=False)
    mf = Mf(MF_DATABASE_URL=warehouse_url)
    settings = [f"--set={name}={value}" for name, value in SMALL.items()]
    printed = mf(
        "tune", "--train", str(path), "--trials", "2", "--parts", "2", "--study", "mine", *settings
    )

    assert re.search(
        r"^again, mean of 2 other parts:\n\ntrial +RMSE +gain over trial 0 +\+-\n", printed, re.M
    )
    assert re.search(r"^0 +0\.\d{4} +0\.0000 +0\.0000$", printed, re.M)
    assert "[rating_head.als]" in printed
    assert tomllib.loads(printed[printed.index("[rating_head") :])
    assert "trial 0 (n_factors 4" in mf.errors
    assert (
        len(
            mf.json(
                "tune",
                "--train",
                str(path),
                "--trials",
                "1",
                "--parts",
                "0",
                "--study",
                "mine",
                *settings,
            )["trials"]
        )
        == 3
    )
    assert mf.json("tune", "--show", "--study", "mine")["metric"] == "RMSE"
    assert [row["trials"] for row in mf.json("tune", "--show")] == [3]

    mf("tune", "--show", "--study", "none", code=2)
    assert "there is no study 'none'" in mf.errors

    mf("tune", "--trials", "1", *settings, code=4)
    assert "mf.ratings is empty" in mf.errors
